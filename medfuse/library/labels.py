"""What a worklist shows of a case beside its ids: read from the headers of its files, and kept.

Nothing rests on it: whose images these are stands in the case and in the images themselves.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from sqlalchemy import select
from sqlalchemy.orm import Session

from ..case import Case
from ..io.charset import obey
from .catalogue import LabelRow, SeriesRow
from .library import Library

TAGS = ["SpecificCharacterSet", "PatientName", "AccessionNumber", "BodyPartExamined", "StudyDescription"]


def label(s: Session, case: Case, files: int) -> None:
    """Keep or renew the label of a case, in the caller's transaction. files: how many it holds."""
    heads = [h for path in _first_files(case) if (h := _head(path)) is not None]
    s.merge(
        LabelRow(
            case_id=case.case_id,
            name=next((n for h in heads if (n := person_name(h.get("PatientName")))), ""),
            accession=_joined(h.get("AccessionNumber") for h in heads)[:255],
            body_part=_joined(i.source.body_part for i in case.images)[:64],
            description=_joined(h.get("StudyDescription") for h in heads)[:255],
            files=files,
        )
    )


@dataclass(frozen=True, kw_only=True)
class CaseNumbers:
    """By what other systems know a case: accession numbers, parted by commas, and StudyInstanceUIDs."""

    accession: str = ""
    study_uids: tuple[str, ...] = ()


def numbers_of(library: Library) -> dict[str, CaseNumbers]:
    """Of every case of a library that has any."""
    with library.session() as s:
        accessions = {c: a for c, a in s.execute(select(LabelRow.case_id, LabelRow.accession))}
        rows = s.execute(select(SeriesRow.case_id, SeriesRow.study_uid).order_by(SeriesRow.id))
        studies: dict[str, dict[str, None]] = {}
        for case_id, uid in rows:
            if uid:
                studies.setdefault(case_id, {})[uid] = None
    return {
        c: CaseNumbers(accession=accessions.get(c, ""), study_uids=tuple(studies.get(c, ())))
        for c in {**accessions, **studies}
    }


def _first_files(case: Case) -> list[Path]:
    """The first file of each study."""
    studies: dict[str, Path] = {}
    for image in case.images:
        files = image.source.files or (image.source.path,)
        studies.setdefault(image.source.study_uid, Path(files[0]))
    return list(studies.values())


def _head(path: Path) -> Dataset | None:
    try:
        ds = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=TAGS)
        obey(ds)
        return ds
    except (InvalidDicomError, OSError, ValueError):  # no DICOM file: it has no header to read
        return None


def _joined(values: Iterable[object]) -> str:
    """Each value once, in the order it came."""
    return ", ".join(dict.fromkeys(t for v in values if (t := str(v or "").strip())))


def person_name(name: object) -> str:
    """A DICOM name as people write it: every script that it is given in, without carets."""
    groups = (" ".join(g.replace("^", " ").split()) for g in str(name or "").split("="))
    return " ".join(g for g in groups if g)
