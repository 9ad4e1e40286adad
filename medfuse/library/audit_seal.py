"""A library from before its log had a key: what it held then is vouched for from the migration on, and the
log of that time, which had none, is kept as it was found."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError
from sqlalchemy import select, update
from sqlalchemy.engine import Engine

from ..io.names import log_name
from . import audit_key
from .accounts import said_of_accounts
from .audit import Head, anchor_head, enter, write
from .audit_rows import TOUCHED, AuditedSession, Said, rows_of, said_of
from .catalogue import AuditHeadRow, AuditRow, ReportRow
from .signatures import SIGNED, signature_of

if TYPE_CHECKING:
    from .library import Library

SEALED = "sealed at migration"
START = "0" * 64  # what the first line of an old log follows
ROWS = 1000  # that one entry vouches for
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class OldLog:
    """HOME/audit.log of an older medfuse: its lines, the hash of the file, and up to which line its own
    chain of hashes holds."""

    lines: int
    sha256: str
    unbroken: int

    @property
    def verdict(self) -> str:
        """What can be said of it, in words."""
        if self.unbroken == self.lines:
            return "its chain is unbroken, but had no key: who changed it could have mended the chain"
        return f"its chain is broken at line {self.unbroken + 1}"


def old_log_path(library: Library) -> Path:
    """The file of the log without a key, whether or not it is there."""
    return library.home / "audit.log"


def read_old_log(library: Library) -> OldLog | None:
    """The log without a key, as it lies there; None where there is none."""
    path = old_log_path(library)
    if not path.exists():
        return None
    data = path.read_bytes()
    lines = data.decode("utf-8", "replace").splitlines()
    before = START
    unbroken = 0
    for line in lines:
        digest, _, text = line.partition(" ")
        if hashlib.sha256(text.encode()).hexdigest() != digest or json.loads(text).get("before") != before:
            break
        before = digest
        unbroken += 1
    return OldLog(lines=len(lines), sha256=hashlib.sha256(data).hexdigest(), unbroken=unbroken)


def seal_what_was(library: Library, engine: Engine) -> None:
    """Vouch, once, for everything that a library held before its log had a key. Nothing happens where there
    was a key or an anchor: such a log was lost, and `audit_check` names it."""
    if audit_key.read_key(library) is not None or (library.home / "anchors").exists():
        return
    with AuditedSession(engine, expire_on_commit=False) as s, s.begin():
        s.execute(update(AuditHeadRow).values(seq=AuditHeadRow.seq))  # other openers wait here
        if s.scalars(select(AuditHeadRow.seq)).one() != 0:
            return
        head = _seal(library, s)
    anchor_head(library, head)


def _seal(library: Library, s: AuditedSession) -> Head | None:
    old = read_old_log(library)
    if old is None and not said_of_accounts(library) and next(rows_of(s), None) is None:
        return None  # a new library
    key = audit_key.make_key(library)
    for report in s.scalars(select(ReportRow).where(ReportRow.state.in_(SIGNED))):
        try:
            report.signature = signature_of(key, report)
        except ValidationError:
            log.error(
                "%s: its signed report is not readable, and gets no signature", log_name(report.case_id)
            )
    s.flush()
    s.info.pop(TOUCHED, None)
    said = [*map(said_of, rows_of(s)), *said_of_accounts(library)]
    found = "there was no log before" if old is None else f"audit.log ({old.lines} lines): {old.verdict}"
    for part in _parts(said):
        enter(s, SEALED, rows=part, found=found, old_log="" if old is None else old.sha256)
    log.warning(
        "%s: the audit log is sealed with a key from now on (%s; keep a copy of it); of what was there "
        "before (%d rows) any change from now on is seen; %s",
        library.home,
        audit_key.key_path(library),
        len(said),
        found,
    )
    return write(library, s)


def _parts(said: list[Said]) -> Iterator[tuple[Said, ...]]:
    for i in range(0, max(1, len(said)), ROWS):
        yield tuple(said[i : i + ROWS])


def old_log_differences(library: Library, rows: Iterable[AuditRow]) -> Iterator[str]:
    """Sentences on a log without a key that is no longer what was found at the migration."""
    sealed = next((r for r in rows if r.event == SEALED), None)
    if sealed is None:
        return
    then = json.loads(sealed.details).get("old_log", "")
    now = read_old_log(library)
    if then and now is None:
        yield f"{old_log_path(library)}: the log from before the migration was removed"
    elif now is not None and now.sha256 != then:
        yield f"{old_log_path(library)}: is not the log that was found at the migration"
