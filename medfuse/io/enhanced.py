"""Enhanced multi-frame CT and MR: each frame as a classic slice would be, then paired and stacked like
slices."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from pydicom.dataset import Dataset

from ..case import Geometry, Image
from ..errors import UnsupportedError
from .acquired import number
from .decode import read_pixels
from .frames import dimensions_of, flat_header, position_column
from .geometry import stack_slices
from .headers import FileEntry
from .overlays import Overlay, overlay_of
from .pairing import Slice, slice_of
from .parametric import PARAMETRIC_MAP, Mapping, NoQuantity, mapping_of
from .planes import Plane, check_apart, plane_of, planes, volumes_of
from .roles import UNKNOWN, role_of, traits
from .scaling import linear, scaled_apart
from .source import source_of

ULTRASOUND_VOLUME = "1.2.840.10008.5.1.4.1.1.6.2"
NOT_IN_THE_PATIENT = "lies in the frame of its own probe, not in the patient"


@dataclass(frozen=True, kw_only=True)
class _File:
    """One multi-frame file: its frames as slices, their pixels (F, H, W), and whether they are scaled apart;
    of a parametric map what each frame measures; what is drawn over the frames."""

    entry: FileEntry
    frames: list[Slice]
    pixels: np.ndarray
    apart: bool
    maps: list[Mapping]
    overlay: Overlay


def read_enhanced(entry: FileEntry) -> list[Image]:
    """One image for each volume of a file: frames of one orientation and spacing, paired by what differs; of
    a parametric map also for each quantity. One that does not say what it measures is set aside.

    The order of frames means nothing (PS3.3 A.70 for converted ones). Raises UnreadableError.
    """
    ds = entry.header
    assert ds is not None
    frames = _slices(entry, ds)
    try:
        maps = _maps(ds, entry.modality) if ds.get("SOPClassUID") == PARAMETRIC_MAP else []
    except NoQuantity as e:
        entry.status = "set_aside"
        entry.reason = f"parametric map: {e}"
        return []
    pixels = read_pixels(entry.path, ds)
    if pixels.ndim != 3:
        raise UnsupportedError(entry.path, "is an enhanced image in colour; only grey ones are read")
    apart = scaled_apart([f.header for f in frames])
    overlay = overlay_of([entry.path], [ds], pixels.shape)
    file = _File(entry=entry, frames=frames, pixels=pixels, apart=apart, maps=maps, overlay=overlay)
    groups: dict[str, list[int]] = {}
    for n in range(len(frames)):
        groups.setdefault(f"{maps[n].quantity} {maps[n].ucum}" if maps else "", []).append(n)
    found = [v for group in groups.values() for v in _volumes(file, group)]
    return [_volume(file, plane, members, volume, split=len(found) > 1) for plane, members, volume in found]


def _volumes(file: _File, group: list[int]) -> list[tuple[Plane, list[int], list[int]]]:
    """Of frames that measure one thing: each volume's plane, the frames of that plane, and places in them."""
    path = file.entry.path
    headers = [file.frames[i].header for i in group]
    parts = [[group[k] for k in part] for part in planes(headers, [path] * len(group))]
    check_apart([[file.frames[i].header for i in members] for members in parts], path)
    found: list[tuple[Plane, list[int], list[int]]] = []
    for members in parts:
        chosen = [file.frames[i] for i in members]
        plane = plane_of([s.header for s in chosen], [path] * len(chosen))
        found += [(plane, members, volume) for volume in volumes_of(chosen, plane, path)]
    return found


def _maps(ds: Dataset, modality: str) -> list[Mapping]:
    """What each frame of a parametric map measures. Raises NoQuantity."""
    shared = (ds.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    return [mapping_of(frame, shared, modality) for frame in ds.PerFrameFunctionalGroupsSequence]


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
        if file.maps:
            measured = file.maps[members[volume[k]]]
            slope, intercept = measured.slope, measured.intercept
        scalings.add(note)
        np.multiply(file.pixels[members[volume[k]]], np.float32(slope), out=values[z], casting="unsafe")
        values[z] += np.float32(intercept)
    ds = file.entry.header
    assert ds is not None
    geometry = stack.geometry
    if split and geometry.outcome == "exact":
        geometry = Geometry("split", geometry.measured, geometry.allowed)
    notes = [*(s for s in sorted(scalings) if s), *file.overlay.notes]
    if geometry.outcome not in ("exact", "split"):
        notes.append(f"geometry {geometry.outcome}: {geometry.measured}")
    said = traits(header, file.entry.modality)
    role, confidence = role_of(header, file.entry.modality)
    if file.maps:
        role, confidence = UNKNOWN
        said |= file.maps[members[volume[0]]].said
        empty = ~np.isfinite(values)
        if empty.any():
            notes.append(f"{int(empty.sum())} voxels hold no number and became 0")
            values[empty] = 0
    elif ds.get("SOPClassUID") == ULTRASOUND_VOLUME:
        role, confidence = "volume", 1.0
        if _by_its_probe(ds):
            notes.append(NOT_IN_THE_PATIENT)
    drawn = (
        None if file.overlay.mask is None else file.overlay.mask[[members[volume[k]] for k in stack.order]]
    )
    return Image(
        file.entry.modality,
        values.transpose(2, 1, 0),
        replace(source_of([file.entry]), frames=tuple(members[volume[k]] + 1 for k in stack.order)),
        affine=stack.affine,
        frame_of_reference=_frame_of_reference(ds),
        role=role,
        role_confidence=confidence,
        geometry=geometry,
        warnings=tuple(notes),
        traits=said,
        overlay=None if drawn is None or not drawn.any() else drawn.transpose(2, 1, 0),
        plane=stack.plane,
    )


def _frame_of_reference(ds: Dataset) -> str:
    """What its places are said in."""
    key = "VolumeFrameOfReferenceUID" if _by_its_probe(ds) else "FrameOfReferenceUID"
    return str(ds.get(key, "") or f"series:{ds.SeriesInstanceUID}")


def _by_its_probe(ds: Dataset) -> bool:
    """Whether an ultrasound volume says where its frames lie beside one another, and not in the patient."""
    groups = [*(ds.get("SharedFunctionalGroupsSequence") or ())[:1], ds.PerFrameFunctionalGroupsSequence[0]]
    patient = any(g.get("PlanePositionSequence") for g in groups)
    return ds.get("SOPClassUID") == ULTRASOUND_VOLUME and not patient
