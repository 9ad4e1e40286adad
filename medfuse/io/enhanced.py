"""Enhanced multi-frame CT and MR: split by functional groups, then stacked like slices."""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset

from ..case import Geometry, Image
from ..errors import UnsupportedError
from .decode import read_pixels
from .geometry import check_orientation, normal_of, same_places, stack_slices
from .headers import FileEntry
from .roles import role_of, traits
from .scaling import PHILIPS_SCALE_SLOPE, linear, scaled_apart
from .source import source_of

PHILIPS_FRAME = 0x2005140F  # private sequence with a frame's own attributes


def _group(frame: Dataset, shared: Dataset, name: str) -> Dataset | None:
    for where in (frame, shared):
        sequence = where.get(name)
        if sequence:
            return sequence[0]
    return None


def _value(frame: Dataset, shared: Dataset, group: str, key: str):
    found = _group(frame, shared, group)
    return None if found is None else found.get(key)


def read_enhanced(entry: FileEntry) -> list[Image]:
    """One image for each combination of stack, orientation, temporal position, b-value, echo and frame type.

    Raises UnreadableError.
    """
    ds = entry.header
    assert ds is not None
    shared = (ds.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    frames = list(ds.PerFrameFunctionalGroupsSequence)
    if len(frames) != int(ds.get("NumberOfFrames") or 0):
        raise UnsupportedError(entry.path, f"describes {len(frames)} frames but says it has {ds.get('NumberOfFrames')}")
    sets: dict[tuple, list[int]] = {}
    for i, frame in enumerate(frames):
        orientation = _value(frame, shared, "PlaneOrientationSequence", "ImageOrientationPatient")
        position = _value(frame, shared, "PlanePositionSequence", "ImagePositionPatient")
        spacing = _value(frame, shared, "PixelMeasuresSequence", "PixelSpacing")
        if orientation is None or position is None or spacing is None:
            raise UnsupportedError(
                entry.path,
                f"frame {i + 1} has no position, orientation or spacing, so it has no place in the patient",
            )
        content = _group(frame, shared, "FrameContentSequence") or Dataset()
        kinds = (
            _value(frame, shared, "MRImageFrameTypeSequence", "FrameType")
            or _value(frame, shared, "CTImageFrameTypeSequence", "FrameType")
            or ()
        )
        key = (
            tuple(round(float(v), 3) for v in orientation),
            str(content.get("StackID", "")),
            str(content.get("TemporalPositionIndex", "")),
            str(_value(frame, shared, "MRDiffusionSequence", "DiffusionBValue") or ""),
            str(_value(frame, shared, "MREchoSequence", "EffectiveEchoTime") or ""),
            tuple(str(k) for k in kinds)[2:4],
        )
        sets.setdefault(key, []).append(i)
    pixels = read_pixels(entry.path, ds)
    if pixels.ndim != 3:
        raise UnsupportedError(entry.path, "is an enhanced image in colour; only grey ones are read")
    scaled_by = [_scaled_by(_group(f, shared, "PixelValueTransformationSequence") or Dataset(), f, ds) for f in frames]
    apart = scaled_apart(scaled_by)
    images = []
    for members in sets.values():
        images += _images(
            entry, ds, shared, frames, members, pixels, source_of([entry]), scaled_by, apart, split=len(sets) > 1
        )
    return images


def _flat(ds: Dataset, frame: Dataset, shared: Dataset) -> Dataset:
    """What `roles` looks at, gathered from where an enhanced image keeps it."""
    out = Dataset()
    for key in ("SeriesDescription", "ProtocolName", "ImageType", "AcquisitionContrast", "ContrastBolusAgent"):
        if key in ds:
            out[key] = ds[key]
    for name, group, key in (
        ("EchoTime", "MREchoSequence", "EffectiveEchoTime"),
        ("RepetitionTime", "MRTimingAndRelatedParametersSequence", "RepetitionTime"),
        ("FlipAngle", "MRTimingAndRelatedParametersSequence", "FlipAngle"),
        ("DiffusionBValue", "MRDiffusionSequence", "DiffusionBValue"),
        ("AcquisitionContrast", "MRImageFrameTypeSequence", "AcquisitionContrast"),
    ):
        value = _value(frame, shared, group, key)
        if value is not None:
            setattr(out, name, value)
    return out


def _scaled_by(transform: Dataset, frame: Dataset, ds: Dataset) -> Dataset:
    """What `scaling.linear` looks at, gathered from where an enhanced frame keeps it (Philips: a private sequence)."""
    out = Dataset()
    out.Manufacturer = ds.get("Manufacturer", "")
    out.RescaleSlope, out.RescaleIntercept = transform.get("RescaleSlope"), transform.get("RescaleIntercept")
    private = frame.get(PHILIPS_FRAME)
    if private is not None and private.VR == "SQ" and private.value:
        inner = private.value[0]
        if PHILIPS_SCALE_SLOPE in inner:
            out[PHILIPS_SCALE_SLOPE] = inner[PHILIPS_SCALE_SLOPE]
    return out


def _images(entry, ds, shared, frames, members, pixels, source, scaled_by, apart, *, split: bool) -> list[Image]:
    first = frames[members[0]]
    orientation = np.array(
        [float(v) for v in _value(first, shared, "PlaneOrientationSequence", "ImageOrientationPatient")]
    )
    wrong = check_orientation(orientation)
    if wrong:
        raise UnsupportedError(entry.path, wrong)
    spacing = [float(v) for v in _value(first, shared, "PixelMeasuresSequence", "PixelSpacing")]
    thickness = float(_value(first, shared, "PixelMeasuresSequence", "SliceThickness") or 0)
    positions = np.array(
        [
            [float(v) for v in _value(frames[i], shared, "PlanePositionSequence", "ImagePositionPatient")]
            for i in members
        ]
    )
    places = same_places(positions, normal_of(orientation))
    repeats = {len(p) for p in places}
    if len(repeats) != 1:
        raise UnsupportedError(
            entry.path,
            f"{sum(len(p) > 1 for p in places)} of {len(places)} slice places hold more frames than the others",
        )
    out = []
    for k in range(repeats.pop()):
        chosen = [p[k] for p in places]
        stack = stack_slices(positions[chosen], orientation, (spacing[0], spacing[1]), thickness)
        volume = np.empty((len(chosen), *pixels.shape[1:]), np.float32)
        scalings = set()
        for z, j in enumerate(stack.order):
            number = members[chosen[j]]
            slope, intercept, note = linear(scaled_by[number], apart)
            scalings.add(note)
            np.multiply(pixels[number], np.float32(slope), out=volume[z], casting="unsafe")
            volume[z] += np.float32(intercept)
        header = _flat(ds, first, shared)
        role, confidence = role_of(header, entry.modality)
        geometry = stack.geometry
        if (split or len(places[0]) > 1) and geometry.outcome == "exact":
            geometry = Geometry("split", geometry.measured, geometry.allowed)
        notes = [s for s in sorted(scalings) if s]
        if geometry.outcome not in ("exact", "split"):
            notes.append(f"geometry {geometry.outcome}: {geometry.measured}")
        image = Image(entry.modality, volume.transpose(2, 1, 0), source, affine=stack.affine,
                      frame_of_reference=str(ds.get("FrameOfReferenceUID", "") or f"series:{ds.SeriesInstanceUID}"),
                      role=role, role_confidence=confidence, geometry=geometry, warnings=tuple(notes),
                      traits=traits(header, entry.modality))  # fmt: skip
        image.plane = stack.plane
        out.append(image)
    return out
