"""Presentation states, key object selections and outlines of others: kept with the case whose study they are
of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter
from sqlalchemy import or_, select
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session

from ..case import ReferringObject
from ..io.names import shown
from .accounts import need_acting
from .catalogue import CaseRow, ReferringRow, SeriesRow
from .image_files import store_file

if TYPE_CHECKING:
    from .library import Library

OUTLINES = ("segmentation", "structure set", "label map")
LABEL_MAP = "SEG"  # what a person states of a volume file whose values are class numbers
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
        return sum(_keep(library, s, one) for one in listed)


def _keep(library: Library, s: Session, one: ReferringObject) -> int:
    query = select(SeriesRow.case_id, CaseRow.patient_id).join(CaseRow, CaseRow.id == SeriesRow.case_id)
    of = or_(SeriesRow.study_uid == one.study_uid, SeriesRow.uid.in_(one.outlined))
    found = {c: p for c, p in s.execute(query.where(of))}
    new = 0
    for case_id, patient in found.items():
        if patient and one.patient_id and patient != one.patient_id:
            continue
        new += s.get(ReferringRow, (case_id, one.sop_uid[:64])) is None
        file = store_file(library, Path(one.path)) if one.kind in OUTLINES else ""
        said = asdict(replace(one, path="", file=file))  # where it came from says nothing of the case
        s.merge(ReferringRow(case_id=case_id, sop_uid=one.sop_uid[:64], said=said))
    return new


def keep_label_map(library: Library, s: Session, case_id: str, path: Path, suffix: str) -> None:
    """Keep a volume file of class numbers with the case that it came with, in the caller's transaction."""
    file = store_file(library, path, suffix)
    one = ReferringObject(
        kind="label map",
        path="",
        sop_uid=f"file:{file}"[:64],
        series_uid="",
        study_uid="",
        title=shown(path.name)[:128],
        description="",
        graphics=0,
        images=(),
        file=file,
    )
    s.merge(ReferringRow(case_id=case_id, sop_uid=one.sop_uid, said=asdict(one)))


def outline_files(s: Session | Connection) -> list[tuple[str, str]]:
    """Each case with outlines of others, and the name in the store of the file that holds them."""
    rows = s.execute(select(ReferringRow.case_id, ReferringRow.said))
    return [(case_id, said["file"]) for case_id, said in rows if said.get("file")]


def objects_of(library: Library, case_id: str) -> list[ReferringObject]:
    """The presentation states, key object selections and outlines of others of a case, in the order of their
    UIDs."""
    with library.session() as s:
        rows = s.scalars(
            select(ReferringRow).where(ReferringRow.case_id == case_id).order_by(ReferringRow.sop_uid)
        )
        return [KEPT.validate_python(row.said) for row in rows]
