"""The grid of one acquisition: matrix, spacing, oblique pose and frame of reference, in RAS+ mm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..affine import DICOM_AXES


@dataclass(frozen=True)
class Grid:
    shape: tuple[int, int, int]
    affine: np.ndarray  # (4, 4) voxel index → patient mm, RAS+, in this scanner's frame
    to_body: np.ndarray  # (3,) mm: scanner frame → body coordinates (the scanner's origin is arbitrary)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size in mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    def body_points(self) -> np.ndarray:
        """(I, J, K, 3) float32: body coordinates of every voxel centre."""
        axes = [np.arange(n, dtype=np.float32) for n in self.shape]
        m = self.affine[:3, :3].astype(np.float32)
        offset = (self.affine[:3, 3] + self.to_body).astype(np.float32)
        i, j, k = (a.reshape([-1 if d == n else 1 for d in range(3)]) for n, a in enumerate(axes))
        out = np.empty((*self.shape, 3), np.float32)
        for c in range(3):
            out[..., c] = m[c, 0] * i + m[c, 1] * j + m[c, 2] * k + offset[c]
        return out


def rotation(angles_deg: np.ndarray) -> np.ndarray:
    """Small rotations about x, y, z."""
    ax, ay, az = np.deg2rad(angles_deg)
    rx = np.array([[1, 0, 0], [0, np.cos(ax), -np.sin(ax)], [0, np.sin(ax), np.cos(ax)]])
    ry = np.array([[np.cos(ay), 0, np.sin(ay)], [0, 1, 0], [-np.sin(ay), 0, np.cos(ay)]])
    rz = np.array([[np.cos(az), -np.sin(az), 0], [np.sin(az), np.cos(az), 0], [0, 0, 1]])
    return rz @ ry @ rx


def axial_grid(
    rng: np.random.Generator,
    *,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    tilt_deg: float,
    centre: np.ndarray,
) -> Grid:
    """An axial stack in DICOM's own directions (columns to the left, rows to the back, slices upward)."""
    directions = rotation(rng.normal(0, tilt_deg, 3)) @ DICOM_AXES
    m = directions * np.asarray(spacing)
    to_body = rng.uniform(-120, 120, 3)  # each scanner has its own origin
    middle = centre - to_body
    affine = np.eye(4)
    affine[:3, :3] = m
    affine[:3, 3] = middle - m @ ((np.asarray(shape) - 1) / 2)
    return Grid(shape, affine, to_body)
