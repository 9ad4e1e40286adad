"""One frame of an enhanced object → a header as a classic slice has it, from its functional groups.

Values come from the frame's own group, else the shared one; where both are silent, from what a converter kept
unassigned or Philips keeps in a private sequence (PS3.3 C.7.6.16, C.8.13.5).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from pydicom.dataset import Dataset

from . import private

PHILIPS_FRAME = 0x2005140F  # private sequence with a frame's own attributes
# attribute of a classic slice, functional group, attribute there
GROUPS = (
    # of ultrasound: in the frame of the probe, and below in the patient's, where that is said
    ("ImagePositionPatient", "PlanePositionVolumeSequence", "ImagePositionVolume"),
    ("ImageOrientationPatient", "PlaneOrientationVolumeSequence", "ImageOrientationVolume"),
    ("ImagePositionPatient", "PlanePositionSequence", "ImagePositionPatient"),
    ("ImageOrientationPatient", "PlaneOrientationSequence", "ImageOrientationPatient"),
    ("PixelSpacing", "PixelMeasuresSequence", "PixelSpacing"),
    ("SliceThickness", "PixelMeasuresSequence", "SliceThickness"),
    ("RescaleSlope", "PixelValueTransformationSequence", "RescaleSlope"),
    ("RescaleIntercept", "PixelValueTransformationSequence", "RescaleIntercept"),
    ("ImageType", "MRImageFrameTypeSequence", "FrameType"),
    ("ImageType", "CTImageFrameTypeSequence", "FrameType"),
    ("ImageType", "PETFrameTypeSequence", "FrameType"),
    ("ImageType", "USImageDescriptionSequence", "FrameType"),
    ("ImageType", "ParametricMapFrameTypeSequence", "FrameType"),
    ("SequenceName", "ImageDataTypeSequence", "DataType"),
    ("AcquisitionContrast", "MRImageFrameTypeSequence", "AcquisitionContrast"),
    ("EchoTime", "MREchoSequence", "EffectiveEchoTime"),
    ("RepetitionTime", "MRTimingAndRelatedParametersSequence", "RepetitionTime"),
    ("FlipAngle", "MRTimingAndRelatedParametersSequence", "FlipAngle"),
    ("InversionTime", "MRModifierSequence", "InversionTimes"),
    ("ReceiveCoilName", "MRReceiveCoilSequence", "ReceiveCoilName"),
    ("DiffusionBValue", "MRDiffusionSequence", "DiffusionBValue"),
    ("DiffusionDirectionality", "MRDiffusionSequence", "DiffusionDirectionality"),
    (
        "NominalRespiratoryTriggerDelayTime",
        "RespiratorySynchronizationSequence",
        "NominalRespiratoryTriggerDelayTime",
    ),
    ("TriggerTime", "CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),
    ("NominalPercentageOfCardiacPhase", "CardiacSynchronizationSequence", "NominalPercentageOfCardiacPhase"),
    ("ComplexImageComponent", "MRImageFrameTypeSequence", "ComplexImageComponent"),
    ("ASLContext", "MRArterialSpinLabelingSequence", "ASLContext"),
    ("VelocityEncodingDirection", "MRVelocityEncodingSequence", "VelocityEncodingDirection"),
    ("KVP", "CTXRayDetailsSequence", "KVP"),
    ("ConvolutionKernel", "CTReconstructionSequence", "ConvolutionKernel"),
    ("StackID", "FrameContentSequence", "StackID"),
    ("TemporalPositionIdentifier", "FrameContentSequence", "TemporalPositionIndex"),
    ("InStackPositionNumber", "FrameContentSequence", "InStackPositionNumber"),
    ("AcquisitionNumber", "FrameContentSequence", "FrameAcquisitionNumber"),
    ("AcquisitionDateTime", "FrameContentSequence", "FrameReferenceDateTime"),
    ("AcquisitionDateTime", "FrameContentSequence", "FrameAcquisitionDateTime"),
    ("ImageComments", "FrameContentSequence", "FrameLabel"),
)
# said once for all frames
WHOLE = (
    "SeriesDescription",
    "ProtocolName",
    "ImageType",
    "AcquisitionContrast",
    "ContrastBolusAgent",
    "Manufacturer",
)
# what a converter, or Philips, keeps of the classic slice
KEPT = (
    "EchoTime",
    "EchoNumbers",
    "RepetitionTime",
    "InversionTime",
    "FlipAngle",
    "SequenceName",
    "ReceiveCoilName",
    "DiffusionBValue",
    "DiffusionGradientOrientation",
    "KVP",
    "ConvolutionKernel",
    "TriggerTime",
    "TemporalPositionIdentifier",
    "AcquisitionNumber",
    "AcquisitionDate",
    "AcquisitionTime",
    "AcquisitionDateTime",
    "SliceLocation",
    "InstanceNumber",
)


def flat_header(ds: Dataset, frame: Dataset, shared: Dataset) -> Dataset:
    """What a classic slice would say of this frame; an attribute is missing where nothing says it."""
    out = Dataset()
    for key in WHOLE:
        if key in ds:
            out[key] = ds[key]
    for name, group, key in GROUPS:
        value = _value(frame, shared, group, key)
        if value is not None and value != "":
            setattr(out, name, value)
    direction = _direction(frame, shared)
    if direction is not None:
        out.DiffusionGradientOrientation = direction
    for item in _kept(frame, shared):
        for key in KEPT:
            if key not in out and item.get(key) not in (None, ""):
                out[key] = item[key]
        private.copy_known(item, out)
    return out


def dimensions_of(frame: Dataset, shared: Dataset) -> tuple[int, ...]:
    """The time offset of a frame in ms (0 where it has none), then its DimensionIndexValues."""
    offset = _value(frame, shared, "TemporalPositionSequence", "TemporalPositionTimeOffset")
    values = _value(frame, shared, "FrameContentSequence", "DimensionIndexValues")
    milliseconds = 0
    with suppress(TypeError, ValueError, OverflowError):  # an offset that is no number is none
        milliseconds = round(float(offset) * 1000)
    try:
        listed = [values] if isinstance(values, (int, str)) else list(values or ())
        return (milliseconds, *(int(v) for v in listed))
    except (TypeError, ValueError):
        return (milliseconds,)


def position_column(ds: Dataset) -> int:
    """Which of `dimensions_of` counts the slices of a stack (its pointer is InStackPositionNumber); 0 where
    none does."""
    for n, item in enumerate(ds.get("DimensionIndexSequence") or (), 1):
        if item.get("DimensionIndexPointer") == 0x00209057:
            return n
    return 0


def _group(frame: Dataset, shared: Dataset, name: str) -> Dataset | None:
    for where in (frame, shared):
        sequence = where.get(name)
        if sequence:
            item: Dataset = sequence[0]
            return item
    return None


def _value(frame: Dataset, shared: Dataset, group: str, key: str) -> Any:
    found = _group(frame, shared, group)
    return None if found is None else found.get(key)


def _direction(frame: Dataset, shared: Dataset) -> Any:
    diffusion = _group(frame, shared, "MRDiffusionSequence")
    inner = None if diffusion is None else diffusion.get("DiffusionGradientDirectionSequence")
    return inner[0].get("DiffusionGradientOrientation") if inner else None


def _kept(frame: Dataset, shared: Dataset) -> Iterator[Dataset]:
    """Items that hold attributes of the classic slice, the frame's own first."""
    philips = frame.get(PHILIPS_FRAME)
    own = philips.value if philips is not None and philips.VR == "SQ" else None
    for sequence in (
        own,
        frame.get("UnassignedPerFrameConvertedAttributesSequence"),
        shared.get("UnassignedSharedConvertedAttributesSequence"),
    ):
        yield from list(sequence or ())[:1]
    yield frame  # vendors also keep private elements beside the groups
