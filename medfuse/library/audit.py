"""The audit log: who did what, in the database, each entry sealed with a key that lies outside of it.

An act and its entry are one transaction: `enter` notes an event in the session of the act, and the session
writes it as it commits, with a hash of every row that was touched. Entries are only added. `audit_check`
compares them with what the database holds.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import JsonValue
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from ..errors import UserError
from . import audit_key
from .audit_rows import Said, touched_rows
from .catalogue import AuditHeadRow, AuditRow, TrainingRow

if TYPE_CHECKING:
    from .library import Library

LONGEST_NAME = 200  # of who did it: more is cut, with the whole's hash behind
LONGEST_DETAIL = 2000
PENDING = "pending events"  # in Session.info
UNKNOWN_ACT = "rows changed"
_acting: ContextVar[str] = ContextVar("acting", default="")
log = logging.getLogger(__name__)


def actor() -> str:
    """Who acts where nobody is signed in: the user of the operating system, as os:NAME (no account's name
    holds a colon), or who `acting` says."""
    if _acting.get():
        return _acting.get()
    try:
        return f"os:{getpass.getuser()}"
    except (KeyError, OSError):  # a number without a name
        return f"os:{os.getuid()}"


@contextmanager
def acting(who: str) -> Iterator[None]:
    """Everything inside is done by ``who``, where no account is named."""
    token = _acting.set(who)
    try:
        yield
    finally:
        _acting.reset(token)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One event. at: ISO 8601, UTC; who: an account, os:USER or aet:TITLE; case: its id, or empty; details:
    what more the event says; rows: of the database, as they were left; hash: the entry's seal."""

    seq: int
    at: str
    event: str
    who: str
    case: str
    details: dict[str, JsonValue]
    rows: tuple[Said, ...]
    hash: str

    def as_json(self) -> dict[str, JsonValue]:
        """Every field at one level, the details among them; the rows are left out."""
        own: dict[str, JsonValue] = {"at": self.at, "event": self.event, "who": self.who, "case": self.case}
        return {**self.details, **own, "hash": self.hash}


@dataclass(kw_only=True)
class Pending:
    """An event that waits for its transaction. hash: its seal, once it is written; marks: rows that are to
    name it."""

    event: str
    who: str
    case_id: str
    details: dict[str, JsonValue]
    rows: list[Said] = field(default_factory=list)
    marks: tuple[TrainingRow, ...] = ()
    hash: str = ""


def enter(
    s: Session,
    event: str,
    *,
    who: str = "",
    case_id: str = "",
    marks: tuple[TrainingRow, ...] = (),
    rows: tuple[Said, ...] = (),
    **details: JsonValue,
) -> Pending:
    """Note an event in the transaction of the act itself: both are kept, or neither. ``who``: by default
    `actor`. ``rows``: things outside the database that the entry vouches for."""
    said = Pending(event=event, who=who or actor(), case_id=case_id, details=details)
    said.marks = marks
    said.rows = list(rows)
    s.info.setdefault(PENDING, []).append(said)
    return said


def record(library: Library, event: str, *, who: str = "", case_id: str = "", **details: JsonValue) -> str:
    """Keep an event that changes nothing in the database (a case looked at, a file sent), on disk when this
    returns; its seal."""
    with library.session() as s:
        said = Pending(event=event, who=who or actor(), case_id=case_id, details=details)
        s.info.setdefault(PENDING, []).append(said)
    return said.hash


@dataclass(frozen=True, kw_only=True)
class Head:
    """Where a log stands after a transaction: what is anchored once it is committed."""

    log: str
    month: str
    newest: int
    seal: str


