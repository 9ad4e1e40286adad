"""Who is to read a case: given to somebody, or taken. Each step is an entry of the audit log: it
survives a restart and says who did it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sqlalchemy import select

from ..errors import WrongUse
from .accounts import Account, list_accounts, need
from .audit import record
from .catalogue import AuditRow

if TYPE_CHECKING:
    from .library import Library

ASSIGNED = "case assigned"


def assigned_cases(library: Library) -> dict[str, str]:
    """Name of the account that is to read each case; a case that waits for nobody is left out."""
    with library.session() as s:
        rows = s.execute(
            select(AuditRow.case_id, AuditRow.details)
            .where(AuditRow.event == ASSIGNED)
            .order_by(AuditRow.seq)
        ).all()
    newest = {case_id: str(json.loads(details).get("to", "")) for case_id, details in rows}
    return {case_id: to for case_id, to in newest.items() if to}


def assign(library: Library, case_id: str, to: str, account: Account) -> None:
    """Give a case to an account that may report ("" takes it from everybody). Raises WrongUse for an unknown
    account, one that may not report, or who is no author."""
    need(account, "author", "assign a case")
    known = {a.name: a for a in list_accounts(library)}
    if to and (to not in known or not known[to].may("author")):
        raise WrongUse(f"{to}: no account that may report; see medfuse account list")
    record(library, ASSIGNED, who=account.name, case_id=case_id, to=to)
