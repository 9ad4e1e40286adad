"""Slices → one volume in RAS+ mm, exactly, or a named outcome. Sorted by position along the normal, never by
number.

DICOM positions are LPS+ mm (PS3.3 C.7.6.2); everything that leaves this file is RAS+ mm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..affine import Affine
from ..case import Geometry

STEP_TOLERANCE = 0.01  # share of the slice step
STEP_TOLERANCE_MM = 0.02  # what rounding in a header may do, but
STEP_TOLERANCE_SMALL = 0.1  # never more than this share of a small step
DRIFT_MM = 0.05  # of a slice off its place on an even line, and
DRIFT_SMALL = 0.25  # never more than this share of a small step
TILT_DEGREES = 0.5
SAME_PLACE_MM = 0.02
SAME_PLACE = 0.02  # share of a pixel, where that is less


@dataclass(frozen=True)
class Stack:
    """order: indices of the slices bottom to top; affine (4, 4) voxel (column, row, slice) → RAS+ mm, or None
    where the steps are unequal (then ``plane`` places the first slice and ``geometry`` keeps every
    position)."""

    order: tuple[int, ...]
    affine: np.ndarray | None
    plane: np.ndarray
    geometry: Geometry


def slice_affine(
    position: np.ndarray, orientation: np.ndarray, spacing: tuple[float, float], step: np.ndarray
) -> np.ndarray:
    """RAS+ affine of pixel (column i, row j, slice k). spacing is DICOM's (row, column) spacing; step (3,)
    LPS mm."""
    axes = np.stack([orientation[:3] * spacing[1], orientation[3:] * spacing[0], step], 1)
    return Affine.of(axes, position, "LPS+").ras


def normal_of(orientation: np.ndarray) -> np.ndarray:
    """(3,) LPS unit normal of the six direction cosines of a slice."""
    return np.cross(orientation[:3], orientation[3:])


def check_orientation(orientation: np.ndarray) -> str:
    """Empty when the six cosines are two perpendicular unit vectors, else what is wrong."""
    row = orientation[:3]
    column = orientation[3:]
    if not np.isfinite(orientation).all():
        return "Image Orientation holds values that are not numbers"
    if abs(np.linalg.norm(row) - 1) > 0.01 or abs(np.linalg.norm(column) - 1) > 0.01:
        return (
            f"Image Orientation is not made of unit vectors (lengths {np.linalg.norm(row):.3f}, "
            f"{np.linalg.norm(column):.3f})"
        )
    if abs(row @ column) > 0.01:
        return f"Image Orientation rows and columns are not perpendicular (dot product {row @ column:.3f})"
    return ""


def stack_slices(
    positions: np.ndarray, orientation: np.ndarray, spacing: tuple[float, float], thickness: float
) -> Stack:
    """Positions (N, 3) LPS mm of slices with one orientation and no two at one place.

    exact: equal steps along the normal. tilted: equal steps that leave the normal (gantry tilt): the affine
        is sheared, which is exact. irregular: unequal steps; no affine could be right, so none is given.
    """
    normal = normal_of(orientation)
    along = positions @ normal
    order = np.argsort(along, kind="stable")
    first = positions[order[0]]
    plane = slice_affine(first, orientation, spacing, normal)
    indices = tuple(int(i) for i in order)
    if len(order) == 1:
        affine = slice_affine(first, orientation, spacing, normal * (thickness or 1.0))
        return Stack(indices, affine, plane, Geometry("exact", f"one slice, thickness {thickness:g} mm"))
    steps = np.diff(positions[order], axis=0)
    middle = float(np.median(steps @ normal))
    allowed = max(STEP_TOLERANCE * middle, min(STEP_TOLERANCE_MM, STEP_TOLERANCE_SMALL * middle))
    may_drift = max(allowed, min(DRIFT_MM, DRIFT_SMALL * middle))
    mean_step = (positions[order[-1]] - first) / (len(order) - 1)
    digits = 4 if middle > 0.1 else 7
    heights = tuple(round(float(v), digits) for v in along[order])
    drift = np.abs(positions[order] - (first + np.arange(len(order))[:, None] * mean_step)).max()
    if np.abs(steps @ normal - middle).max() > allowed or drift > may_drift:
        measured = _unequal(steps, normal)
        uneven = Geometry("irregular", measured, f"{middle:.3f} ± {allowed:.3f} mm", heights)
        return Stack(indices, None, plane, uneven)
    tilt = _tilt(mean_step[None], normal)
    if tilt > TILT_DEGREES:
        measured = f"gantry tilt {tilt:.2f}°, step {middle:.2f} mm along the normal"
        geometry = Geometry("tilted", measured, f"{TILT_DEGREES}°", heights)
    else:
        geometry = Geometry("exact", f"step {middle:.4f} mm", f"± {allowed:.3f} mm")
    return Stack(indices, slice_affine(first, orientation, spacing, mean_step), plane, geometry)


def _unequal(steps: np.ndarray, normal: np.ndarray) -> str:
    """What is measured of steps (N - 1, 3) LPS mm that are not equal: whether slices are missing."""
    along = steps @ normal
    ratios = along / along.min() if along.min() > 0 else np.zeros(len(along))
    missing = int(np.round(ratios).sum() - len(ratios))
    whole = np.abs(ratios - np.round(ratios)).max() < 0.02
    what = f"{missing} slice(s) missing" if whole and missing > 0 else "unequal steps"
    measured = f"{what}: steps {along.min():.3f} to {along.max():.3f} mm"
    tilt = _tilt(steps, normal)
    return f"{measured}, tilt {tilt:.1f}°" if tilt > TILT_DEGREES else measured


def _tilt(steps: np.ndarray, normal: np.ndarray) -> float:
    """Largest angle in degrees between the slice steps and the normal."""
    cosine = np.abs(steps @ normal) / np.maximum(np.linalg.norm(steps, axis=1), 1e-9)
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))).max())


def same_place_mm(spacing: np.ndarray) -> float:
    """How near two slices lie that are at one place, for pixels of ``spacing`` (2,) mm."""
    return min(SAME_PLACE_MM, SAME_PLACE * float(np.min(spacing)))


def same_places(positions: np.ndarray, normal: np.ndarray, within: float) -> list[list[int]]:
    """Groups of slices that lie at one place (within so many mm), in order along the normal."""
    along = positions @ normal
    order = np.argsort(along, kind="stable")
    groups: list[list[int]] = [[int(order[0])]]
    for i in order[1:]:
        if np.abs(positions[i] - positions[groups[-1][0]]).max() < within:
            groups[-1].append(int(i))
        else:
            groups.append([int(i)])
    return groups
