"""One DICOM file's header, read without its pixels, and the first decision: image, set aside, or not ours."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pydicom
import pydicom.config
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID

Status = Literal["read", "duplicate", "set_aside", "not_dicom", "damaged", "unsupported"]

# Odd values are common and mostly harmless; what matters is checked by name, here and in the geometry.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE

IMAGE_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.2": "CT",
    "1.2.840.10008.5.1.4.1.1.2.1": "CT",  # enhanced
    "1.2.840.10008.5.1.4.1.1.2.2": "CT",  # legacy converted enhanced
    "1.2.840.10008.5.1.4.1.1.4": "MR",
    "1.2.840.10008.5.1.4.1.1.4.1": "MR",
    "1.2.840.10008.5.1.4.1.1.4.4": "MR",
    "1.2.840.10008.5.1.4.1.1.6": "US",  # retired
    "1.2.840.10008.5.1.4.1.1.6.1": "US",
    "1.2.840.10008.5.1.4.1.1.3": "US",  # multi-frame, retired
    "1.2.840.10008.5.1.4.1.1.3.1": "US",
}
# Image types that are made from other images: not independent evidence.
MADE_FROM_OTHERS = {
    "MPR",
    "REFORMATTED",
    "MIP",
    "MINIP",
    "PROJECTION IMAGE",
    "CSA MPR",
    "SCREENSHOT",
    "CURVED PLANAR",
}
HEADER_BYTES = 64 * 1024 * 1024  # a header larger than this is not a header


@dataclass
class FileEntry:
    """One file of a scan and what became of it."""

    path: Path
    status: Status
    reason: str = ""
    modality: str = ""
    header: Dataset | None = None


def looks_like_dicom(path: Path) -> bool:
    """Part 10 magic, or a bare data set that begins with a plausible group 0002 or 0008 element."""
    with path.open("rb") as f:
        head = f.read(140)
    if len(head) >= 132 and head[128:132] == b"DICM":
        return True
    if len(head) < 8:
        return False
    group = int.from_bytes(head[:2], "little")
    return group in (0x0002, 0x0008) and int.from_bytes(head[2:4], "little") < 0x0200


def read_header(path: Path) -> FileEntry:
    """Read one file's header. Never raises for bad content: the entry says what is wrong."""
    try:
        if path.stat().st_size == 0:
            return FileEntry(path, "not_dicom", "the file is empty")
        if not looks_like_dicom(path):
            return FileEntry(path, "not_dicom", "not a DICOM file")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns of odd values; what matters is checked below
            ds = pydicom.dcmread(path, stop_before_pixels=True, force=True, defer_size=HEADER_BYTES)
            return _classify(path, ds)
    except InvalidDicomError:
        return FileEntry(path, "not_dicom", "not a DICOM file")
    except OSError as e:
        return FileEntry(path, "damaged", f"cannot be read ({e.strerror or e}); check permissions or copy it again")
    except Exception as e:  # a damaged header can break any element's parsing; every kind ends the same way
        return FileEntry(
            path,
            "damaged",
            f"its header is damaged ({type(e).__name__}: {str(e)[:100]}); copy it again from the source",
        )


def _classify(path: Path, ds: Dataset) -> FileEntry:
    sop = str(ds.get("SOPClassUID", "") or getattr(ds.file_meta, "MediaStorageSOPClassUID", ""))
    if sop == "1.2.840.10008.1.3.10":
        return FileEntry(path, "set_aside", "DICOMDIR: an index, not an image")
    if not sop:
        return FileEntry(path, "damaged", "has no SOP Class UID; the header is incomplete")
    if sop not in IMAGE_CLASSES:
        return FileEntry(path, "set_aside", f"{UID(sop).name}: not a CT, MR or ultrasound image")
    modality = IMAGE_CLASSES[sop]
    if not ds.get("SOPInstanceUID") or not ds.get("SeriesInstanceUID"):
        return FileEntry(path, "damaged", "has no SOP Instance or Series Instance UID", modality)
    if not ds.get("Rows") or not ds.get("Columns"):
        return FileEntry(path, "damaged", "has no Rows or Columns: the header is truncated", modality)
    kinds = {str(v).upper() for v in (ds.get("ImageType") or [])}
    if "LOCALIZER" in kinds:
        return FileEntry(path, "set_aside", "localiser", modality)
    made = kinds & MADE_FROM_OTHERS
    if made:
        return FileEntry(
            path,
            "set_aside",
            f"{made.pop().lower()}: made from other images, no independent evidence",
            modality,
        )
    return FileEntry(path, "read", modality=modality, header=ds)
