"""What a reader has on the desk beside the report: measurements drawn on the images, and typing that is not
finished."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError
from sqlalchemy import select

from ..display.contract import Typing, read_measurement
from ..display.marks import AnyMark
from ..errors import WrongUse
from .accounts import Account
from .audit import enter
from .catalogue import EditRow, MeasurementRow

if TYPE_CHECKING:
    from .library import Library


KNOWN = {"id", "author", "made"}  # of a measurement: what the library itself knows


@dataclass(frozen=True, kw_only=True)
class UnusableMeasurement:
    """A stored row that is not a whole measurement, as older versions could keep it: it is shown and left out
    of exports."""

    id: int
    author: str
    why: str


def add_measurement(library: Library, case_id: str, drawn: AnyMark, account: Account) -> int:
    """Keep what was drawn by ``account``; its number in the library."""
    _need(account, "measure")
    with library.session() as s:
        data = drawn.model_dump(mode="json", exclude=KNOWN)
        row = MeasurementRow(case_id=case_id, author=account.name, data=data)
        s.add(row)
        s.flush()
        enter(
            s,
            "measured",
            who=account.name,
            case_id=case_id,
            number=row.id,
            kind=drawn.kind,
            text=drawn.text,
        )
        return row.id


def measurements(library: Library, case_id: str) -> list[AnyMark]:
    """Every measurement that stands, with its number and author, oldest first; those that cannot be used are
    left out (see `unusable_measurements`)."""
    return [m for m in _standing(library, case_id) if not isinstance(m, UnusableMeasurement)]


def unusable_measurements(library: Library, case_id: str) -> list[UnusableMeasurement]:
    """Rows of measurements that stand and that no export can hold, oldest first, each with the reason."""
    return [m for m in _standing(library, case_id) if isinstance(m, UnusableMeasurement)]


def _standing(library: Library, case_id: str) -> list[AnyMark | UnusableMeasurement]:
    with library.session() as s:
        rows = list(
            s.scalars(
                select(MeasurementRow)
                .where(MeasurementRow.case_id == case_id, ~MeasurementRow.removed)
                .order_by(MeasurementRow.id)
            )
        )
    out: list[AnyMark | UnusableMeasurement] = []
    for row in rows:
        try:
            known = {"id": row.id, "author": row.author, "made": f"{row.made:%Y-%m-%d %H:%M}"}
            out.append(read_measurement({**row.data, **known}))
        except WrongUse as e:
            out.append(UnusableMeasurement(id=row.id, author=row.author, why=str(e)))
    return out


def change_measurement(library: Library, number: int, drawn: AnyMark, account: Account) -> None:
    """A measurement that stands is another one now, by ``account``; what it was stands in the audit log.
    Raises WrongUse where none stands."""
    _need(account, "change a measurement")
    with library.session() as s:
        row = s.get(MeasurementRow, number)
        if row is None or row.removed:
            raise WrongUse(f"measurement {number}: no such measurement stands")
        was = str(row.data.get("text", ""))
        row.data = drawn.model_dump(mode="json", exclude=KNOWN)
        row.author = account.name
        enter(
            s,
            "measurement changed",
            who=account.name,
            case_id=row.case_id,
            number=number,
            text=drawn.text,
            was=was,
        )


def remove_measurement(library: Library, number: int, account: Account) -> None:
    """Take a measurement off the images; its row stays, marked. Raises WrongUse where none stands."""
    _need(account, "remove a measurement")
    with library.session() as s:
        row = s.get(MeasurementRow, number)
        if row is None or row.removed:
            raise WrongUse(f"measurement {number}: no such measurement stands")
        row.removed = True
        enter(s, "measurement removed", who=account.name, case_id=row.case_id, number=number)


def keep_typing(library: Library, case_id: str, typing: Typing, account: Account) -> None:
    """Words in the middle of an edit, replaced with each call."""
    _need(account, "edit a report")
    with library.session() as s:
        s.merge(EditRow(case_id=case_id, author=account.name, data=typing.model_dump(mode="json")))


def typed(library: Library, case_id: str, account: Account) -> Typing | None:
    """What this account had typed and not finished; None also for what an older version kept in another
    form."""
    with library.session() as s:
        row = s.get(EditRow, (case_id, account.name))
        if row is None:
            return None
        try:
            return Typing.model_validate(row.data)
        except ValidationError:
            return None


def forget_typing(library: Library, case_id: str, account: Account) -> None:
    """The edit was finished or given up."""
    with library.session() as s:
        row = s.get(EditRow, (case_id, account.name))
        if row is not None:
            s.delete(row)


def _need(account: Account, what: str) -> None:
    if not account.may("author"):
        raise WrongUse(
            f"account {account.name} is a {account.role} and may not {what}; it takes the role author"
        )
