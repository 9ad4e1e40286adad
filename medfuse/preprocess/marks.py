"""Measuring crosses, dotted lines and letters burned into ultrasound: painted over, so that no network learns
from them."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

# levels, levels above their surroundings, pixels: thinner than this is no tissue
BRIGHT = 120
ABOVE = 50
STROKE = 5
NEAR = 3.0  # pixels: how far the surroundings reach that take a mark's place


def find_marks(frame: np.ndarray) -> np.ndarray:
    """(H, W) bool: thin bright strokes in a grey frame (H, W) uint8 (white top-hat), grown by a pixel."""
    tall = frame.astype(np.int16) - ndimage.grey_opening(frame, size=(STROKE, STROKE)).astype(np.int16)
    return ndimage.binary_dilation((tall > ABOVE) & (frame > BRIGHT), iterations=1)


def remove_marks(frames: np.ndarray) -> np.ndarray:
    """Frames (T, H, W) uint8 with every mark replaced by the mean of what surrounds it (normalised
    convolution)."""
    out = frames.copy()
    for frame in out:
        marks = find_marks(frame)
        if marks.any():
            valid = (~marks).astype(np.float32)
            weight = ndimage.gaussian_filter(valid, NEAR)
            around = ndimage.gaussian_filter(frame * valid, NEAR) / np.maximum(weight, 1e-3)
            frame[marks] = np.clip(around[marks], 0, 255).astype(np.uint8)
    return out
