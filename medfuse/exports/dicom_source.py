"""The DICOM headers behind a case's images, for objects that refer to them; and UIDs that the same content
always gets."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from .. import __version__
from ..case import Case, Image
from ..errors import UserError, os_fault
from ..io.charset import to_utf8
from ..report import Report

# of patient and study (type 2): an object that refers to a file has them, empty where the file is silent
MAY_BE_EMPTY = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)
MANUFACTURER = "medfuse"
MODEL = "medfuse research draft"


@contextmanager
def odd_names() -> Iterator[None]:
    """Patient names of one word are common in research data; highdicom warns of each."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*unlikely to represent the intended person name.*")
        yield


def uid_of(*parts: object) -> UID:
    """A UID derived from content: the same parts give the same UID."""
    return generate_uid(entropy_srcs=["medfuse", *[str(p) for p in parts]])


def report_key(report: Report) -> str:
    """What makes two reports the same object: the case, the words, their version and state."""
    return report.model_dump_json()


def from_dicom(image: Image) -> bool:
    """Whether an image came from DICOM files that can be referred to."""
    return bool(image.source.series_uid and image.source.instance_uids and image.source.files)


def headers_of(image: Image) -> list[Dataset]:
    """One dataset a source instance, without pixels, in the order of the slices. Raises UserError where a
    file is gone."""
    out: list[Dataset] = []
    for path, uid in zip(image.source.files, image.source.instance_uids, strict=True):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of odd values, which the readers judge by name
                ds = pydicom.dcmread(Path(path), stop_before_pixels=True, force=True)
        except OSError as e:
            raise UserError(
                f"{path}: the source image is gone ({os_fault(e)}); predict the case again where "
                "its images lie"
            ) from e
        to_utf8(ds)
        if str(ds.get("SOPInstanceUID", "")) != uid:
            raise UserError(f"{path}: another image lies there than was predicted; predict the case again")
        for name in MAY_BE_EMPTY:
            if name not in ds:
                setattr(ds, name, "")
        out.append(ds)
    return out


def object_beside(
    source: Dataset, sop_class: UID, modality: str, number: int, description: str, *key: object
) -> FileDataset:
    """A new object in the study of ``source``: its patient and study, a series of its own, UIDs derived from
    ``key``."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = uid_of(modality, *key)
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SpecificCharacterSet = "ISO_IR 192"
    for name in (*MAY_BE_EMPTY, "StudyInstanceUID"):
        setattr(ds, name, source.get(name, ""))
    now = datetime.now()
    ds.SOPClassUID = sop_class
    ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    ds.Modality = modality
    ds.SeriesInstanceUID = uid_of(f"{modality}-series", *key)
    ds.SeriesNumber = number
    ds.InstanceNumber = 1
    ds.SeriesDescription = description
    ds.Manufacturer = MANUFACTURER
    ds.ManufacturerModelName = MODEL
    ds.SoftwareVersions = __version__
    ds.ContentDate = now.strftime("%Y%m%d")
    ds.ContentTime = now.strftime("%H%M%S")
    return ds


def dicom_images(case: Case, what: str) -> list[int]:
    """Places of the images that came as DICOM. Raises UserError, naming ``what`` cannot be made, where none
    did."""
    there = [i for i, image in enumerate(case.images) if from_dicom(image)]
    if not there:
        raise UserError(
            f"{case.case_id}: no {what} can be made, because its images came without DICOM identifiers "
            "(NIfTI or pictures); "
            "give the DICOM originals"
        )
    return there
