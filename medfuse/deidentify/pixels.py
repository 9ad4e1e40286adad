"""Names burned into ultrasound: everything outside the scanned area goes black, on every frame."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ..case import Region

MIN_AREA = 0.04  # share of the image below which no scanned area is believed


def scan_area(frames: np.ndarray, regions: tuple[Region, ...]) -> np.ndarray | None:
    """(H, W) bool: where the image is; None where it cannot be told.

    frames (T, H, W) grey. Inside the declared regions, else the largest connected bright structure over all frames,
    filled: letters and logos are small, thin components of their own.
    """
    brightest = frames.max(0)
    mask = np.zeros(brightest.shape, bool)
    if regions:
        for r in regions:
            x0, y0, x1, y1 = r.box
            mask[y0 : y1 + 1, x0 : x1 + 1] = True
        return mask
    bright = ndimage.binary_opening(brightest > 12, iterations=2)
    labels, n = ndimage.label(ndimage.binary_closing(bright, iterations=3))
    if not n:
        return None
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    area = ndimage.binary_fill_holes(labels == sizes.argmax())
    return area if area.mean() >= MIN_AREA else None


def text_boxes(frames: np.ndarray, area: np.ndarray) -> list[tuple[int, int, int, int]]:
    """Boxes (x0, y0, x1, y1) of bright structure outside the scanned area on any frame: banners, names, scales."""
    outside = (frames.max(0) > 40) & ~area
    labels, _ = ndimage.label(ndimage.binary_dilation(outside, np.ones((3, 9), bool)))
    return [(s[1].start, s[0].start, s[1].stop - 1, s[0].stop - 1) for s in ndimage.find_objects(labels)]


def mask_outside(pixels: np.ndarray, area: np.ndarray) -> np.ndarray:
    """Black outside ``area`` on every frame; pixels (T, H, W) or (T, H, W, 3)."""
    keep = area[None] if pixels.ndim == 3 else area[None, ..., None]
    return np.where(keep, pixels, 0).astype(pixels.dtype)
