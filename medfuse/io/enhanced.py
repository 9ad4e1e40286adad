"""Enhanced multi-frame CT and MR: each frame as a classic slice would be, then paired and stacked like
slices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset

from ..case import Geometry, Image
from ..errors import UnsupportedError
from .acquired import number
from .decode import read_pixels
from .frames import dimensions_of, flat_header, position_column
from .geometry import stack_slices
from .headers import FileEntry
from .pairing import Slice, slice_of
from .planes import Plane, check_apart, plane_of, planes, volumes_of
from .roles import role_of, traits
from .scaling import linear, scaled_apart
from .source import source_of


@dataclass(frozen=True, kw_only=True)
class _File:
    """One multi-frame file: its frames as slices, their pixels (F, H, W), and whether they are scaled
    apart."""

    entry: FileEntry
    frames: list[Slice]
    pixels: np.ndarray
    apart: bool


def read_enhanced(entry: FileEntry) -> list[Image]:
    """One image for each volume of a file: frames of one orientation and spacing, paired by what differs.

    The order of frames means nothing (PS3.3 A.70 for converted ones). Raises UnreadableError.
    """
    ds = entry.header
    assert ds is not None
    frames = _slices(entry, ds)
    pixels = read_pixels(entry.path, ds)
    if pixels.ndim != 3:
        raise UnsupportedError(entry.path, "is an enhanced image in colour; only grey ones are read")
    file = _File(entry=entry, frames=frames, pixels=pixels, apart=scaled_apart([f.header for f in frames]))
    found: list[tuple[Plane, list[int], list[int]]] = []
    parts = planes([f.header for f in frames], [entry.path] * len(frames))
    check_apart([[frames[i].header for i in members] for members in parts], entry.path)
    for members in parts:
        chosen = [frames[i] for i in members]
        plane = plane_of([s.header for s in chosen], [entry.path] * len(chosen))
        found += [(plane, members, volume) for volume in volumes_of(chosen, plane, entry.path)]
    return [_volume(file, plane, members, volume, split=len(found) > 1) for plane, members, volume in found]


def _slices(entry: FileEntry, ds: Dataset) -> list[Slice]:
    """Every frame as a slice. Raises UnsupportedError where one has no place."""
    shared = (ds.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    frames = list(ds.PerFrameFunctionalGroupsSequence)
    if len(frames) != int(ds.get("NumberOfFrames") or 0):
        raise UnsupportedError(
            entry.path, f"describes {len(frames)} frames but says it has {ds.get('NumberOfFrames')}"
        )
    out = []
    column = position_column(ds)
    for n, frame in enumerate(frames, 1):
        header = flat_header(ds, frame, shared)
        dimensions = dimensions_of(frame, shared)
        if "InStackPositionNumber" not in header and 0 < column < len(dimensions):
            header.InStackPositionNumber = dimensions[column]
        if any(k not in header for k in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")):
            raise UnsupportedError(
                entry.path,
                f"frame {n} has no position, orientation or spacing, so it has no place in the patient",
            )
        out.append(slice_of(header, dimensions))
    return out


def _volume(file: _File, plane: Plane, members: list[int], volume: list[int], *, split: bool) -> Image:
    """One volume, each frame scaled by its own header. members: frames of the plane; volume: places in it."""
    chosen = [file.frames[members[k]] for k in volume]
    header = chosen[0].header
    spacing = (float(plane.spacing[0]), float(plane.spacing[1]))
    thickness = number(header, "SliceThickness") or 0.0
    stack = stack_slices(plane.positions[volume], plane.orientation, spacing, thickness)
    values = np.empty((len(chosen), *file.pixels.shape[1:]), np.float32)
    scalings = set()
    for z, k in enumerate(stack.order):
        slope, intercept, note = linear(chosen[k].header, file.apart)
        scalings.add(note)
        np.multiply(file.pixels[members[volume[k]]], np.float32(slope), out=values[z], casting="unsafe")
        values[z] += np.float32(intercept)
    role, confidence = role_of(header, file.entry.modality)
    geometry = stack.geometry
    if split and geometry.outcome == "exact":
        geometry = Geometry("split", geometry.measured, geometry.allowed)
    notes = [s for s in sorted(scalings) if s]
    if geometry.outcome not in ("exact", "split"):
        notes.append(f"geometry {geometry.outcome}: {geometry.measured}")
    ds = file.entry.header
    assert ds is not None
    return Image(
        file.entry.modality,
        values.transpose(2, 1, 0),
        source_of([file.entry]),
        affine=stack.affine,
        frame_of_reference=str(ds.get("FrameOfReferenceUID", "") or f"series:{ds.SeriesInstanceUID}"),
        role=role,
        role_confidence=confidence,
        geometry=geometry,
        warnings=tuple(notes),
        traits=traits(header, file.entry.modality),
        plane=stack.plane,
    )
