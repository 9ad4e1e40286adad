"""Where an image came from, as its headers say it."""

from __future__ import annotations

import hashlib

from pydicom.dataset import Dataset

from ..case import Source
from .headers import FileEntry


def simulated(ds: Dataset) -> bool:
    """Whether a header says that its image is simulated, not a patient."""
    kinds = {str(v).upper() for v in (ds.get("ImageType") or [])}
    return "SIMULATED" in kinds or "SIMULATED" in str(ds.get("ImageComments", ""))


def source_of(group: list[FileEntry]) -> Source:
    """The source of an image that is made of these files, in their order."""
    ds = group[0].header
    assert ds is not None
    digest = hashlib.sha256()
    for uid in sorted(str(e.header.SOPInstanceUID) for e in group if e.header is not None):
        digest.update(uid.encode())
    return Source(
        path=str(group[0].path if len(group) == 1 else group[0].path.parent),
        sha256=digest.hexdigest(),
        study_uid=str(ds.get("StudyInstanceUID", "")),
        series_uid=str(ds.get("SeriesInstanceUID", "")),
        instance_uids=tuple(str(e.header.SOPInstanceUID) for e in group if e.header is not None),
        files=tuple(str(e.path) for e in group if e.header is not None),
        description=str(ds.get("SeriesDescription", "")),
        manufacturer=" ".join(str(ds.get(k, "")) for k in ("Manufacturer", "ManufacturerModelName")).strip(),
        date=str(ds.get("StudyDate", "")),
        simulated=simulated(ds),
        indication=str(ds.get("ReasonForStudy", "") or "").strip(),
        history=str(ds.get("AdditionalPatientHistory", "") or "").strip(),
        body_part=str(ds.get("BodyPartExamined", "") or "").strip(),
    )
