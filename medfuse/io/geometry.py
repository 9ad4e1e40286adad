"""Slices → one volume in RAS+ mm, exactly, or a named outcome. Sorted by position along the normal, never by number.

DICOM positions are LPS+ mm (PS3.3 C.7.6.2); everything that leaves this file is RAS+ mm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..case import Geometry

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
STEP_TOLERANCE = 0.01  # share of the slice step
STEP_TOLERANCE_MM = 0.02
TILT_DEGREES = 0.5
SAME_PLACE_MM = 0.005


@dataclass(frozen=True)
class Stack:
    """order: indices of the slices bottom to top; affine (4, 4) voxel (column, row, slice) → RAS+ mm, or None where the
    steps are unequal (then ``plane`` places the first slice and ``geometry`` keeps every position)."""

    order: tuple[int, ...]
    affine: np.ndarray | None
    plane: np.ndarray
    geometry: Geometry


def slice_affine(
    position: np.ndarray, orientation: np.ndarray, spacing: tuple[float, float], step: np.ndarray
) -> np.ndarray:
    """RAS+ affine of pixel (column i, row j, slice k). spacing is DICOM's (row, column) spacing; step (3,) LPS mm."""
    m = np.eye(4)
    m[:3, 0] = orientation[:3] * spacing[1]
    m[:3, 1] = orientation[3:] * spacing[0]
    m[:3, 2] = step
    m[:3, 3] = position
    return LPS_TO_RAS @ m


def normal_of(orientation: np.ndarray) -> np.ndarray:
    return np.cross(orientation[:3], orientation[3:])


def check_orientation(orientation: np.ndarray) -> str:
    """Empty when the six cosines are two perpendicular unit vectors, else what is wrong."""
    row, column = orientation[:3], orientation[3:]
    if not np.isfinite(orientation).all():
        return "Image Orientation holds values that are not numbers"
    if abs(np.linalg.norm(row) - 1) > 0.01 or abs(np.linalg.norm(column) - 1) > 0.01:
        return f"Image Orientation is not made of unit vectors (lengths {np.linalg.norm(row):.3f}, {np.linalg.norm(column):.3f})"
    if abs(row @ column) > 0.01:
        return f"Image Orientation rows and columns are not perpendicular (dot product {row @ column:.3f})"
    return ""


def stack_slices(
    positions: np.ndarray, orientation: np.ndarray, spacing: tuple[float, float], thickness: float
) -> Stack:
    """Positions (N, 3) LPS mm of slices with one orientation and no two at one place.

    exact: equal steps along the normal. tilted: equal steps that leave the normal (gantry tilt): the affine is sheared,
    which is exact. irregular: unequal steps; no affine could be right, so none is given.
    """
    normal = normal_of(orientation)
    along = positions @ normal
    order = np.argsort(along, kind="stable")
    first = positions[order[0]]
    plane = slice_affine(first, orientation, spacing, normal)
    if len(order) == 1:
        affine = slice_affine(first, orientation, spacing, normal * (thickness or 1.0))
        return Stack((int(order[0]),), affine, plane, Geometry("exact", f"one slice, thickness {thickness:g} mm"))
    sorted_positions = positions[order]
    steps = np.diff(sorted_positions, axis=0)
    along_steps = steps @ normal
    middle = float(np.median(along_steps))
    allowed = max(STEP_TOLERANCE * middle, STEP_TOLERANCE_MM)
    mean_step = (sorted_positions[-1] - first) / (len(order) - 1)
    drift = np.abs(sorted_positions - (first + np.arange(len(order))[:, None] * mean_step)).max()
    indices = tuple(int(i) for i in order)
    heights = tuple(round(float(v), 4) for v in along[order])
    if np.abs(along_steps - middle).max() > allowed or drift > max(allowed, 0.05):
        missing = int(np.round(along_steps / along_steps.min()).sum() - len(along_steps))
        whole = np.abs(along_steps / along_steps.min() - np.round(along_steps / along_steps.min())).max() < 0.02
        what = f"{missing} slice(s) missing" if whole and missing > 0 else "unequal steps"
        measured = f"{what}: steps {along_steps.min():.3f} to {along_steps.max():.3f} mm"
        tilt = _tilt(steps, normal)
        if tilt > TILT_DEGREES:
            measured += f", tilt {tilt:.1f}°"
        return Stack(indices, None, plane, Geometry("irregular", measured, f"{middle:.3f} ± {allowed:.3f} mm", heights))
    affine = slice_affine(first, orientation, spacing, mean_step)
    tilt = _tilt(mean_step[None], normal)
    if tilt > TILT_DEGREES:
        return Stack(
            indices,
            affine,
            plane,
            Geometry(
                "tilted", f"gantry tilt {tilt:.2f}°, step {middle:.2f} mm along the normal", f"{TILT_DEGREES}°", heights
            ),
        )
    return Stack(indices, affine, plane, Geometry("exact", f"step {middle:.4f} mm", f"± {allowed:.3f} mm"))


def _tilt(steps: np.ndarray, normal: np.ndarray) -> float:
    """Largest angle in degrees between the slice steps and the normal."""
    cosine = np.abs(steps @ normal) / np.maximum(np.linalg.norm(steps, axis=1), 1e-9)
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))).max())


def same_places(positions: np.ndarray, normal: np.ndarray) -> list[list[int]]:
    """Groups of slices that lie at one place (within SAME_PLACE_MM), in order along the normal."""
    along = positions @ normal
    order = np.argsort(along, kind="stable")
    groups: list[list[int]] = [[int(order[0])]]
    for i in order[1:]:
        if np.abs(positions[i] - positions[groups[-1][0]]).max() < SAME_PLACE_MM:
            groups[-1].append(int(i))
        else:
            groups.append([int(i)])
    return groups
