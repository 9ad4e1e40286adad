"""Headers of one series → Images. What truly differs inside a series is split; what cannot be stacked is refused by name."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from ..case import Geometry, Image, Refusal
from ..errors import UnreadableError, UnsupportedError
from .child import ChildFailed, children
from .decode import check_size, read_pixels
from .enhanced import read_enhanced
from .geometry import check_orientation, normal_of, same_places, stack_slices
from .headers import FileEntry, full_header
from .roles import role_of
from .scaling import rescale, scaled_apart
from .source import source_of
from .ultrasound import read_ultrasound

Grouped = list[FileEntry]


def split_key(ds: Dataset) -> tuple:
    orientation = tuple(round(float(v), 3) for v in ds.get("ImageOrientationPatient") or ())
    kinds = tuple(str(v) for v in (ds.get("ImageType") or [])[2:4])
    echo = ds.get("EchoNumbers")
    values = tuple(str(ds.get(k, "")) for k in ("DiffusionBValue", "TemporalPositionIdentifier", "StackID"))
    spacing = tuple(round(float(v), 4) for v in ds.get("PixelSpacing") or ())
    return (int(ds.Rows), int(ds.Columns), orientation, spacing, kinds, str(echo or ""), *values)


# What code that trusts a header raises when the header lies. Named to the user as the file's fault; -vv shows where.
UNTRUSTED = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, MemoryError, np.linalg.LinAlgError)


def _odd_values(path: Path, error: BaseException) -> UnreadableError:
    logging.getLogger(__name__).debug("%s", path, exc_info=error)
    what = f"{type(error).__name__}: {str(error)[:100]}"
    return UnreadableError(path, f"its header holds values that make no image ({what}); copy it again from the source")


def load_headers(entries: Grouped) -> list[Refusal]:
    """Fill in the full headers, read in children. An entry whose header cannot be read is marked damaged."""
    pool = children()

    def one(entry: FileEntry) -> Dataset | str:
        try:
            return pool.run(full_header, entry.path)
        except ChildFailed as e:
            return str(e)

    refused = []
    for entry, header in zip(entries, list(pool.each(one, entries)), strict=True):
        if isinstance(header, str):
            entry.status, entry.reason = "damaged", header
            refused.append(Refusal(str(entry.path), header, entry.modality))
        else:
            entry.header = header
    return refused


def read_series(entries: Grouped) -> tuple[list[Image], list[Refusal]]:
    """All images of one SeriesInstanceUID. Entries that cannot be used are marked so in place, with the reason."""
    images: list[Image] = []
    refused = load_headers(entries)
    modality = entries[0].modality
    groups: dict[tuple, Grouped] = {}
    for entry in entries:
        if entry.header is None:
            continue
        try:
            alone = modality == "US" or "PerFrameFunctionalGroupsSequence" in entry.header
            key = (str(entry.path),) if alone else split_key(entry.header)
        except UNTRUSTED as error:
            problem = _odd_values(entry.path, error)
            entry.status, entry.reason = "damaged", problem.reason
            refused.append(Refusal(problem.path, problem.reason, modality))
        else:
            groups.setdefault(key, []).append(entry)
    if refused and not all(len(g) == 1 and modality == "US" for g in groups.values()):
        damaged = next(e for e in entries if e.status == "damaged")
        return [], refused + _leave_out([e for g in groups.values() for e in g], damaged)
    for group in groups.values():
        header = group[0].header
        assert header is not None
        try:
            if modality == "US":
                images.append(read_ultrasound(group[0]))
            elif "PerFrameFunctionalGroupsSequence" in header:
                images += read_enhanced(group[0])
            else:
                images += _stack(group, modality, split=len(groups) > 1)
        except UnsupportedError as e:
            for entry in group:
                entry.status, entry.reason = "unsupported", e.reason
            uid = str(header.SeriesInstanceUID)
            refused.append(Refusal(e.path, e.reason, modality, uid, e.measured, e.allowed))
        except (UnreadableError, *UNTRUSTED) as error:
            problem = error if isinstance(error, UnreadableError) else _odd_values(group[0].path, error)
            bad = next((entry for entry in group if str(entry.path) == problem.path), group[0])
            bad.status, bad.reason = "damaged", problem.reason
            refused.append(Refusal(problem.path, problem.reason, modality))
            refused += _leave_out([x for x in group if x is not bad], bad)
    return images, refused


def _leave_out(others: Grouped, bad: FileEntry) -> list[Refusal]:
    """A volume with a hole where a slice is damaged is not made up: the whole stack is named and not used."""
    if not others:
        return []
    reason = f"{bad.modality} series not used, because of its slice {bad.path.name}: {bad.reason}"
    for entry in others:
        entry.status, entry.reason = "unsupported", reason
    uid = others[0].tags.get("SeriesInstanceUID", "")
    return [Refusal(str(bad.path.parent), reason, bad.modality, uid, f"{bad.path.name} is damaged", "every slice")]


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


def _stack(group: Grouped, modality: str, *, split: bool) -> list[Image]:
    """Slices of one orientation and size → one image, or several where each place was acquired several times."""
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
    return [
        _one_stack([group[i] for i in s], positions[s], orientation, spacing, modality, split=split or len(sets) > 1)
        for s in sets
    ]


def _acquired(ds: Dataset) -> tuple:
    numbers = []
    for key in ("AcquisitionNumber", "InstanceNumber"):
        try:
            numbers.append(int(ds.get(key) or 0))
        except (TypeError, ValueError):
            numbers.append(0)
    return numbers[0], str(ds.get("AcquisitionTime", "")), numbers[1]


def _one_stack(group: Grouped, positions, orientation, spacing, modality: str, *, split: bool) -> Image:
    first = group[0].header
    assert first is not None
    thickness = float(first.get("SliceThickness") or 0.0)
    stack = stack_slices(positions, orientation, (spacing[0], spacing[1]), thickness)
    rows, columns = int(first.Rows), int(first.Columns)
    apart = scaled_apart(e.header for e in group if e.header is not None)
    for entry in group:  # before memory is asked for: a lying header asks for terabytes
        assert entry.header is not None
        check_size(entry.path, entry.header)
    # slices lie behind one another in memory, so each is written once and in order
    volume = np.empty((len(group), rows, columns), np.float32)

    def fill(k: int) -> str:
        entry = group[stack.order[k]]
        assert entry.header is not None
        pixels = read_pixels(entry.path, entry.header)
        if pixels.shape != (1, rows, columns):
            what = f"holds pixels {pixels.shape} where one {rows} × {columns} grey slice is due"
            raise UnsupportedError(entry.path, what)
        return rescale(pixels[0], entry.header, volume[k], apart)

    scalings = set(children().each(fill, range(len(group))))
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
    )
    image.plane = stack.plane
    return image
