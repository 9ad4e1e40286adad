"""Between voxels, displayed slices and millimetres."""

from __future__ import annotations

import numpy as np

from ..case import Image
from ..prediction import Place
from .marks import Turned
from .views import count, view_of


def display_slice(image: Image, place: Place) -> int:
    """Axial display index (or frame) of a place."""
    if place.frame is not None:
        return place.frame
    if place.slice is None:
        return count(image) // 2
    centre = (
        np.array([(a + b) / 2 for a, b in zip(*place.box_voxels, strict=True)])
        if place.box_voxels
        else np.array([0, 0, place.slice])
    )
    centre[2] = place.slice
    v = view_of(image)
    at = v.to_view[:3, :3] @ centre + v.to_view[:3, 3]
    return int(np.clip(round(at[2]), 0, v.pixels.shape[2] - 1))


def box_on_slice(image: Image, place: Place, index: int) -> tuple[float, float, float, float] | None:
    """(x0, y0, x1, y1) in pixels of the axial display slice (or frame), or None where the place does not
    reach it."""
    if place.box_voxels is None:
        return None
    low, high = (np.asarray(v, float) for v in place.box_voxels)
    if place.frame is not None:
        return (*low[:2], *high[:2]) if index == place.frame else None  # type: ignore[return-value]
    v = view_of(image)
    corners = np.array(
        [[x, y, z] for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])]
    )
    at = corners @ v.to_view[:3, :3].T + v.to_view[:3, 3]
    a = at.min(0)
    b = at.max(0)
    return (a[0], a[1], b[0], b[1]) if a[2] - 0.5 <= index <= b[2] + 0.5 else None


def voxels_of_turned(voxels: np.ndarray, turned: Turned, spacing: tuple[float, ...]) -> np.ndarray:
    """(N, 3) voxels of a turned stack → those of the stack itself, as displayed. spacing: of both, in mm."""
    mm = np.asarray(spacing)
    pivot = np.asarray(turned.pivot)
    return pivot + ((voxels - pivot) * mm) @ np.asarray(turned.turned).T / mm


def _voxels(points: np.ndarray, plane: str, n: int, slices: int) -> np.ndarray:
    """Pixels (u, v) of a plane of the viewer → display voxels (x, y, z); coronal and sagittal planes have the
    head at the top."""
    u, v = points.T
    level = np.full_like(u, n)
    if plane == "coronal":
        return np.stack([u, level, slices - 1 - v], 1)
    if plane == "sagittal":
        return np.stack([level, u, slices - 1 - v], 1)
    return np.stack([u, v, level], 1)
