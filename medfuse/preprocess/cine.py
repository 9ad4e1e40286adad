"""Ultrasound → network frames: the scan region only, square, aspect kept, at most so many frames."""

from __future__ import annotations

import numpy as np
from jaxtyping import Integer
from scipy.ndimage import zoom

from ..case import Image
from ..task import ModalityTask
from .marks import remove_marks
from .tensors import CineInput


def cine_input(
    image: Image, index: int, spec: ModalityTask, mask: Integer[np.ndarray, "t h w"] | None = None
) -> CineInput:
    """Crop to the 2D region, keep the aspect, pad to a square of ``spec.size``; mask (T, H, W) goes the same
    way."""
    grey = image.grey
    region = image.region_2d
    x0, y0, x1, y1 = region.box if region else (0, 0, grey.shape[2] - 1, grey.shape[1] - 1)
    pick = np.unique(np.linspace(0, len(grey) - 1, min(spec.frames, len(grey))).round().astype(int))
    chosen = grey[pick, y0 : y1 + 1, x0 : x1 + 1]
    crop = (remove_marks(chosen) if spec.remove_marks else chosen).astype(np.float32)
    size = spec.size
    longest = max(crop.shape[1:])
    scale = longest / size
    factor = size / longest
    values = np.full((len(pick), size, size), -spec.intensity.centre / spec.intensity.width, np.float32)
    small = zoom(crop, (1, factor, factor), order=1, grid_mode=True, mode="nearest")[:, :size, :size]
    top = (size - small.shape[1]) // 2
    left = (size - small.shape[2]) // 2
    values[:, top : top + small.shape[1], left : left + small.shape[2]] = (
        small - spec.intensity.centre
    ) / spec.intensity.width
    dense = None
    if mask is not None:
        dense = np.zeros(values.shape, np.uint8)
        m = zoom(
            mask[pick, y0 : y1 + 1, x0 : x1 + 1], (1, factor, factor), order=0, grid_mode=True, mode="nearest"
        )
        dense[:, top : top + small.shape[1], left : left + small.shape[2]] = m[:, :size, :size]
    offset = (x0 - left * scale + (scale - 1) / 2, y0 - top * scale + (scale - 1) / 2)
    mm = region.mm_per_pixel[0] * scale if region else None
    return CineInput(values, scale, offset, mm, tuple(int(p) for p in pick), index, dense)
