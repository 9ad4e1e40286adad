"""One DICOM file's header without its pixels, and the first decision: image, set aside, or not ours."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import pydicom
import pydicom.config
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID
from pydicom.valuerep import VR

from ..errors import os_fault
from ..modalities import code_of_class, listed
from . import charset, overlays, private, suv
from .captures import is_capture, says_ultrasound
from .folder import why_no_file
from .parametric import PARAMETRIC_MAP, modality_of_map
from .referring import refers

Status = Literal["read", "duplicate", "set_aside", "not_dicom", "damaged", "unsupported"]

# Odd values are common and mostly harmless; what matters is checked by name, here and in the geometry.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE

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
    "RCBF",
    "RCBV",
    "RMTT",
    "TTP",
    "TMAX",  # perfusion maps
}
# These words alone outweigh a first value ORIGINAL, which says that the scanner made the pixels
# (PS3.3 C.7.6.1.1.2).
NEVER_ORIGINAL = {"SCREENSHOT"}
# What a scan needs of every file; the rest of a header is read when its series is.
INDEX = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "PatientID",
    "PatientName",
    "IssuerOfPatientID",
    "PatientSex",
    "PatientBirthDate",
    "StudyDate",
    "BodyPartExamined",
    "ImageType",
    "Modality",
    "Rows",
    "Columns",
)

# What reading a series needs of a header, with the vendors' own elements (see `private`).
WANTED: list[Any] = [
    *INDEX,
    "AdditionalPatientHistory",
    "ReasonForStudy",
    "AcquisitionNumber",
    "AcquisitionTime",
    "AcquisitionDate",
    "AcquisitionDateTime",
    "ComplexImageComponent",
    "ContentTime",
    "ConvolutionKernel",
    "DiffusionDirectionality",
    "NominalRespiratoryTriggerDelayTime",
    "DimensionIndexSequence",
    "DiffusionGradientOrientation",
    "KVP",
    "ReceiveCoilName",
    "SliceLocation",
    "TriggerTime",
    "BitsAllocated",
    "BitsStored",
    "CineRate",
    "ContrastBolusAgent",
    "DiffusionBValue",
    "EchoNumbers",
    "EchoTime",
    "EffectiveEchoTime",
    "NominalCardiacTriggerDelayTime",
    "InversionTimes",
    "FrameOfReferenceUID",
    "FrameIncrementPointer",
    "FrameTime",
    "FrameTimeVector",
    "HighBit",
    "ImageComments",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "InstanceNumber",
    "InStackPositionNumber",
    "InversionTime",
    "Manufacturer",
    "ManufacturerModelName",
    "ModalityLUTSequence",
    "NumberOfFrames",
    "PerFrameFunctionalGroupsSequence",
    "PhotometricInterpretation",
    "PixelRepresentation",
    "PixelSpacing",
    "ProtocolName",
    "RecommendedDisplayFrameRate",
    "RepetitionTime",
    "RescaleIntercept",
    "RescaleSlope",
    "SamplesPerPixel",
    "ScanOptions",
    "ScanningSequence",
    "SequenceName",
    "SequenceOfUltrasoundRegions",
    "SeriesDescription",
    "SharedFunctionalGroupsSequence",
    "SliceThickness",
    "VolumeFrameOfReferenceUID",
    "StackID",
    "TemporalPositionIdentifier",
    "FlipAngle",
    "ReconstructionDiameter",
    "FilterType",
    "ASLContext",
    "NominalPercentageOfCardiacPhase",
    "VelocityEncodingDirection",
    "AcquisitionContrast",
    "SpecificCharacterSet",
    *private.TAGS,
    *overlays.ROWS.values(),
    *suv.WANTED,
]
WANTED_TAGS = frozenset(Tag(w) for w in WANTED)
# Of these, what a classic CT or MR slice keeps as plain text or small numbers, which a scanner of text reads
# exactly.
PLAIN = (
    "TransferSyntaxUID",
    *(
        k
        for k in WANTED
        if isinstance(k, str) and dictionary_VR(k) not in ("SQ", "AT") and k not in suv.WANTED
    ),
    *overlays.ROWS,
)
NUMBERS = {
    *("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    "InStackPositionNumber",
    *overlays.ROWS,
}


@dataclass
class FileEntry:
    """One file of a scan and what became of it.

    tags: the INDEX attributes as text, values parted by backslashes; ``complete``: all of PLAIN, so the
        header is known.
    """

    path: Path
    status: Status
    reason: str = ""
    modality: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    complete: bool = False
    header: Dataset | None = None


def looks_like_dicom(path: Path | str) -> bool:
    """Part 10 magic, or a bare data set that begins with a plausible group 0002 or 0008 element."""
    with open(path, "rb", buffering=0) as f:
        head = f.read(140)
    if len(head) >= 132 and head[128:132] == b"DICM":
        return True
    if len(head) < 8:
        return False
    group = int.from_bytes(head[:2], "little")
    return group in (0x0002, 0x0008) and int.from_bytes(head[2:4], "little") < 0x0200


def full_header(path: Path) -> Dataset | str:
    """The WANTED attributes of one file, or one clause that says why not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of odd values; what matters is checked by name
        try:
            ds = pydicom.dcmread(path, stop_before_pixels=True, force=True)
            private.gather(ds)
            for tag in [t for t in list(ds.keys()) if t not in WANTED_TAGS]:  # quicker than to ask for WANTED
                del ds[tag]
            charset.obey(ds)
            for element in ds.iterall():  # parse now: a sequence that is damaged inside must fail here
                element.value  # noqa: B018
            return ds
        except InvalidDicomError:
            return "is not a DICOM file"
        except OSError as e:
            return f"cannot be read ({os_fault(e)}); check permissions or copy it again"
        except (MemoryError, RecursionError):
            raise
        except (
            Exception
        ) as e:  # a damaged header can break any element's parsing; every kind ends the same way
            return f"has a damaged header ({type(e).__name__}: {str(e)[:100]}); copy it again from the source"


