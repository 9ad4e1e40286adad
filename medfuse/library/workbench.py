"""What a reader has on the desk beside the report: measurements drawn on the images, and typing that is not finished."""

from __future__ import annotations

from sqlalchemy import select

from ..errors import WrongUse
from .accounts import Account
from .audit import record
from .catalogue import EditRow, MeasurementRow, session


def add_measurement(case_id: str, data: dict, account: Account) -> int:
    """Keep a distance or region; its number. ``data``: kind, image, series_uid, plane, slice, points, value, unit …"""
    _need(account, "measure")
    with session() as s:
        row = MeasurementRow(case_id=case_id, author=account.name, data=data)
        s.add(row)
        s.flush()
        record("measured", who=account.name, case_id=case_id, number=row.id, kind=data["kind"], text=data["text"])
        return row.id


def measurements(case_id: str) -> list[dict]:
    """Every measurement that stands, with its number and author, oldest first."""
    with session() as s:
        rows = s.scalars(select(MeasurementRow).where(MeasurementRow.case_id == case_id, ~MeasurementRow.removed).order_by(MeasurementRow.id))  # fmt: skip
        return [{**r.data, "id": r.id, "author": r.author} for r in rows]


def remove_measurement(number: int, account: Account) -> None:
    _need(account, "remove a measurement")
    with session() as s:
        row = s.get(MeasurementRow, number)
        if row is None or row.removed:
            raise WrongUse(f"measurement {number}: no such measurement stands")
        row.removed = True
        record("measurement removed", who=account.name, case_id=row.case_id, number=number)


def keep_typing(case_id: str, data: dict, account: Account) -> None:
    """Words in the middle of an edit, replaced with each call."""
    _need(account, "edit a report")
    with session() as s:
        s.merge(EditRow(case_id=case_id, author=account.name, data=data))


def typed(case_id: str, account: Account) -> dict | None:
    """What this account had typed and not finished."""
    with session() as s:
        row = s.get(EditRow, (case_id, account.name))
        return None if row is None else dict(row.data)


def forget_typing(case_id: str, account: Account) -> None:
    with session() as s:
        row = s.get(EditRow, (case_id, account.name))
        if row is not None:
            s.delete(row)


def _need(account: Account, what: str) -> None:
    if not account.may("author"):
        raise WrongUse(f"account {account.name} is a {account.role} and may not {what}; it takes the role author")
