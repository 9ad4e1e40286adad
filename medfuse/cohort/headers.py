"""What linking needs of a DICOM header, read in a child process: imports stay light."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import pydicom
from pydicom.dataset import Dataset

from ..io import charset

TAGS = (
    "SpecificCharacterSet",
    "AccessionNumber",
    "IssuerOfAccessionNumberSequence",
    "IssuerOfPatientID",
    "InstitutionName",
    "PatientName",
    "StudyDate",
    "StudyTime",
    "StudyDescription",
    "SeriesDescription",
    "Laterality",
    "ImageLaterality",
    "ManufacturerModelName",
)


@dataclass(frozen=True, kw_only=True)
class StudyHeader:
    """Of one file: its order, who gave its numbers, what it was of. laterality: R, L or ""."""

    accession: str = ""
    issuers: tuple[str, ...] = ()
    name: str = ""
    date: str = ""
    time: str = ""
    description: str = ""
    laterality: str = ""
    scanner: str = ""


def read_study_headers(paths: list[str]) -> list[StudyHeader]:
    """One record a file, in order; of a file that cannot be read an empty one (the scan has named it)."""
    return [_one(path) for path in paths]


def _one(path: str) -> StudyHeader:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ds = pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=list(TAGS))
            charset.obey(ds)
            return _record(ds)
        except (MemoryError, RecursionError):
            raise
        except Exception:  # a damaged header can break any element's parsing; the scan names such files
            return StudyHeader()


def _record(ds: Dataset) -> StudyHeader:
    def text(key: str) -> str:
        return str(ds.get(key, "") or "").strip()

    issuers = [text("IssuerOfPatientID"), text("InstitutionName")]
    for item in ds.get("IssuerOfAccessionNumberSequence") or []:
        issuers += [str(item.get(k, "") or "") for k in ("LocalNamespaceEntityID", "UniversalEntityID")]
    return StudyHeader(
        accession=text("AccessionNumber"),
        issuers=tuple(dict.fromkeys(i.strip() for i in issuers if i.strip())),
        name=text("PatientName"),
        date=text("StudyDate"),
        time=text("StudyTime")[:6],
        description=" ".join(filter(None, (text("StudyDescription"), text("SeriesDescription")))),
        laterality=text("ImageLaterality") or text("Laterality"),
        scanner=text("ManufacturerModelName"),
    )
