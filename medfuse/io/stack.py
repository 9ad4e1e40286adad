"""Slices of one orientation → a volume, sorted by position; what cannot be stacked is refused by name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset

from ..case import Geometry, Image
from ..errors import UnsupportedError
from ..modalities import modality_of
from .acquired import number
from .child import children
from .decode import check_size, plain_tail, read_pixels
from .geometry import stack_slices
from .headers import FileEntry
from .index import with_private
from .overlays import overlay_of
from .pairing import slice_of
from .planes import plane_of, volumes_of
from .private import PHILIPS_SCALE
from .private import TAGS as PRIVATE
from .roles import role_of, traits
from .scaling import rescale, scaled_apart, some_scaled, unscaled, wrong_scaling
from .source import source_of
from .suv import NoSuv, Uptake, said, uptake_of

MR_CLASSIC = ("1.2.840.10008.5.1.4.1.1.4",)


@dataclass(frozen=True)
class Acquisition:
    """The slices of one volume: their entries, positions (N, 3) LPS mm, orientation (6,), spacing (row,
    column) mm."""

    slices: list[FileEntry]
    positions: np.ndarray
    orientation: np.ndarray
    spacing: np.ndarray


def acquisitions(group: list[FileEntry]) -> list[Acquisition]:
    """Slices of one orientation and size → one volume, or several where each place was acquired several
    times.

    Raises UnsupportedError.
    """
    headers = [e.header for e in group if e.header is not None]
    plane = plane_of(headers, [e.path for e in group])
    # one slice may have been looked at before: then all are, so that none seems to differ
    looked_at = any(tag in h for h in headers for tag in PRIVATE)
    if looked_at or max(len(p) for p in plane.places(range(len(group)))) > 1:
        with_private(group)
    slices = [slice_of(e.header) for e in group if e.header is not None]
    sets = volumes_of(slices, plane, group[0].path.parent)
    return [
        Acquisition([group[i] for i in s], plane.positions[s], plane.orientation, plane.spacing) for s in sets
    ]


def read_stack(acquisition: Acquisition, modality: str, *, split: bool) -> Image:
    """One volume, every slice scaled by its own header. ``split``: one of several of its series. Raises
    UnreadableError."""
    group = acquisition.slices
    spacing = acquisition.spacing
    _with_vendors(group)
    headers = [e.header for e in group if e.header is not None]
    first = headers[0]
    _check_scaling(group, headers)
    in_unit = modality_of(modality).unit is not None and modality_of(modality).values == "scaled"
    silent = unscaled(headers)[0] if in_unit else 0
    thickness = number(first, "SliceThickness") or 0.0
    stack = stack_slices(acquisition.positions, acquisition.orientation, (spacing[0], spacing[1]), thickness)
    values = _values([group[i] for i in stack.order], [headers[i] for i in stack.order], modality)
    told = first
    role, confidence = role_of(told, modality)
    geometry = stack.geometry
    if split and geometry.outcome == "exact":
        geometry = Geometry("split", geometry.measured, geometry.allowed)
    ordered = [group[i].path for i in stack.order], [headers[i] for i in stack.order]
    overlay = overlay_of(*ordered, values.volume.shape)
    notes = [*values.notes, *_notes(headers, told, geometry), *overlay.notes]
    if silent:
        notes.append("it states no RescaleIntercept: its values are as stored, and maybe in no unit")
    return Image(
        modality,
        values.volume.transpose(2, 1, 0),
        source_of([group[i] for i in stack.order]),
        affine=stack.affine,
        frame_of_reference=str(first.get("FrameOfReferenceUID", "") or f"series:{first.SeriesInstanceUID}"),
        role=role,
        role_confidence=confidence,
        geometry=geometry,
        warnings=tuple(notes),
        traits=traits(told, modality) | values.said,
        overlay=None if overlay.mask is None else overlay.mask.transpose(2, 1, 0),
        plane=stack.plane,
    )


def _with_vendors(group: list[FileEntry]) -> None:
    """Headers with the vendors' own elements: of one slice for b-value and direction, and of all where it has
    a scale slope of its own; a table of values is a sequence, which no text has."""
    first = group[0].header
    assert first is not None
    if str(first.get("SOPClassUID", "")) not in MR_CLASSIC and "RescaleSlope" in first:
        return
    with_private(group[:1])
    slopes = {str(e.header.get("RescaleSlope")) for e in group if e.header is not None}
    if len(slopes) > 1 or (group[0].header is not None and PHILIPS_SCALE.tag in group[0].header):
        with_private([e for e in group[1:] if e.header is not None and PHILIPS_SCALE.tag not in e.header])


def _check_scaling(group: list[FileEntry], headers: list[Dataset]) -> None:
    """Raises UnsupportedError where stored values cannot become the scanner's numbers."""
    for entry, header in zip(group, headers, strict=True):
        wrong = wrong_scaling(header)
        if wrong:
            raise UnsupportedError(entry.path, wrong)
    silent, differs = unscaled(headers)
    if differs:
        raise UnsupportedError(
            group[0].path.parent,
            f"{silent} of its {len(headers)} slices state no RescaleIntercept and the others one, "
            "so their values do not compare",
        )
    if some_scaled(headers):
        what = (
            "only some of its slices have Philips' private scale slope (2005,100E), and each is scaled apart"
        )
        raise UnsupportedError(group[0].path.parent, f"{what}, so their values do not compare")


