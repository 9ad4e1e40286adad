"""Is the library well, and how much is in it: for probes (`/healthz`) and for Prometheus (`/metrics`). Counts
alone: neither names, ids, words nor paths of anybody's."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from sqlalchemy import func, select, text
from sqlalchemy.exc import SQLAlchemyError

from ..errors import UserError
from .catalogue import AuditRow, CaseRow, InstanceRow, ReportRow, ResultRow

if TYPE_CHECKING:
    from .library import Library

METRICS_TYPE = CONTENT_TYPE_LATEST
LEAST_FREE = 1024**3  # bytes of disk under which a node or an ingest is soon stuck


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that must hold, and why it does not ("" where it does)."""

    name: str
    why: str = ""

    @property
    def ok(self) -> bool:
        """Whether it holds."""
        return not self.why


def health_of(library: Library) -> tuple[Check, ...]:
    """database, home and disk of a library, each looked at now."""
    return (
        Check(name="database", why=_database(library)),
        Check(name="home", why="" if os.access(_there(library.home), os.W_OK) else "cannot be written"),
        Check(name="disk", why="" if _free(library.home) >= LEAST_FREE else "less than 1 GiB is free"),
    )


def healthz(library: Library) -> tuple[int, str]:
    """HTTP status (200 or 503) and one line a check."""
    checks = health_of(library)
    lines = [f"{c.name}: {c.why or 'ok'}" for c in checks]
    return (200 if all(c.ok for c in checks) else 503), "\n".join(lines) + "\n"


def metrics(library: Library) -> bytes:
    """The counts in Prometheus' text format. A database that does not answer is medfuse_healthy 0."""
    registry = CollectorRegistry()
    checks = health_of(library)
    Gauge("medfuse_healthy", "1 where every check of /healthz holds.", registry=registry).set(
        all(c.ok for c in checks)
    )
    Gauge("medfuse_disk_free_bytes", "Free space under MEDFUSE_HOME.", registry=registry).set(
        _free(library.home)
    )
    quarantine = library.home / "quarantine"
    Gauge("medfuse_quarantined_files", "Files set aside, damaged or in conflict.", registry=registry).set(
        sum(1 for _ in quarantine.iterdir()) if quarantine.is_dir() else 0
    )
    if checks[0].ok and library.exists:
        _count(library, registry)
    return generate_latest(registry)


def _count(library: Library, registry: CollectorRegistry) -> None:
    """Rows of the database, each kind by one query."""
    newest = select(func.max(ReportRow.id)).group_by(ReportRow.case_id)
    plain = (
        ("medfuse_cases", "Cases in the library.", select(func.count()).select_from(CaseRow)),
        (
            "medfuse_cases_predicted",
            "Cases with a prediction.",
            select(func.count(ResultRow.case_id.distinct())),
        ),
        ("medfuse_instances", "DICOM objects received.", select(func.count()).select_from(InstanceRow)),
        (
            "medfuse_instances_waiting",
            "Received objects that are in no case yet.",
            select(func.count()).select_from(InstanceRow).where(InstanceRow.filed.is_(False)),
        ),
        ("medfuse_audit_entries", "Entries of the audit log.", select(func.count()).select_from(AuditRow)),
    )
    with library.session() as s:
        for name, what, query in plain:
            Gauge(name, what, registry=registry).set(s.scalar(query) or 0)
        states = Gauge("medfuse_reports", "Cases by the state of their report.", ["state"], registry=registry)
        rows: Iterable = s.execute(
            select(ReportRow.state, func.count()).where(ReportRow.id.in_(newest)).group_by(ReportRow.state)
        )
        for state, n in rows:
            states.labels(state=state).set(n)


def _database(library: Library) -> str:
    """Why it does not answer; nothing of what the driver says, which may hold values."""
    if not library.exists:
        return ""  # none yet: nothing has come
    return _fault(lambda: _asked(library))


def _asked(library: Library) -> None:
    with library.engine.connect() as c:
        c.execute(text("SELECT 1 FROM cases LIMIT 1"))


def _fault(work: Callable[[], None]) -> str:
    try:
        work()
    except (SQLAlchemyError, UserError, OSError) as e:
        return f"does not answer ({type(e).__name__})"
    return ""


def _there(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder


def _free(folder: Path) -> int:
    return shutil.disk_usage(_there(folder)).free
