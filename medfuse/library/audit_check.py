"""What `medfuse audit` does: the log against its seals and anchors, and the database against the log, both
ways. Whatever differs is named."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sqlalchemy import or_, select, text
from sqlalchemy.orm import Session

from ..errors import UserError
from ..io.names import plain_name
from . import audit_key
from .accounts import list_accounts, said_of_accounts
from .audit import entry_of, seal_of
from .audit_rows import ACCOUNTS, GONE, Said, rows_of, said_of
from .audit_seal import old_log_differences
from .catalogue import AuditHeadRow, AuditRow, Base, ReportRow
from .signatures import SIGNED, signature_of
from .time_stamps import stamp_differences

if TYPE_CHECKING:
    from .library import Library

Kind = Literal[
    "key",
    "head",
    "entry",
    "missing entries",
    "anchor",
    "changed",
    "deleted",
    "added",
    "signature",
    "time stamp",
]
LOOKS = 3  # at accounts that change while they are looked at: they lie in a file, not in the database
NAMES = {
    "cases": "case",
    "series": "series",
    "results": "prediction",
    "reports": "report",
    "training_records": "training record",
    "measurements": "measurement",
    "ratings": "rating",
    "instances": "received object",
    ACCOUNTS: "account",
}


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One thing that is not as the log says. ``what``: a sentence that names it."""

    kind: Kind
    what: str


@dataclass(frozen=True)
class Stamps:
    """Which time stamps are looked at. authority: PEM certificates that they must be of. copies: a folder
    with more of them, kept elsewhere."""

    authority: Path | None = None
    copies: Path | None = None


def differences(library: Library, stamps: Stamps = Stamps()) -> list[Difference]:
    """Everything that differs between the log, its anchors, the database and the accounts; empty where all
    is as it was written, also while others write. Nothing is changed."""
    if not library.exists:
        return list(_stamps(library, [], "", stamps))
    found: list[Difference] = []
    for _ in range(LOOKS):
        list_accounts(library)  # what a killed writer had begun is finished, or forgotten
        before = _newest(library)
        found = _differences(library, stamps)
        if not found or _newest(library) == before:
            break
    return found


def _newest(library: Library) -> int | None:
    with library.session() as s:
        return s.scalars(select(AuditHeadRow.seq)).first()


def _at_one_moment(s: Session) -> None:
    """Whatever this session reads is as it stood now: others write meanwhile."""
    if s.get_bind().dialect.name == "sqlite":
        s.execute(text("BEGIN"))
    else:
        s.connection(execution_options={"isolation_level": "REPEATABLE READ"})


def _differences(library: Library, stamps: Stamps) -> list[Difference]:
    anchors = {p: p.read_bytes() for p in (library.home / "anchors").glob("*.json")}
    with library.session() as s:
        _at_one_moment(s)
        if _is_new(library, s):
            return list(_stamps(library, [], "", stamps))
        try:
            key = audit_key.need_key(library)
        except UserError as e:
            return [Difference(kind="key", what=str(e))]
        rows = list(s.scalars(select(AuditRow).order_by(AuditRow.seq)))
        head = s.execute(select(AuditHeadRow.log, AuditHeadRow.seq)).one_or_none()
        found = [*_chain(key, rows, "" if head is None else head.log)]
        found += _head(rows, None if head is None else head.seq)
        found += _anchors(library, key, rows, "" if head is None else head.log, anchors)
        there = {(x.table, x.key): x for x in map(said_of, rows_of(s))}
        there |= {(x.table, x.key): x for x in said_of_accounts(library)}
        found += _both_ways(_last_said(rows), there, _titles(s))
        found += _signatures(key, s.scalars(select(ReportRow).where(ReportRow.state.in_(SIGNED))))
        found += (Difference(kind="changed", what=what) for what in old_log_differences(library, rows))
        found += _stamps(library, rows, "" if head is None else head.log, stamps)
    return found


def _is_new(library: Library, s: Session) -> bool:
    """Whether nothing was ever kept: no key, no anchor, no entry, no row."""
    if audit_key.read_key(library) is not None or (library.home / "anchors").exists():
        return False
    return s.scalars(select(AuditRow.seq)).first() is None and next(rows_of(s), None) is None


def check_case(library: Library, case_id: str) -> None:
    """Raise UserError where a case, its predictions or reports are not what the log says: such a report is
    neither printed nor exported."""
    with library.session() as s:
        _at_one_moment(s)
        key = audit_key.need_key(library)
        about = or_(AuditRow.case_id == case_id, AuditRow.case_id == "")
        rows = list(s.scalars(select(AuditRow).where(about).order_by(AuditRow.seq)))
        said = {k: x for k, x in _last_said(rows).items() if x.case_id == case_id}
        there = {(x.table, x.key): x for x in map(said_of, rows_of(s, case_id))}
        found = [*_sealed_wrong(key, rows), *_both_ways(said, there, _titles(s))]
        signed = select(ReportRow).where(ReportRow.case_id == case_id, ReportRow.state.in_(SIGNED))
        found += _signatures(key, s.scalars(signed))
    if found:
        raise UserError(
            f"{case_id}: is not what was kept in the library: {found[0].what}; it is neither printed nor "
            "exported; see medfuse audit and restore a backup"
        )


def _sealed_wrong(key: bytes, rows: Iterable[AuditRow]) -> Iterator[Difference]:
    """Entries that were changed, or written without the key."""
    for row in rows:
        if not hmac.compare_digest(seal_of(key, row), row.seal):
            yield Difference(
                kind="entry",
                what=f"entry {row.seq} ({row.event}): was changed, or written by somebody without the key",
            )