@lru_cache(8192)
def _element(key: str, value: str) -> tuple[BaseTag, DataElement | RawDataElement]:
    """One attribute. Most are the same in every slice of a series, so they are parsed once."""
    number = overlays.ROWS.get(key) or tag_for_keyword(key)
    assert number is not None
    tag = BaseTag(number)
    try:
        if key in NUMBERS:
            return tag, DataElement(tag, VR.US, int(value))
        kind = dictionary_VR(tag)
        if kind in ("FD", "FL"):  # binary in a file, so no text can be parsed as they are
            numbers = [float(v) for v in value.split("\\")]
            return tag, DataElement(tag, kind, numbers[0] if len(numbers) == 1 else numbers)
        data = value.encode("ascii")
        raw = RawDataElement(tag, kind, len(data), data, 0, False, True)
        return tag, convert_raw_data_element(raw)
    except ValueError:
        return tag, DataElement(tag, "LO", value)  # whoever needs a number here says that it is none


def header_from_text(values: dict[str, str]) -> Dataset:
    """A header from attributes as text."""
    ds = Dataset(dict(_element(k, v) for k, v in values.items() if k != "TransferSyntaxUID"))
    ds.file_meta = FileMetaDataset()
    if "TransferSyntaxUID" in values:
        ds.file_meta.TransferSyntaxUID = UID(values["TransferSyntaxUID"])
    return ds


def index_tags(ds: Dataset) -> dict[str, str]:
    """The INDEX attributes of a header as text."""
    out = {}
    for key in INDEX:
        value = ds.get(key)
        if value is None or value == "":
            continue
        text = "\\".join(map(str, value)) if isinstance(value, (MultiValue, list)) else str(value).strip()
        out[key] = text.encode(
            "utf-8", "backslashreplace"
        ).decode()  # half a character must not break whoever stores it
    if "SOPClassUID" not in out and hasattr(ds, "file_meta"):
        out["SOPClassUID"] = str(getattr(ds.file_meta, "MediaStorageSOPClassUID", ""))
    return out


