"""Critical results: who flagged one, and whom it was told, when and how. Kept as entries of the audit log, so
that nobody can take one back unseen."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from ..errors import WrongUse
from .accounts import Account, need
from .audit import record
from .catalogue import AuditRow

if TYPE_CHECKING:
    from .library import Library

FLAGGED = "critical result flagged"
TOLD = "critical result told"
LIFTED = "critical flag lifted"
EVENTS = (FLAGGED, TOLD, LIFTED)


@dataclass(frozen=True, kw_only=True)
class CriticalNote:
    """One step. event: one of EVENTS; at: ISO 8601, UTC; said: what is critical, or why it is not; to, how:
    whom it was told and by what means."""

    event: str
    at: str
    who: str
    said: str = ""
    to: str = ""
    how: str = ""


def critical_log(library: Library, case_id: str) -> list[CriticalNote]:
    """Every step of a case, oldest first."""
    with library.session() as s:
        rows = s.scalars(
            select(AuditRow)
            .where(AuditRow.case_id == case_id, AuditRow.event.in_(EVENTS))
            .order_by(AuditRow.seq)
        ).all()
    out = []
    for row in rows:
        details = json.loads(row.details)
        words = {k: str(details.get(k, "")) for k in ("said", "to", "how")}
        out.append(CriticalNote(event=row.event, at=row.at, who=row.who, **words))
    return out


def is_critical(log: list[CriticalNote]) -> bool:
    """Whether a flag stands."""
    flags = [n.event for n in log if n.event in (FLAGGED, LIFTED)]
    return bool(flags) and flags[-1] == FLAGGED


def critical_cases(library: Library) -> dict[str, bool]:
    """Cases whose flag stands; True where it was told since to somebody."""
    with library.session() as s:
        rows = s.execute(
            select(AuditRow.case_id, AuditRow.event).where(AuditRow.event.in_(EVENTS)).order_by(AuditRow.seq)
        ).all()
    out: dict[str, bool] = {}
    for case_id, event in rows:
        if event == LIFTED:
            out.pop(case_id, None)
        else:
            out[case_id] = event == TOLD
    return out


def flag(library: Library, case_id: str, said: str, account: Account) -> None:
    """Say that a result must be told at once. Raises WrongUse without words, or who is no author."""
    need(account, "author", "flag a critical result")
    _words(said, "say what is critical")
    record(library, FLAGGED, who=account.name, case_id=case_id, said=said.strip())


def tell(library: Library, case_id: str, to: str, how: str, account: Account) -> None:
    """Note whom it was told and how. Raises WrongUse where no flag stands, or without a name."""
    need(account, "author", "note that a critical result was told")
    _words(to, "say whom it was told")
    if not is_critical(critical_log(library, case_id)):
        raise WrongUse(f"{case_id}: no critical result is flagged; flag it first")
    record(library, TOLD, who=account.name, case_id=case_id, to=to.strip(), how=how.strip())


def lift(library: Library, case_id: str, said: str, account: Account) -> None:
    """Take the flag away, with the reason; what stood stays in the log. Raises WrongUse without one."""
    need(account, "author", "lift a critical flag")
    _words(said, "say why it is not critical")
    record(library, LIFTED, who=account.name, case_id=case_id, said=said.strip())


def _words(given: str, wanted: str) -> None:
    if not given.strip():
        raise WrongUse(f"{wanted}")
