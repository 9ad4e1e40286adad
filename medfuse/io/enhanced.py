"""Enhanced multi-frame CT and MR: split by functional groups, then stacked like slices."""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset

from ..case import Geometry, Image
from ..errors import UnreadableError
from .decode import read_pixels
from .geometry import check_orientation, normal_of, same_places, stack_slices
from .headers import FileEntry
from .roles import role_of


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
    """One image for each combination of stack, orientation, temporal position, b-value, echo and frame type."""
    from .series import source_of

    ds = entry.header
    assert ds is not None
    shared = (ds.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    frames = list(ds.PerFrameFunctionalGroupsSequence)
    if len(frames) != int(ds.get("NumberOfFrames") or 0):
        raise UnreadableError(entry.path, f"describes {len(frames)} frames but says it has {ds.get('NumberOfFrames')}")
    sets: dict[tuple, list[int]] = {}
    for i, frame in enumerate(frames):
        orientation = _value(frame, shared, "PlaneOrientationSequence", "ImageOrientationPatient")
        position = _value(frame, shared, "PlanePositionSequence", "ImagePositionPatient")
        spacing = _value(frame, shared, "PixelMeasuresSequence", "PixelSpacing")
        if orientation is None or position is None or spacing is None:
            raise UnreadableError(
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
        raise UnreadableError(entry.path, "is an enhanced image in colour; only grey ones are read")
    images = []
    for members in sets.values():
        images += _images(entry, ds, shared, frames, members, pixels, source_of([entry]), split=len(sets) > 1)
    return images


def _images(entry, ds, shared, frames, members, pixels, source, *, split: bool) -> list[Image]:
    first = frames[members[0]]
    orientation = np.array(
        [float(v) for v in _value(first, shared, "PlaneOrientationSequence", "ImageOrientationPatient")]
    )
    wrong = check_orientation(orientation)
    if wrong:
        raise UnreadableError(entry.path, wrong)
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
        raise UnreadableError(
            entry.path,
            f"{sum(len(p) > 1 for p in places)} of {len(places)} slice places hold more frames than the others",
        )
    out = []
    for k in range(repeats.pop()):
        chosen = [p[k] for p in places]
        stack = stack_slices(positions[chosen], orientation, (spacing[0], spacing[1]), thickness)
        volume = np.empty((pixels.shape[2], pixels.shape[1], len(chosen)), np.float32)
        for z, j in enumerate(stack.order):
            number = members[chosen[j]]
            transform = _group(frames[number], shared, "PixelValueTransformationSequence") or Dataset()
            slope, intercept = (
                float(transform.get("RescaleSlope") or 1),
                float(transform.get("RescaleIntercept") or 0),
            )
            volume[:, :, z] = pixels[number].astype(np.float32).T * np.float32(slope) + np.float32(intercept)
        role, confidence = role_of(ds, entry.modality)
        geometry = stack.geometry
        if (split or len(places[0]) > 1) and geometry.outcome == "exact":
            geometry = Geometry("split", geometry.measured, geometry.allowed)
        notes = () if geometry.outcome in ("exact", "split") else (f"geometry {geometry.outcome}: {geometry.measured}",)
        image = Image(entry.modality, volume, source, affine=stack.affine,
                      frame_of_reference=str(ds.get("FrameOfReferenceUID", "") or f"series:{ds.SeriesInstanceUID}"),
                      role=role, role_confidence=confidence, geometry=geometry, warnings=notes)  # fmt: skip
        image.plane = stack.plane
        out.append(image)
    return out