def write(library: Library, s: Session) -> Head | None:
    """Write what waits in a session, with the rows it touched; None where there is nothing. Called last,
    before the commit: from here on, other writers wait."""
    touched = touched_rows(s)
    pending: list[Pending] = s.info.pop(PENDING, [])
    _share_out(touched, pending)
    if not pending:
        return None
    s.execute(update(AuditHeadRow).values(seq=AuditHeadRow.seq + len(pending)))  # one writer at a time
    head = s.execute(select(AuditHeadRow.log, AuditHeadRow.seq)).one_or_none()
    if head is None:
        raise UserError(f"{library.address}: the audit log has no head; see medfuse audit")
    first = head.seq - len(pending) + 1
    key = _key(library, new=first == 1)
    last = select(AuditRow.seal).order_by(AuditRow.seq.desc()).limit(1).execution_options(whole=True)
    before = s.scalars(last).first() or head.log
    at = datetime.now(UTC)
    month = f"{at:%Y-%m}"
    audit_key.begin_anchor(library, key, head.log, month, first=first, before=before)
    for seq, said in enumerate(pending, first):
        row = _row(key, seq, said, at.isoformat(timespec="milliseconds"), before)
        s.add(row)
        said.hash = before = row.seal
        for mark in said.marks:
            mark.audit = row.seal
    s.flush()
    return Head(log=head.log, month=month, newest=head.seq, seal=before)


def anchor_head(library: Library, head: Head | None) -> None:
    """Note outside the database where the log stands, after its transaction was committed."""
    if head is not None:
        key = audit_key.need_key(library)
        audit_key.anchor(library, key, head.log, head.month, newest=head.newest, head=head.seal)


def _key(library: Library, *, new: bool) -> bytes:
    """The key, made for the first entry of a home's first log. A key that is gone is never replaced."""
    if new and audit_key.read_key(library) is None and not (library.home / "anchors").exists():
        return audit_key.make_key(library)
    return audit_key.need_key(library)


def _share_out(touched: list[Said], pending: list[Pending]) -> None:
    """Put each row to the last event on its case, else to the last event without one; rows that no event
    speaks of get one of their own, so that nothing changes without an entry."""
    by_case = {said.case_id: said for said in pending}
    for row in touched:
        if row.case_id not in by_case and "" not in by_case:
            by_case[row.case_id] = Pending(event=UNKNOWN_ACT, who=actor(), case_id=row.case_id, details={})
            pending.append(by_case[row.case_id])
        by_case.get(row.case_id, by_case.get("", pending[-1])).rows.append(row)


def _row(key: bytes, seq: int, said: Pending, at: str, before: str) -> AuditRow:
    details = {k: _cut(v, LONGEST_DETAIL) if isinstance(v, str) else v for k, v in said.details.items()}
    rows = [[x.table, x.key, x.case_id, x.digest] for x in said.rows]
    row = AuditRow(
        seq=seq,
        at=at,
        event=_cut(said.event, 64),
        who=_cut(said.who, LONGEST_NAME),
        case_id=_cut(said.case_id, 80),
        details=json.dumps(details, sort_keys=True),
        rows=json.dumps(rows),
        before=before,
    )
    row.seal = seal_of(key, row)
    return row


def seal_of(key: bytes, row: AuditRow) -> str:
    """The seal that an entry must carry: over all of it, and over the entry before."""
    parts = (row.seq, row.at, row.event, row.who, row.case_id, row.details, row.rows, row.before)
    return audit_key.mac(key, ["entry", *parts])


def _cut(text: str, most: int) -> str:
    """Text that a column holds: a longer one is cut, with a hash of the whole; no zero bytes, no lone
    surrogates."""
    clean = text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
    if len(clean) <= most:
        return clean
    digest = hashlib.sha256(clean.encode()).hexdigest()[:16]
    return f"{clean[: most - 20]}…#{digest}"


def entry_of(row: AuditRow) -> Entry:
    """An entry as it is kept. Raises ValueError where its JSON was changed to what is none."""
    rows = tuple(Said(table=t, key=k, case_id=c, digest=d) for t, k, c, d in json.loads(row.rows))
    return Entry(
        seq=row.seq,
        at=row.at,
        event=row.event,
        who=row.who,
        case=row.case_id,
        details=json.loads(row.details),
        rows=rows,
        hash=row.seal,
    )


def entries(library: Library) -> list[Entry]:
    """Every event, oldest first, as it stands in the database: `audit_check.differences` says whether it is
    what was written. Makes no library where there is none. Raises UserError for an entry that is not
    readable."""
    if not library.exists:
        return []
    out = []
    with library.session() as s:
        for row in s.scalars(select(AuditRow).order_by(AuditRow.seq)):
            try:
                out.append(entry_of(row))
            except (ValueError, TypeError) as e:
                raise UserError(f"entry {row.seq} of the audit log was changed; see medfuse audit") from e
    return out
