"""Outlines that are drawn without looking at an image, beside which every outline must be shown."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import affine_transform, zoom
from sklearn.linear_model import Ridge

GRID_MM = 5.0
CUBE = 81  # voxels of that a side


def ellipsoid(shape: tuple[int, ...], mm: np.ndarray, half: np.ndarray) -> np.ndarray:
    """An ellipsoid with half axes in mm in the middle of a volume with voxels of ``mm``."""
    axes = [((np.arange(n) - (n - 1) / 2) * s / h) ** 2 for n, s, h in zip(shape, mm, half, strict=True)]
    return axes[0][:, None, None] + axes[1][None, :, None] + axes[2] <= 1


def half_axes(mask: np.ndarray, mm: np.ndarray) -> np.ndarray:
    """(3,) half the extent of an outline along each axis in mm."""
    return (np.ptp(np.argwhere(mask), axis=0) + 1) * mm / 2


def regressed(known: np.ndarray, half: np.ndarray, here: np.ndarray) -> np.ndarray:
    """(3,) half axes by a ridge regression of those that are known (N, 3) on numbers (N, F)."""
    scale = known.std(0) + 1e-6
    fitted = Ridge(1.0).fit((known - known.mean(0)) / scale, half)
    return np.maximum(fitted.predict(((here - known.mean(0)) / scale)[None])[0], 6)


def outline_share(known: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """(CUBE, CUBE, CUBE) share of the outlines (mask, voxel size) that cover each place, the middles of their
    volumes on each other."""
    total = np.zeros((CUBE,) * 3)
    for mask, spacing in known:
        total += _middle(zoom(mask.astype(np.float32), spacing / GRID_MM, order=1) > 0.5, total.shape)
    return total / max(1, len(known))


def mean_mask(share: np.ndarray, shape: tuple[int, ...], mm: np.ndarray) -> np.ndarray:
    """Where at least half of the outlines lie, in a volume with voxels of ``mm``."""
    ratio = mm / GRID_MM
    start = (CUBE - 1) / 2 - ratio * (np.array(shape) - 1) / 2
    return affine_transform(share, ratio, start, shape, order=1) >= 0.5


def _middle(mask: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """The middle of a map, cut or filled up with False to ``size``."""
    out = np.zeros(size, bool)
    take, put = [], []
    for n, m in zip(mask.shape, size, strict=True):
        k = min(n, m)
        take.append(slice((n - k) // 2, (n - k) // 2 + k))
        put.append(slice((m - k) // 2, (m - k) // 2 + k))
    out[tuple(put)] = mask[tuple(take)]
    return out