def read_header(path: Path) -> FileEntry:
    """Read one file's header here. Never raises for bad content: the entry says what is wrong."""
    no_file = why_no_file(path)
    if no_file:
        return FileEntry(path, "set_aside" if "not followed" in no_file else "damaged", no_file)
    try:
        if path.stat().st_size == 0:
            return FileEntry(path, "not_dicom", "the file is empty")
        if not looks_like_dicom(path):
            return FileEntry(path, "not_dicom", "not a DICOM file")
    except OSError as e:
        return FileEntry(
            path, "damaged", f"cannot be read ({os_fault(e)}); check permissions or copy it again"
        )
    ds = full_header(path)
    if isinstance(ds, str):
        return FileEntry(path, "damaged", ds)
    entry = classify(path, index_tags(ds))
    if entry.status == "read":
        entry.header = ds
    return entry


def _no_image(path: Path, tags: dict[str, str]) -> FileEntry:
    """What is no image of ours; ultrasound in a class that says nothing is refused until a user states it."""
    what = f"{UID(tags['SOPClassUID']).name}: not an image of {listed()}"
    if says_ultrasound(tags):
        what += "; it says it is ultrasound: state that with --modality US to take it"
        return FileEntry(path, "unsupported", what, tags=tags)
    if tags["SOPClassUID"] == PARAMETRIC_MAP:  # its references may say what it was made from
        what = f"{UID(PARAMETRIC_MAP).name}: made from no one of {listed()} that it names"
        return FileEntry(path, "set_aside", what, tags=tags)
    known = is_capture(tags) or refers(tags["SOPClassUID"])
    return FileEntry(path, "set_aside", what, tags=tags if known else {})


def classify(path: Path, tags: dict[str, str]) -> FileEntry:
    """What a file with these INDEX attributes is."""
    sop = tags.get("SOPClassUID", "")
    if sop == "1.2.840.10008.1.3.10":
        return FileEntry(path, "set_aside", "DICOMDIR: an index, not an image")
    if not sop:
        return FileEntry(path, "damaged", "has no SOP Class UID; the header is incomplete")
    kinds = {v.strip().upper() for v in tags.get("ImageType", "").split("\\")}
    if "SYNTHETIC" in kinds:  # whatever its class, and no capture either
        return FileEntry(path, "unsupported", "is synthetic: made by a model, not acquired, and no evidence")
    modality = modality_of_map(tags) if sop == PARAMETRIC_MAP else code_of_class(sop)
    if not modality:
        return _no_image(path, tags)
    if not tags.get("SOPInstanceUID") or not tags.get("SeriesInstanceUID"):
        return FileEntry(path, "damaged", "has no SOP Instance or Series Instance UID", modality, tags)
    if not tags.get("StudyInstanceUID"):
        why = "has no StudyInstanceUID, so it belongs to no study; send it again from the archive"
        return FileEntry(path, "damaged", why, modality, tags)
    if tags.get("Rows", "0") == "0" or tags.get("Columns", "0") == "0":
        return FileEntry(path, "damaged", "has no Rows or Columns: the header is truncated", modality, tags)
    if "LOCALIZER" in kinds:
        return FileEntry(path, "set_aside", "localiser", modality, tags)
    from_scanner = tags.get("ImageType", "").split("\\")[0].strip().upper() == "ORIGINAL"
    made = sorted(kinds & (NEVER_ORIGINAL if from_scanner else MADE_FROM_OTHERS))
    if made:
        why = f"{made[0].lower()}: made from other images, no independent evidence"
        return FileEntry(path, "set_aside", why, modality, tags)
    return FileEntry(path, "read", modality=modality, tags=tags)
