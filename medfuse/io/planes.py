"""Slices or frames of one series → planes of one orientation and spacing, and in each the sets that are one
volume: the same for classic slices and for the frames of an enhanced object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from ..errors import UnsupportedError
from .geometry import check_orientation, normal_of, same_place_mm, same_places, stack_slices
from .interleaved import combs, moved_repeats
from .pairing import BY_SLICE, SAME_LOCATION_MM, CannotPair, Contradiction, Slice, differing, kind_of, pair

SAME_COSINE = 1e-3  # two orientations are one
SAME_SPACING = 5e-4  # share of it below which two pixel spacings are one
NEARLY = 0.02  # of a cosine or a spacing: parts that differ by less may be one that was rounded
PARTED_BY = ("ImageType", "ImageOrientationPatient", "PixelSpacing")
EVEN_STEPS = 3  # steps that could not be alike by chance where they are
EVEN = 0.05  # of a step: these are alike, or a multiple of it where slices are missing, but
FEW_MISSING = 4.05  # not so many times it
LEAST_STEP_MM = 1e-5  # what a header can say of a position
FLATTEST = 0.2  # depth of a stack by how far its slices lie beside one another: no gantry tilts so far
STACKED_BY = (
    *("StackID", "EchoNumbers", "TemporalPositionIdentifier", "DiffusionBValue", "EchoTime"),
    "ConvolutionKernel",
)
OFF_LINE = 0.5  # of the step: slices farther than this off one straight line are not one stack


def floats(ds: Dataset, key: str, n: int, path: Path) -> np.ndarray:
    """The ``n`` numbers of an attribute. Raises UnsupportedError that names the attribute."""
    numbers = measures(ds, key, path)
    if len(numbers) != n and len(numbers):
        due = {2: "two are", 3: "three are", 6: "six are"}[n]
        has = "one value" if len(numbers) == 1 else f"{len(numbers)} values"
        raise UnsupportedError(path, f"its {key} ({ds.get(key)}) has {has} where {due} due")
    if len(numbers) != n:
        raise UnsupportedError(path, f"has no {key}, so its pixels have no place in the patient")
    if not np.isfinite(numbers).all():
        raise UnsupportedError(path, f"its {key} holds values that are not finite")
    return numbers


def measures(ds: Dataset, key: str, path: Path) -> np.ndarray:
    """All numbers of an attribute, none where it is silent. Raises UnsupportedError where it holds others."""
    value = ds.get(key)
    if value is None or value == "":
        return np.zeros(0)
    try:
        return np.array([float(v) for v in ([value] if isinstance(value, (str, int, float)) else value)])
    except (TypeError, ValueError):
        raise UnsupportedError(path, f"its {key} ({value}) is not made of numbers") from None


def planes(headers: Sequence[Dataset], paths: Sequence[Path]) -> list[list[int]]:
    """Indices of headers that share orientation and pixel spacing, within what rounding in a header does."""
    keys = ("ImageOrientationPatient", "PixelSpacing")
    told = [tuple(measures(h, k, p) for k in keys) for h, p in zip(headers, paths, strict=True)]
    out: list[list[int]] = []
    for i, mine in enumerate(told):
        plane = next((p for p in out if _same_plane(told[p[0]], mine)), None)
        if plane is None:
            out.append([i])
        else:
            plane.append(i)
    return out


def _same_plane(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> bool:
    if any(x.shape != y.shape for x, y in zip(a, b, strict=True)):
        return False
    (turned, spacing), (other, spacing2) = a, b
    return bool(
        (np.abs(turned - other) < SAME_COSINE).all()
        and (np.abs(spacing - spacing2) <= SAME_SPACING * np.abs(spacing)).all()
    )


def check_apart(parts: Sequence[Sequence[Dataset]], path: Path) -> None:
    """Raises UnsupportedError where parts of one series lie between one another with one matrix, orientation
    and spacing but for what rounding or a label does: each would be a volume with twice the true step."""
    for n, one in enumerate(parts):
        for other in parts[n + 1 :]:
            if len(one) > 1 and len(other) > 1 and _nearly_one(one[0], other[0]):
                normal = normal_of(floats(one[0], "ImageOrientationPatient", 6, path))
                heights = [
                    np.array([floats(h, "ImagePositionPatient", 3, path) @ normal for h in part])
                    for part in (one, other)
                ]
                spacing = floats(one[0], "PixelSpacing", 2, path)
                if combs(heights, same_place_mm(spacing)) is not None:
                    names = [k for k in PARTED_BY if str(one[0].get(k)) != str(other[0].get(k))]
                    raise UnsupportedError(
                        path,
                        f"slices that lie between one another differ in {', '.join(names)}, so they are "
                        "neither one volume nor several; send the series again from the archive",
                    )


def _nearly_one(a: Dataset, b: Dataset) -> bool:
    if any(a.get(k) != b.get(k) for k in ("Rows", "Columns")):
        return False
    for key, share in (("ImageOrientationPatient", NEARLY), ("PixelSpacing", NEARLY)):
        if key not in a or key not in b or len(a[key].value or ()) != len(b[key].value or ()):
            return False
        x, y = (np.array([float(v) for v in ds[key].value]) for ds in (a, b))
        if not len(x) or (np.abs(x - y) > share * np.abs(x).max()).any():
            return False
    return True


@dataclass(frozen=True, kw_only=True)
class Plane:
    """Slices of one orientation: positions (N, 3) LPS mm, cosines (6,), pixel spacing (row, column) mm."""

    positions: np.ndarray
    orientation: np.ndarray
    spacing: np.ndarray

    @property
    def normal(self) -> np.ndarray:
        """(3,) LPS unit normal."""
        return normal_of(self.orientation)

    def near_mm(self, members: Sequence[int]) -> float:
        """How near two slices lie that are at one place: less than their step, where all of them follow one
        another evenly (micro-CT may have pixels that are coarse beside it)."""
        near = same_place_mm(self.spacing)
        steps = np.diff(np.sort(self.positions[list(members)] @ self.normal))
        if len(steps) < EVEN_STEPS or steps.min() <= LEAST_STEP_MM:
            return near
        ratios = steps / steps.min()
        even = ratios.max() <= FEW_MISSING and np.abs(ratios - np.round(ratios)).max() <= EVEN
        return min(near, float(steps.min()) / 2) if even else near

    def places(self, members: Sequence[int], within: float = 0.0) -> list[list[int]]:
        """``members`` by the place where they lie (within so many mm), in order along the normal."""
        chosen = list(members)
        near = within or self.near_mm(chosen)
        found = same_places(self.positions[chosen], self.normal, near)
        return [[chosen[i] for i in place] for place in found]


def plane_of(headers: Sequence[Dataset], paths: Sequence[Path]) -> Plane:
    """Where slices of one orientation lie. Raises UnsupportedError where a header does not say it."""
    orientation = floats(headers[0], "ImageOrientationPatient", 6, paths[0])
    wrong = check_orientation(orientation)
    if wrong:
        raise UnsupportedError(paths[0], wrong)
    spacing = floats(headers[0], "PixelSpacing", 2, paths[0])
    if (spacing <= 0).any():
        raise UnsupportedError(paths[0], f"PixelSpacing {spacing.tolist()} is not positive")
    positions = [floats(h, "ImagePositionPatient", 3, p) for h, p in zip(headers, paths, strict=True)]
    return Plane(positions=np.array(positions), orientation=orientation, spacing=spacing)


def volumes_of(slices: Sequence[Slice], plane: Plane, path: Path) -> list[list[int]]:
    """Sets of slices of one plane that are one volume each; ``path`` is named in errors.

    Stacks (StackID, or another number by which a scanner counts them) whose slices interleave are one
    volume; stacks that lie apart, or overlap, are parted. Raises UnsupportedError where repeats at one place
    cannot be told apart, where sets lie between one another, and where slices lie beside one another.
    """
    try:
        found = _volumes(slices, plane)
    except CannotPair as e:
        raise UnsupportedError(
            path,
            f"{e}; separate the acquisitions into series",
            str(e),
            "slices that one attribute parts into whole volumes",
        ) from None
    for one in found:
        _check_behind(plane, one, path)
    return found


def _volumes(slices: Sequence[Slice], plane: Plane) -> list[list[int]]:
    """As `volumes_of`: all together, then without the number that some count slices by, then stack by
    stack. Raises CannotPair, of the first try."""
    every = list(range(len(slices)))
    stacks: dict[tuple[str, ...], list[int]] = {}
    for i, s in enumerate(slices):
        told = (str(s.header.get(k, "") or "") for k in STACKED_BY)
        stacks.setdefault((*told, kind_of(s.header)), []).append(i)
    first: CannotPair | None = None
    for without in ("", BY_SLICE):
        try:
            together = _whole(slices, plane, [every], without)
            if len(stacks) == 1 or all(_one_stack(plane, s, stacks) for s in together):
                return together
            break
        except Contradiction:
            raise
        except CannotPair as e:
            first = first or e
    try:
        if len(stacks) > 1:
            return _whole(slices, plane, list(stacks.values()), "")
    except CannotPair as e:
        first = first or e
    assert first is not None
    raise first


def _whole(
    slices: Sequence[Slice], plane: Plane, groups: Sequence[Sequence[int]], without: str
) -> list[list[int]]:
    """The volumes of groups of slices that are paired each by itself. Raises CannotPair, also where two of
    them lie between one another."""
    within = plane.near_mm([i for members in groups for i in members])
    along = plane.positions @ plane.normal
    found: list[list[int]] = []
    for members in groups:
        moved = moved_repeats(along[list(members)], within)
        places = plane.places(members, 1.01 * moved if moved else within)
        found += pair(slices, places, max(1.5 * moved, min(5 * within, SAME_LOCATION_MM)), without)
    comb = combs([along[s] for s in found], within)
    if comb is not None:
        one, other = (found[k] for k in comb)
        raise CannotPair(f"slices that lie between one another differ in {differing(slices, one, other)}")
    return found


def _check_behind(plane: Plane, volume: Sequence[int], path: Path) -> None:
    """Raises UnsupportedError where slices lie beside one another in one plane and not behind."""
    positions = plane.positions[list(volume)]
    moves = positions - positions[0]
    deep = float(np.ptp(positions @ plane.normal))
    beside = float(np.linalg.norm(moves - np.outer(moves @ plane.normal, plane.normal), axis=1).max())
    if len(volume) > 1 and deep < FLATTEST * beside:
        raise UnsupportedError(
            path,
            f"its slices lie beside one another ({beside:.1f} mm) and not behind ({deep:.1f} mm), "
            "so they are no volume",
        )


def _one_stack(plane: Plane, volume: list[int], stacks: dict[tuple[str, ...], list[int]]) -> bool:
    """Whether slices of several stacks lie as one: at equal steps, or on one line and between each other."""
    positions = plane.positions[volume]
    spacing = (float(plane.spacing[0]), float(plane.spacing[1]))
    if stack_slices(positions, plane.orientation, spacing, 0.0).affine is not None:
        return True
    along = positions @ plane.normal
    ranges = []
    for members in stacks.values():
        heights = [float(along[k]) for k, i in enumerate(volume) if i in set(members)]
        if heights:
            ranges.append((min(heights), max(heights)))
    ranges.sort()
    between = all(upper > lower for (_, upper), (lower, _) in pairwise(ranges))
    return between and _on_a_line(positions, along)


def _on_a_line(positions: np.ndarray, along: np.ndarray) -> bool:
    """Whether positions (N, 3) are a straight line, drawn by their height along the normal."""
    share = (along - along.min()) / max(float(np.ptp(along)), 1e-12)
    first = positions[along.argmin()]
    off = positions - (first + share[:, None] * (positions[along.argmax()] - first))
    step = float(np.ptp(along)) / max(len(along) - 1, 1)
    return bool(np.abs(off).max() <= OFF_LINE * step)
