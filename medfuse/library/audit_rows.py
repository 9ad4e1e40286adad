"""Which rows of the database the audit log vouches for, and what it says of each: a hash of its content.

Every row that a session adds, changes or removes is noticed here, so that no act can forget to say so.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import event, inspect
from sqlalchemy.orm import Session
from sqlalchemy.orm.unitofwork import UOWTransaction

from .catalogue import (
    Base,
    CaseProjectRow,
    CaseRow,
    InstanceRow,
    MeasurementRow,
    RatingRow,
    ReportRow,
    ResultRow,
    SeriesRow,
    TrainingRow,
)

VOUCHED: tuple[type[Base], ...] = (
    CaseRow,
    SeriesRow,
    ResultRow,
    ReportRow,
    TrainingRow,
    MeasurementRow,
    RatingRow,
    CaseProjectRow,
    InstanceRow,
)
# Columns that the hash leaves out: they name an entry of the log itself, or change without a person's act.
LEFT_OUT = {("training_records", "audit"), ("instances", "filed")}
ACCOUNTS = "accounts"  # not a table: accounts.json
GONE = ""  # in place of the hash of a row that was removed
TOUCHED = "touched rows"  # in Session.info


@dataclass(frozen=True, kw_only=True)
class Said:
    """What an entry says of one row: its table and key, its case where it has one, and its hash."""

    table: str
    key: str
    case_id: str
    digest: str


class AuditedSession(Session):
    """A session that remembers the rows it touched."""


@event.listens_for(AuditedSession, "before_flush")
def _touch(s: Session, _context: UOWTransaction, _instances: object) -> None:
    touched: dict[Base, None] = s.info.setdefault(TOUCHED, {})
    for row in (*s.new, *s.deleted, *(x for x in s.dirty if s.is_modified(x))):
        if isinstance(row, VOUCHED):
            touched[row] = None


def touched_rows(s: Session) -> list[Said]:
    """What is now to be said of every row touched since the last call; the session is flushed."""
    s.flush()
    touched: dict[Base, None] = s.info.pop(TOUCHED, {})
    return [said_of(row, gone=inspect(row).deleted) for row in touched]


def said_of(row: Base, *, gone: bool = False) -> Said:
    """What is to be said of a row as it stands."""
    mapper = inspect(type(row))
    key = "|".join(str(v) for v in mapper.primary_key_from_instance(row))
    case_id = row.id if isinstance(row, CaseRow) else getattr(row, "case_id", "")
    digest = GONE if gone else _digest(row)
    return Said(table=row.__tablename__, key=key, case_id=case_id, digest=digest)


def _digest(row: Base) -> str:
    """SHA-256 over every column but those left out; the same for a row in memory and as read back."""
    content = {
        c.key: _plain(getattr(row, c.key))
        for c in inspect(type(row)).column_attrs
        if (row.__tablename__, c.key) not in LEFT_OUT
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode("ascii")).hexdigest()


def _plain(value: object) -> object:
    """Times in UTC: SQLite gives them back without a zone."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=value.tzinfo or UTC).astimezone(UTC).isoformat()
    return value


def rows_of(s: Session, case_id: str | None = None) -> Iterator[Base]:
    """Every row that the log vouches for, or those of one case; received instances belong to none."""
    from sqlalchemy import select

    for table in VOUCHED:
        if case_id is None:
            yield from s.scalars(select(table).execution_options(yield_per=500))
        elif table is CaseRow:
            yield from s.scalars(select(table).where(CaseRow.id == case_id))
        elif table is not InstanceRow:
            yield from s.scalars(select(table).where(table.case_id == case_id))  # type: ignore[attr-defined]
