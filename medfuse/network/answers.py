"""What a node is asked and answers: identifiers (PS3.4 C.2), attributes of answers, what a storage commitment
says."""

from __future__ import annotations

import struct

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from ..library import Library
from ..library.integrity import why_unusable
from .archive import files_of

LONGEST_VALUE = 1024  # characters of a value that is asked for; each is compared with every object
LONGEST_LIST = 1024**2  # characters of a list of UIDs that is asked for


def commitment_result(library: Library, asked: Dataset) -> Dataset:
    """Which of the asked instances are on disk, as they were received, and in the index."""
    out = Dataset()
    out.TransactionUID = asked.TransactionUID
    wanted = list(asked.get("ReferencedSOPSequence") or [])
    there = {
        u: path
        for u, _, _, path in files_of(
            library,
            {"SOPInstanceUID": "\\".join(str(r.ReferencedSOPInstanceUID) for r in wanted)},
        )
    }
    kept = []
    failed = []
    for r in wanted:
        item = Dataset()
        item.ReferencedSOPClassUID = r.ReferencedSOPClassUID
        item.ReferencedSOPInstanceUID = r.ReferencedSOPInstanceUID
        path = there.get(str(r.ReferencedSOPInstanceUID))
        if path is not None and not why_unusable(library, [path.name]):
            kept.append(item)
        else:
            item.FailureReason = 0x0112  # no such object instance
            failed.append(item)
    if kept:
        out.ReferencedSOPSequence = kept
    if failed:
        out.FailedSOPSequence = failed
    return out


def bounded(asked: dict[str, str]) -> bool:
    """Whether what is asked for can be compared with every object."""
    return all(len(v) <= (LONGEST_LIST if k.endswith("UID") else LONGEST_VALUE) for k, v in asked.items())


def element_of(keyword: str, value: str) -> DataElement | None:
    """An attribute of an answer; empty where what was received for it is no value of its kind."""
    tag = tag_for_keyword(keyword)
    if tag is None:
        return None
    vr = dictionary_VR(tag)
    probe = Dataset()
    probe.SpecificCharacterSet = "ISO_IR 192"
    written = DicomBytesIO()
    written.is_implicit_VR, written.is_little_endian = False, True
    try:
        probe.add_new(tag, vr, value.split("\\") if "\\" in value else value)
        write_dataset(written, probe)
    except (ValueError, TypeError, OverflowError, AttributeError, LookupError, OSError, struct.error):
        return DataElement(tag, vr, None)
    return probe[tag]


def uids_of(identifier: Dataset) -> dict[str, str]:
    """What of a patient's objects an identifier names."""
    keys = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    return {k: text_of(identifier.get(k)) for k in keys}


def text_of(value: object) -> str:
    if value is None:
        return ""
    return "\\".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
