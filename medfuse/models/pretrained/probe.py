"""A made-up scan that differs along every axis and in every organ: what checks of an encoder look at. No
patient."""

from __future__ import annotations

import numpy as np

from ...case import Image, Source
from ...modalities import is_cine, modality_of

SHAPE = (176, 144, 96)
SPACING_MM = (2.0, 2.0, 3.0)
# centre (share of each axis: right, front, head), half axes (share), HU: a trunk with organs where they
# belong
ORGANS = (
    ((0.5, 0.5, 0.5), (0.44, 0.40, 0.9), 30.0),
    ((0.5, 0.18, 0.5), (0.09, 0.10, 0.9), 450.0),  # spine
    ((0.70, 0.58, 0.42), (0.20, 0.28, 0.30), 120.0),  # liver
    ((0.25, 0.50, 0.46), (0.08, 0.13, 0.15), 160.0),  # spleen
    ((0.34, 0.68, 0.40), (0.13, 0.14, 0.22), -700.0),  # stomach with gas
    ((0.70, 0.55, 0.90), (0.15, 0.26, 0.20), -820.0),  # lungs
    ((0.26, 0.55, 0.90), (0.14, 0.26, 0.20), 15.0),  # the other one full of fluid: sides differ
    ((0.55, 0.34, 0.40), (0.03, 0.03, 0.5), 280.0),  # vessel
    ((0.68, 0.30, 0.22), (0.05, 0.06, 0.11), 190.0),  # kidneys
    ((0.33, 0.30, 0.25), (0.05, 0.06, 0.12), 190.0),
)


def probe(code: str) -> Image:
    """A scan of a modality: a volume in RAS+, or a cine of 24 frames."""
    rng = np.random.default_rng(20)
    if is_cine(code):
        return _cine(code, rng)
    axes = [np.linspace(0, 1, n, dtype=np.float32) for n in SHAPE]
    x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
    values: np.ndarray = np.full(SHAPE, -1000, np.float32)
    for (a, b, c), (u, v, w), level in ORGANS:
        values[((x - a) / u) ** 2 + ((y - b) / v) ** 2 + ((z - c) / w) ** 2 < 1] = level
    values = values + rng.normal(0, 12, SHAPE).astype(np.float32)
    if modality_of(code).outside == "zero":  # no air of -1000
        values = np.clip(values + 1000, 0, None)
        values = values / 160 if modality_of(code).values == "uptake" else values
    affine = np.diag([*SPACING_MM, 1.0])
    return Image(code, values, Source("the probe"), affine=affine, frame_of_reference="probe", role="unknown")


def _cine(code: str, rng: np.random.Generator) -> Image:
    """A fan with a bright wall on one side and a dark round that moves and grows."""
    rows, columns = np.mgrid[0:240, 0:320].astype(np.float32)
    frames = []
    for t in range(24):
        fan = np.hypot(rows, columns - 160) < 230
        tissue = 60 + 50 * np.exp(-rows / 120) + 40 * (columns > 200) * (rows > 60)
        dark = np.hypot(rows - 110 - 2 * t, columns - 110) < 18 + t
        frame = np.where(dark, 8, tissue) * fan * rng.uniform(0.6, 1.0, rows.shape)
        frames.append(frame.clip(0, 255).astype(np.uint8))
    return Image(code, np.stack(frames), Source("the probe"), role="unknown", frame_ms=40.0)
