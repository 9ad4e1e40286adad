"""Which attributes stay, and what becomes of the others (PS3.15 annex E, by whitelist)."""

from __future__ import annotations

from typing import Literal

from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import DataElement

from .values import BY_KEYWORD
from .vocabulary import words

Action = Literal["keep", "remove", "uid", "date", "code", "items", "table"]
NUMBERS = {"DS", "IS", "US", "SS", "UL", "SL", "FD", "FL", "SV", "UV", "AT", "CS"}
DATES = {"DA", "TM", "DT"}
SHIFTED = ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate")
# Groups whose numbers and codes describe the image, not the person.
TECHNICAL_GROUPS = {0x0018, 0x0020, 0x0028, 0x0054, 0x3002, 0x5200}
# Attributes of other groups that stay, if their values pass their check (`values`).
KEPT = words(
    """
    ImageType SOPClassUID SOPInstanceUID Modality ModalitiesInStudy Manufacturer ManufacturerModelName
    PresentationIntentType FrameType PixelPresentation VolumetricProperties VolumeBasedCalculationTechnique
    ComplexImageComponent AcquisitionContrast AngioFlag AnatomicRegionSequence ReferencedSOPClassUID
    ReferencedSOPInstanceUID ReferencedImageSequence SourceImageSequence DerivationCodeSequence
    PurposeOfReferenceCodeSequence ReferencedSeriesSequence ReferencedInstanceSequence
    RealWorldValueMappingSequence RealWorldValueIntercept RealWorldValueSlope
    RealWorldValueFirstValueMapped RealWorldValueLastValueMapped MeasurementUnitsCodeSequence
    AnatomicRegionModifierSequence ViewCodeSequence QuantityDefinitionSequence IrradiationEventUID
    TransducerType PatientOrientation
    """
)
# Checked together, as one item (`codes`).
CODE = frozenset(["CodeValue", "CodingSchemeDesignator", "CodeMeaning", "CodingSchemeVersion"])
# Technical by number, telling by content, or tables of display that can hold anything.
DROPPED = words(
    """
    AcquisitionDeviceProcessingDescription DeviceSerialNumber PlateID DetectorID GantryID ProtocolName
    CassetteID ModifyingDeviceID DateOfLastCalibration TimeOfLastCalibration BurnedInAnnotation StudyID
    ImageComments FrameComments StationName ContributionDescription UsedFiducialsSequence
    RequestedSubsequentWorkitemCodeSequence ContributingEquipmentSequence AcquisitionFieldOfViewLabel
    ICCProfile VOILUTSequence PresentationLUTSequence SoftcopyVOILUTSequence DimensionIndexPrivateCreator
    FunctionalGroupPrivateCreator PixelPaddingRangeLimitLUT OverlayData OriginalAttributesSequence
    DeidentificationMethodCodeSequence
    """
)
# Type 2 in their modules: they must be there, so they are emptied.
EMPTIED = words(
    """
    StudyDate StudyTime AccessionNumber ReferringPhysicianName PatientBirthDate PatientSex StudyID
    PositionReferenceIndicator PatientName PatientID Manufacturer PatientOrientation
    """
)
# UIDs that are kept where the standard defines them.
CLASSES = ("TransferSyntaxUID", "CodingSchemeUID", "MappingResourceUID", "ContextUID")


def action_of(element: DataElement, *, retain_uids: bool, shift_dates: bool) -> Action:
    """What becomes of one element of the data set."""
    if not _known(element) or element.keyword in DROPPED:
        return "remove"
    if element.keyword == "PixelData":
        return "keep"
    if element.VR == "UI":
        return _uid_action(element, retain_uids=retain_uids)
    if element.VR in DATES:
        return "date" if shift_dates and element.VR == "DA" and element.keyword in SHIFTED else "remove"
    if element.keyword in CODE:
        return "code"
    if element.keyword == "LUTData":
        return "table"
    if not _stays(element):
        return "remove"
    return "items" if element.VR == "SQ" else "keep"


def _known(element: DataElement) -> bool:
    """Whether the standard has this attribute, with this VR, outside the groups of overlays and curves."""
    tag = element.tag
    if tag.is_private or 0x5000 <= tag.group < 0x5100 or 0x6000 <= tag.group < 0x6100:
        return False
    return dictionary_has_tag(tag) and element.VR in dictionary_VR(tag).split(" or ")


def _stays(element: DataElement) -> bool:
    """Whether a rule keeps the attribute: by name, or as a number, code or sequence of a technical group."""
    if element.keyword in KEPT or element.keyword in BY_KEYWORD:
        return True
    return element.tag.group in TECHNICAL_GROUPS and (element.VR in NUMBERS or element.VR == "SQ")


def _uid_action(element: DataElement, *, retain_uids: bool) -> Action:
    """A class of the standard stays, an instance gets its pseudonym, what is no UID of an image goes."""
    keyword = element.keyword
    if keyword.endswith("SOPClassUID") or keyword in CLASSES:
        return "keep"
    if keyword not in KEPT and element.tag.group not in TECHNICAL_GROUPS and not keyword.endswith("UID"):
        return "remove"
    return "keep" if retain_uids else "uid"
