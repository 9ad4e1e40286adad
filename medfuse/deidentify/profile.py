"""PS3.15 Basic Application Confidentiality Profile by whitelist: an attribute stays only because a rule here says so.

A whitelist is stricter than Table E.1-1: what the table does not know (private tags, new attributes, comments) goes too.
Kept are pixels, geometry, acquisition numbers and codes. Options: retain UIDs, dates shifted, descriptors cleaned.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from .keys import Pseudonyms

NUMBERS = {"DS", "IS", "US", "SS", "UL", "SL", "FD", "FL", "SV", "UV", "AT", "CS", "OW", "OB", "OF", "OD"}
DATES = {"DA", "TM", "DT"}
# Groups whose numbers and codes describe the image, not the person.
TECHNICAL_GROUPS = {0x0018, 0x0020, 0x0028, 0x0054, 0x3002, 0x5200, 0x7FE0, 0x7FE1}
KEPT = {
    "SpecificCharacterSet", "ImageType", "SOPClassUID", "SOPInstanceUID", "Modality", "ModalitiesInStudy", "Manufacturer",
    "ManufacturerModelName", "PresentationIntentType", "FrameType", "PixelPresentation", "VolumetricProperties",
    "VolumeBasedCalculationTechnique", "ComplexImageComponent", "AcquisitionContrast", "SequenceName", "AngioFlag",
    "CodeValue", "CodingSchemeDesignator", "CodeMeaning", "CodingSchemeVersion", "AnatomicRegionSequence", "ReferencedSOPClassUID",
    "ReferencedSOPInstanceUID", "ReferencedImageSequence", "SourceImageSequence", "DerivationCodeSequence",
    "PurposeOfReferenceCodeSequence", "ReferencedSeriesSequence", "ReferencedInstanceSequence", "RealWorldValueMappingSequence",
    "RealWorldValueIntercept", "RealWorldValueSlope", "RealWorldValueFirstValueMapped", "RealWorldValueLastValueMapped",
    "MeasurementUnitsCodeSequence", "AnatomicRegionModifierSequence", "ViewCodeSequence", "QuantityDefinitionSequence",
    "IrradiationEventUID", "RescaleType", "TransducerType", "TransducerData", "PatientOrientation",
}  # fmt: skip
# Technical by number, telling by content.
DROPPED = {
    "AcquisitionDeviceProcessingDescription", "DeviceSerialNumber", "PlateID", "DetectorID", "GantryID", "ProtocolName",
    "CassetteID", "ModifyingDeviceID", "DateOfLastCalibration", "TimeOfLastCalibration", "BurnedInAnnotation", "StudyID", "ImageComments",
    "FrameComments", "StationName", "ContributionDescription", "UsedFiducialsSequence", "RequestedSubsequentWorkitemCodeSequence",
    "ContributingEquipmentSequence", "AcquisitionFieldOfViewLabel",
}  # fmt: skip
# Type 2 in their modules: they must be there, so they are emptied.
EMPTIED = {
    "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "PatientBirthDate", "PatientSex", "StudyID",
    "PositionReferenceIndicator", "PatientName", "PatientID",
}  # fmt: skip
DESCRIPTORS = ("SeriesDescription", "StudyDescription", "ProtocolName")
VOCABULARY = set(
    [
        "abd",
        "abdomen",
        "abdominal",
        "adc",
        "arterial",
        "axial",
        "b0",
        "b50",
        "b400",
        "b800",
        "b1000",
        "bh",
        "brain",
        "breast",
        "breathhold",
        "cardiac",
        "chest",
        "cine",
        "contrast",
        "cor",
        "coronal",
        "ct",
        "ce",
        "cta",
        "delayed",
        "diff",
        "diffusion",
        "dwi",
        "dual",
        "dyn",
        "dynamic",
        "echo",
        "enhanced",
        "epi",
        "fat",
        "fatsat",
        "fiesta",
        "flair",
        "flash",
        "fs",
        "fse",
        "gad",
        "gre",
        "grad",
        "haste",
        "head",
        "hepatic",
        "hepatobiliary",
        "in",
        "ip",
        "kidney",
        "late",
        "lava",
        "liver",
        "loc",
        "localizer",
        "mr",
        "mra",
        "mri",
        "mprage",
        "native",
        "neck",
        "non",
        "op",
        "opp",
        "opposed",
        "out",
        "pancreas",
        "pelvis",
        "phase",
        "plain",
        "plane",
        "portal",
        "post",
        "pre",
        "pv",
        "sag",
        "sagittal",
        "scout",
        "se",
        "sequence",
        "series",
        "space",
        "spair",
        "spgr",
        "spine",
        "spleen",
        "ssfp",
        "stir",
        "sub",
        "sweep",
        "t1",
        "t1w",
        "t2",
        "t2w",
        "tirm",
        "tra",
        "transverse",
        "trufi",
        "tse",
        "ultrasound",
        "unenhanced",
        "upper",
        "us",
        "venous",
        "vibe",
        "view",
        "w",
        "with",
        "without",
        "2d",
        "3d",
        "simulated",
    ]
)


@dataclass(frozen=True)
class Options:
    """Retain UIDs; dates shifted by one hidden number of days a patient, or removed; descriptors cleaned, or removed."""

    retain_uids: bool = False
    shift_dates: bool = True
    clean_descriptors: bool = True


@dataclass
class Changes:
    """What was done to one data set, by keyword."""

    removed: dict[str, int] = field(default_factory=dict)
    replaced: dict[str, int] = field(default_factory=dict)

    def note(self, where: dict[str, int], element: DataElement) -> None:
        name = element.keyword or f"({element.tag.group:04X},{element.tag.element:04X})"
        where[name] = where.get(name, 0) + 1


def clean_words(text: str) -> str:
    """Only words of the radiological vocabulary, in their order."""
    parts = "".join(c if c.isalnum() else " " for c in text).split()
    return " ".join(p for p in parts if p.lower() in VOCABULARY)


def deidentify(ds: Dataset, pseudonyms: Pseudonyms, options: Options) -> Changes:
    """Change ``ds`` in place."""
    changes = Changes()
    patient = str(ds.get("PatientID", "") or ds.get("StudyInstanceUID", ""))
    days = pseudonyms.days(patient)
    description = {k: str(ds.get(k, "")) for k in DESCRIPTORS}
    contrast = bool(str(ds.get("ContrastBolusAgent", "")).strip())
    _walk(ds, pseudonyms, options, changes, days)
    ds.PatientName = ds.PatientID = pseudonyms.patient(patient)
    ds.PatientBirthDate = ds.PatientSex = ""
    ds.StudyID = ds.AccessionNumber = ds.ReferringPhysicianName = ""
    if contrast:
        ds.ContrastBolusAgent = "CONTRAST AGENT"
    if options.clean_descriptors:
        for key, text in description.items():
            cleaned = clean_words(text)
            if cleaned:
                setattr(ds, key, cleaned)
    ds.PatientIdentityRemoved = "YES"
    ds.DeidentificationMethod = "medfuse, PS3.15 Basic Profile by whitelist"
    ds.DeidentificationMethodCodeSequence = Sequence(_codes(options))
    ds.LongitudinalTemporalInformationModified = "MODIFIED" if options.shift_dates else "REMOVED"
    return changes


def _codes(options: Options) -> list[Dataset]:
    """PS3.16 CID 7050."""
    rows = [("113100", "Basic Application Confidentiality Profile"), ("113101", "Clean Pixel Data Option")]
    if options.clean_descriptors:
        rows.append(("113105", "Clean Descriptors Option"))
    if options.shift_dates:
        rows.append(("113107", "Retain Longitudinal Temporal Information Modified Dates Option"))
    if options.retain_uids:
        rows.append(("113110", "Retain UIDs Option"))
    out = []
    for value, meaning in rows:
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
        out.append(item)
    return out


def _walk(ds: Dataset, pseudonyms: Pseudonyms, options: Options, changes: Changes, days: int) -> None:
    for tag in list(ds.keys()):
        element = ds[tag]
        action = _action(element, options)
        if action == "remove" and element.keyword in EMPTIED:
            changes.note(changes.replaced, element)
            element.value = ""
        elif action == "remove":
            changes.note(changes.removed, element)
            del ds[tag]
        elif action == "uid":
            changes.note(changes.replaced, element)
            values = [element.value] if element.VM <= 1 else list(element.value)
            new = [pseudonyms.uid(str(v)) for v in values if v]
            element.value = new[0] if len(new) == 1 else new or ""
        elif action == "date":
            changes.note(changes.replaced, element)
            element.value = pseudonyms.shift(str(element.value or ""), days)
        elif element.VR == "SQ":
            for item in element.value:
                _walk(item, pseudonyms, options, changes, days)
            if not any(len(item) for item in element.value):
                changes.note(changes.removed, element)
                del ds[tag]


def _action(element: DataElement, options: Options) -> str:
    """keep, remove, uid or date."""
    tag, vr, keyword = element.tag, element.VR, element.keyword
    if tag.is_private or keyword in DROPPED or 0x5000 <= tag.group < 0x5100 or 0x6000 <= tag.group < 0x6100:
        return "remove"
    if vr == "UI":
        if keyword.endswith("SOPClassUID") or keyword in (
            "TransferSyntaxUID",
            "CodingSchemeUID",
            "MappingResourceUID",
            "ContextUID",
        ):
            return "keep"
        if keyword not in KEPT and tag.group not in TECHNICAL_GROUPS and not keyword.endswith("UID"):
            return "remove"
        return "keep" if options.retain_uids else "uid"
    if vr == "DA" and keyword in ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate"):
        return "date" if options.shift_dates else "remove"
    if vr in DATES:
        return "remove"
    if keyword in KEPT:
        return "keep"
    if tag.group in TECHNICAL_GROUPS and (vr in NUMBERS or vr == "SQ"):
        return "keep"
    return "remove"