def _notes(headers: list[Dataset], told: Dataset, geometry: Geometry) -> list[str]:
    """What a user should know of a volume before trusting it."""
    slices = len(headers)
    notes = []
    frames = {str(h.get("FrameOfReferenceUID", "") or "") for h in headers}
    if len(frames) > 1:
        notes.append(f"its slices state {len(frames)} frames of reference; their places are taken as of one")
    if told.get("ModalityLUTSequence"):
        notes.append("its Modality LUT Sequence is not applied: values are as stored, in no stated unit")
    if slices < 3:
        notes.append(f"only {slices} slice{'s' * (slices > 1)}: too few to check their spacing")
    if geometry.outcome not in ("exact", "split"):
        notes.append(f"geometry {geometry.outcome}: {geometry.measured}")
    return notes


@dataclass(frozen=True, kw_only=True)
class _Values:
    """Scaled pixels (K, H, W) float32, what there is to say of the scaling, and traits of the values."""

    volume: np.ndarray
    notes: tuple[str, ...]
    said: dict[str, tuple[str, float]]


def _values(group: list[FileEntry], headers: list[Dataset], modality: str) -> _Values:
    """The slices in this order, each scaled by its own header."""
    rows = int(headers[0].Rows)
    columns = int(headers[0].Columns)
    apart = scaled_apart(headers)
    uptakes = _uptakes(group, headers) if modality_of(modality).values == "uptake" else []
    # before memory is asked for: a lying header asks for terabytes
    for entry, header in zip(group, headers, strict=True):
        check_size(entry.path, header)
    # slices lie behind one another in memory, so each is written once and in order
    volume = np.empty((len(group), rows, columns), np.float32)

    def put(k: int, pixels: np.ndarray) -> str:
        if pixels.shape != (1, rows, columns):
            what = f"holds pixels {pixels.shape} where one {rows} × {columns} grey slice is due"
            raise UnsupportedError(group[k].path, what)
        note = rescale(pixels[0], headers[k], volume[k], apart)
        if uptakes:
            volume[k] *= np.float32(uptakes[k].factor)
        return note

    scalings = set()
    coded = []
    for k, (entry, header) in enumerate(zip(group, headers, strict=True)):
        tail = plain_tail(entry.path, header)  # what needs no decoding is quickest without a thread
        if tail is None:
            coded.append(k)
        else:
            scalings.add(put(k, tail))

    def decode(k: int) -> str:
        return put(k, read_pixels(group[k].path, headers[k]))

    scalings |= set(children().each(decode, coded))
    told = said(uptakes[0]) if uptakes else {}
    return _Values(volume=volume, notes=tuple(s for s in sorted(scalings) if s), said=told)


def _uptakes(group: list[FileEntry], headers: list[Dataset]) -> list[Uptake]:
    """How the values of each slice become SUV. Raises UnsupportedError where a file does not say it."""
    found = []
    for entry, header in zip(group, headers, strict=True):
        try:
            found.append(uptake_of(header, headers))
        except NoSuv as e:
            raise UnsupportedError(entry.path, str(e)) from e
    units = sorted({f"{u.stored} {u.decay}".strip() for u in found})
    if len(units) > 1:
        raise UnsupportedError(group[0].path.parent, f"slices of one series are in {' and '.join(units)}")
    return found
