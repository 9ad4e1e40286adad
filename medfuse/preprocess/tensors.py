"""What preprocessing hands to the encoders."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8


@dataclass
class VolumeInput:
    """All series of one modality in one frame of reference, each resampled within that frame onto one grid.

    values: (R, X, Y, Z) float32, one channel a role, zeros where a role was not acquired; present: (R,) bool.
    affine: (4, 4) grid index → RAS+ mm of the same frame. dense: (X, Y, Z) uint8 label map, where known.
    images: index into ``Case.images`` of the image behind each role, -1 where absent.
    """

    modality: str
    values: Float32[np.ndarray, "r x y z"]
    present: Bool[np.ndarray, " r"]
    affine: Float[np.ndarray, "4 4"]
    frame_of_reference: str
    images: tuple[int, ...]
    dense: UInt8[np.ndarray, "x y z"] | None = None
    covered: Bool[np.ndarray, "x y z"] | None = None  # (X, Y, Z) bool, inside the acquired field of view


@dataclass
class CineInput:
    """One ultrasound clip. values: (T, S, S) float32. to_image: network pixel (x, y) → image pixel = scale *
    p + offset."""

    values: Float32[np.ndarray, "t s s"]
    scale: float  # image pixels a network pixel
    offset: tuple[float, float]  # image pixel (x, y) of network pixel (0, 0)
    mm_per_pixel: float | None  # of a network pixel; None where uncalibrated
    frames: tuple[int, ...]  # frame number in the image behind each network frame
    image: int  # index into Case.images
    dense: UInt8[np.ndarray, "t s s"] | None = None
