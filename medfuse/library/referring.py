"""Presentation states and key object selections of cases: kept with the case whose study they are of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from pydantic import TypeAdapter
from sqlalchemy import select
from sqlalchemy.orm import Session

from ..case import ReferringObject
from .accounts import need_acting
from .catalogue import CaseRow, ReferringRow, SeriesRow

if TYPE_CHECKING:
    from .library import Library

KEPT = TypeAdapter(
    ReferringObject
)  # lists of JSON as tuples again; what older versions did not keep is empty


def keep_objects(library: Library, objects: Iterable[ReferringObject]) -> int:
    """Keep each with every case that holds its study, where the patient is not another one; how many were
    new. One that is of no case here is not kept."""
    listed = [o for o in objects if o.sop_uid and o.study_uid]
    if not listed:
        return 0
    need_acting("author", "keep a presentation state")
    with library.session() as s:
        return sum(_keep(s, one) for one in listed)


def _keep(s: Session, one: ReferringObject) -> int:
    query = select(SeriesRow.case_id, CaseRow.patient_id).join(CaseRow, CaseRow.id == SeriesRow.case_id)
    found = {c: p for c, p in s.execute(query.where(SeriesRow.study_uid == one.study_uid))}
    new = 0
    for case_id, patient in found.items():
        if patient and one.patient_id and patient != one.patient_id:
            continue
        new += s.get(ReferringRow, (case_id, one.sop_uid[:64])) is None
        said = asdict(replace(one, path=""))  # where it came from says nothing of the case
        s.merge(ReferringRow(case_id=case_id, sop_uid=one.sop_uid[:64], said=said))
    return new


def objects_of(library: Library, case_id: str) -> list[ReferringObject]:
    """The presentation states and key object selections of a case, in the order of their UIDs."""
    with library.session() as s:
        rows = s.scalars(
            select(ReferringRow).where(ReferringRow.case_id == case_id).order_by(ReferringRow.sop_uid)
        )
        return [KEPT.validate_python(row.said) for row in rows]
