"""Names burned into ultrasound: everything outside the scanned area goes black, on every frame."""

from __future__ import annotations

import numpy as np


def mask_outside(pixels: np.ndarray, area: np.ndarray) -> np.ndarray:
    """Black outside ``area`` (H, W) on every frame; pixels (T, H, W) or (T, H, W, 3)."""
    keep = area[None] if pixels.ndim == 3 else area[None, ..., None]
    return np.where(keep, pixels, 0).astype(pixels.dtype)
