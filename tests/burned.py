"""Pictures with a name burned in, for tests and benchmarks/burned_in.py. Simulated: discs and speckle."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"


def noise(shape: tuple[int, int], seed: int) -> np.ndarray:
    """Speckle: Rayleigh noise, (H, W) float."""
    return np.random.default_rng(seed).rayleigh(45, shape)


def patient(shape: tuple[int, int], *, top: int, seed: int = 0) -> np.ndarray:
    """A slice of a body: an ellipse with organs of their own grey and noise, (H, W) int from 0 to ``top``."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    body = np.where((x / 0.85) ** 2 + (y / 0.65) ** 2 < 1, 0.6, 0.0)
    for _ in range(12):
        cx, cy, r = rng.uniform(-0.5, 0.5), rng.uniform(-0.4, 0.4), rng.uniform(0.05, 0.2)
        body[(x - cx) ** 2 + (y - cy) ** 2 < r**2] = rng.uniform(0.3, 1.0)
    return (np.clip(body + rng.normal(0, 0.02, shape), 0, 1) * top).astype(int)


def sector(shape: tuple[int, int], seed: int) -> np.ndarray:
    """An ultrasound sector of speckle on black, (H, W) uint8."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    r = np.hypot(y + 0.1 * shape[0], x - shape[1] / 2)
    angle = np.abs(np.arctan2(x - shape[1] / 2, y + 0.1 * shape[0]))
    inside = (angle < 0.6) & (r < shape[0]) & (r > 0.2 * shape[0])
    return (inside * noise(shape, seed).clip(0, 200)).astype(np.uint8)


def written_on(
    picture: np.ndarray, text: str, *, at: tuple[int, int], height: int, value: int, font: str = "DejaVuSans"
) -> np.ndarray:
    """The picture (H, W) with ``text`` in grey ``value``, its upper left at (x, y), in that size."""
    mask = Picture.new("L", picture.shape[::-1])
    face = ImageFont.truetype(str(FONTS / f"{font}.ttf"), height)
    ImageDraw.Draw(mask).text(at, text, fill=255, font=face)
    drawn = np.asarray(mask) / 255.0
    return (picture * (1 - drawn) + value * drawn).astype(picture.dtype)


def letters(plain: np.ndarray, named: np.ndarray) -> np.ndarray:
    """Where the two differ: the letters, bool."""
    return np.asarray(plain) != np.asarray(named)
