"""Slices of one orientation → a volume, sorted by position; what cannot be stacked is refused by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from ..case import Geometry, Image
from ..errors import UnsupportedError
from .child import children
from .decode import check_size, plain_tail, read_pixels
from .geometry import check_orientation, normal_of, same_places, stack_slices
from .headers import FileEntry
from .roles import role_of, traits
from .scaling import rescale, scaled_apart
from .source import source_of


def _floats(ds: Dataset, key: str, n: int, path: Path) -> np.ndarray:
    value = ds.get(key)
    try:
        numbers = np.array([float(v) for v in value]) if value is not None else np.zeros(0)
    except (TypeError, ValueError):
        raise UnsupportedError(path, f"its {key} ({value}) is not made of numbers") from None
    if len(numbers) != n:
        raise UnsupportedError(path, f"has no {key}, so its pixels have no place in the patient")
    if not np.isfinite(numbers).all():
        raise UnsupportedError(path, f"its {key} holds values that are not finite")
    return numbers


@dataclass(frozen=True)
class Acquisition:
    """The slices of one volume: their entries, positions (N, 3) LPS mm, orientation (6,), spacing (row, column) mm."""

    slices: list[FileEntry]
    positions: np.ndarray
    orientation: np.ndarray
    spacing: np.ndarray


def acquisitions(group: list[FileEntry]) -> list[Acquisition]:
    """Slices of one orientation and size → one volume, or several where each place was acquired several times.

    Raises UnsupportedError.
    """
    headers = [e.header for e in group if e.header is not None]
    first = headers[0]
    orientation = _floats(first, "ImageOrientationPatient", 6, group[0].path)
    wrong = check_orientation(orientation)
    if wrong:
        raise UnsupportedError(group[0].path, wrong)
    spacing = _floats(first, "PixelSpacing", 2, group[0].path)
    if (spacing <= 0).any():
        raise UnsupportedError(group[0].path, f"PixelSpacing {spacing.tolist()} is not positive")
    positions = np.array([_floats(h, "ImagePositionPatient", 3, e.path) for e, h in zip(group, headers, strict=True)])
    places = same_places(positions, normal_of(orientation))
    repeats = {len(p) for p in places}
    if repeats == {1}:
        sets = [list(range(len(group)))]
    elif len(repeats) == 1:  # the whole stack was acquired several times: one image each, in order of acquisition
        ordered = [sorted(p, key=lambda i: _acquired(headers[i])) for p in places]
        sets = [[p[k] for p in ordered] for k in range(repeats.pop())]
    else:
        many = max(len(p) for p in places)
        measured = (
            f"{sum(len(p) > 1 for p in places)} of {len(places)} slice places hold up to {many} slices and others one"
        )
        raise UnsupportedError(
            group[0].path.parent,
            f"{measured}; separate the acquisitions into series",
            measured,
            "equally many slices at each place",
        )
    return [Acquisition([group[i] for i in s], positions[s], orientation, spacing) for s in sets]


def _acquired(ds: Dataset) -> tuple:
    numbers = []
    for key in ("AcquisitionNumber", "InstanceNumber"):
        try:
            numbers.append(int(ds.get(key) or 0))
        except (TypeError, ValueError):
            numbers.append(0)
    return numbers[0], str(ds.get("AcquisitionTime", "")), numbers[1]


def read_stack(acquisition: Acquisition, modality: str, *, split: bool) -> Image:
    """One volume, every slice scaled by its own header. ``split``: one of several of its series. Raises UnreadableError."""
    group, spacing = acquisition.slices, acquisition.spacing
    headers = [e.header for e in group if e.header is not None]
    first = headers[0]
    thickness = float(first.get("SliceThickness") or 0.0)
    stack = stack_slices(acquisition.positions, acquisition.orientation, (spacing[0], spacing[1]), thickness)
    rows, columns = int(first.Rows), int(first.Columns)
    apart = scaled_apart(headers)
    for entry, header in zip(
        group, headers, strict=True
    ):  # before memory is asked for: a lying header asks for terabytes
        check_size(entry.path, header)
    # slices lie behind one another in memory, so each is written once and in order
    volume = np.empty((len(group), rows, columns), np.float32)

    def put(k: int, pixels: np.ndarray) -> str:
        entry = group[stack.order[k]]
        assert entry.header is not None
        if pixels.shape != (1, rows, columns):
            what = f"holds pixels {pixels.shape} where one {rows} × {columns} grey slice is due"
            raise UnsupportedError(entry.path, what)
        return rescale(pixels[0], entry.header, volume[k], apart)

    scalings, coded = set(), []
    for k, i in enumerate(stack.order):  # what needs no decoding is quickest without a thread
        tail = plain_tail(group[i].path, headers[i])
        if tail is None:
            coded.append(k)
        else:
            scalings.add(put(k, tail))

    def decode(k: int) -> str:
        i = stack.order[k]
        return put(k, read_pixels(group[i].path, headers[i]))

    scalings |= set(children().each(decode, coded))
    role, confidence = role_of(first, modality)
    geometry = stack.geometry
    if split and geometry.outcome == "exact":
        geometry = Geometry("split", geometry.measured, geometry.allowed)
    notes = [s for s in sorted(scalings) if s]
    if len(group) < 3:
        notes.append(f"only {len(group)} slice{'s' * (len(group) > 1)}: too few to check their spacing")
    if geometry.outcome not in ("exact", "split"):
        notes.append(f"geometry {geometry.outcome}: {geometry.measured}")
    image = Image(
        modality,  # type: ignore[arg-type]
        volume.transpose(2, 1, 0),
        source_of([group[i] for i in stack.order]),
        affine=stack.affine,
        frame_of_reference=str(first.get("FrameOfReferenceUID", "") or f"series:{first.SeriesInstanceUID}"),
        role=role,
        role_confidence=confidence,
        geometry=geometry,
        warnings=tuple(notes),
        traits=traits(first, modality),
    )
    image.plane = stack.plane
    return image