def _chain(key: bytes, rows: list[AuditRow], log: str) -> Iterator[Difference]:
    """Each entry against its seal and against the entry before it."""
    yield from _sealed_wrong(key, rows)
    if rows and (rows[0].seq != 1 or rows[0].before != log):
        yield Difference(
            kind="missing entries", what=f"the log begins with entry {rows[0].seq}, which is not its first"
        )
    for before, row in pairwise(rows):
        if row.seq != before.seq + 1:
            gap = f"{before.seq + 1} to {row.seq - 1}" if row.seq - before.seq > 2 else f"{before.seq + 1}"
            yield Difference(kind="missing entries", what=f"missing from the log: {gap}")
        elif row.before != before.seal:
            yield Difference(
                kind="entry", what=f"entry {row.seq} ({row.event}): does not follow the entry before it"
            )


def _head(rows: list[AuditRow], seq: int | None) -> Iterator[Difference]:
    newest = rows[-1].seq if rows else 0
    if seq is None:
        yield Difference(kind="head", what="the log's own count of its entries is gone")
    elif seq != newest:
        yield Difference(
            kind="missing entries", what=f"the log counts {seq} entries, and the last one there is {newest}"
        )


def _anchors(
    library: Library, key: bytes, rows: list[AuditRow], log: str, kept: dict[Path, bytes]
) -> Iterator[Difference]:
    """The log against what lies outside the database: every month of it has an anchor, and reaches as far.
    ``kept``: the anchors as they were read before the log, so that none is ahead of it."""
    seals = {0: log} | {row.seq: row.seal for row in rows}
    firsts = {row.at[:7]: row.seq for row in reversed(rows)}
    paths = {path: path.name.split(".")[1] for path in kept if path.name.startswith(_ours(log))}
    if log:
        paths |= {audit_key.anchor_path(library, log, month): month for month in firsts}
    for path, month in sorted(paths.items()):
        begun_since = path not in kept and path.exists()
        data = path.read_bytes() if begun_since else kept.get(path)
        if data is None:
            yield Difference(kind="anchor", what=f"{path}: the anchor of {month} was removed")
            continue
        anchor = audit_key.anchor_in(data, key)
        if anchor is None:
            yield Difference(kind="anchor", what=f"{path}: the anchor of {month} was changed")
        elif anchor.newest not in seals and begun_since:
            continue  # it is ahead of what was read of the log
        else:
            yield from _anchor(path, month, anchor, seals, firsts.get(month))


def _ours(log: str) -> str:
    """How the anchors of a log are called; of any log where its name is gone."""
    return f"{plain_name(log[:12])}." if log else ""


def _anchor(
    path: Path, month: str, anchor: audit_key.AuditAnchor, seals: dict[int, str], first: int | None
) -> Iterator[Difference]:
    """One anchor against the seals of the log. first: number of the month's first entry; None where it has
    none."""
    if anchor.newest not in seals:
        what = f"entries up to {anchor.newest} were written in {month}, and are no longer there"
        yield Difference(kind="missing entries", what=what)
    elif seals[anchor.newest] != anchor.head:
        what = f"entry {anchor.newest}: is not the one that was written in {month}"
        yield Difference(kind="entry", what=what)
    elif anchor.first != first and (first is not None or anchor.newest >= anchor.first):
        what = f"{path}: the anchor of {month} was removed, and begun anew at entry {anchor.first}"
        yield Difference(kind="anchor", what=what)


def _stamps(library: Library, rows: list[AuditRow], log: str, stamps: Stamps) -> Iterator[Difference]:
    for what in stamp_differences(library, rows, log, stamps.authority, stamps.copies):
        yield Difference(kind="time stamp", what=what)


def _last_said(rows: Iterable[AuditRow]) -> dict[tuple[str, str], Said]:
    """What the log said last of each row. An entry that cannot be read says nothing: it is named by its
    seal."""
    said: dict[tuple[str, str], Said] = {}
    for row in rows:
        try:
            entry = entry_of(row)
        except (ValueError, TypeError):
            continue
        said |= {(x.table, x.key): x for x in entry.rows}
    return said


def _both_ways(
    said: dict[tuple[str, str], Said], there: dict[tuple[str, str], Said], titles: dict[tuple[str, str], str]
) -> Iterator[Difference]:
    """Rows against the log, and the log against rows."""
    for place, now in there.items():
        last = said.get(place)
        if last is None or last.digest == GONE:
            yield Difference(kind="added", what=f"{_title(now, titles)}: no entry of the log knows of it")
        elif last.digest != now.digest:
            yield Difference(kind="changed", what=f"{_title(now, titles)}: is not what the log says")
    for place, last in said.items():
        if place not in there and last.digest != GONE:
            yield Difference(
                kind="deleted", what=f"{_title(last, titles)}: stands in the log and is not there"
            )


def _titles(s: Session) -> dict[tuple[str, str], str]:
    """How reports are called: by revision and state, not by their number in the table."""
    rows = s.execute(select(ReportRow.id, ReportRow.revision, ReportRow.version, ReportRow.state))
    return {("reports", str(i)): f"revision {r}, version {v} ({state})" for i, r, v, state in rows}


def _title(x: Said, titles: dict[tuple[str, str], str]) -> str:
    name = f"{NAMES.get(x.table, x.table)} {titles.get((x.table, x.key), x.key)}"
    return f"{name} of {x.case_id}" if x.case_id and x.table != "cases" else name


def _signatures(key: bytes, rows: Iterable[Base]) -> Iterator[Difference]:
    for row in rows:
        assert isinstance(row, ReportRow)
        if not hmac.compare_digest(signature_of(key, row), row.signature):
            yield Difference(
                kind="signature",
                what=f"report of {row.case_id}, version {row.version}: is not what {row.author} signed",
            )
