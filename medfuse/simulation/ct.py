"""CT in Hounsfield units: attenuation plus iodine by phase, partial volume, correlated quantum noise."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.ndimage import gaussian_filter

from .anatomy import Anatomy
from .grid import Grid, axial_grid
from .parameters import PHASES, table
from .physics import lesion_blend, liver_like, lookup


def draw_protocol(rng: np.random.Generator) -> list[str]:
    """Which phases were acquired: practice varies and often lacks the phase that would settle it."""
    kind = rng.random()
    if kind < 0.12:
        return ["unenhanced"]
    if kind < 0.45:
        return ["portal"] if rng.random() < 0.6 else ["unenhanced", "portal"]
    phases = ["arterial", "portal"]
    if rng.random() < 0.6:
        phases.insert(0, "unenhanced")
    if rng.random() < 0.5:
        phases.append("delayed")
    return phases


def draw_grid(rng: np.random.Generator, anatomy: Anatomy, *, cut: bool) -> Grid:
    """Matrix, pixel and slice of one CT; ``cut`` leaves the top of the liver outside (limited coverage)."""
    pixel = max(2.6, 2 * anatomy.body[0] * 1.06 / 128) * rng.uniform(1.0, 1.08)
    slices = int(rng.integers(40, 46))
    centre = np.array([rng.normal(0, 4), rng.normal(0, 4), anatomy.liver[0].centre[2] + rng.normal(-2, 5)])
    if cut:
        centre[2] -= rng.uniform(65, 95)
    return axial_grid(rng, shape=(128, 104, slices), spacing=(pixel, pixel, 5.0), tilt_deg=1.2, centre=centre)


def render(
    rng: np.random.Generator,
    anatomy: Anatomy,
    grid: Grid,
    phases: list[str],
    *,
    shifted: bool = False,
    breathing: float = 1.0,
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield (phase, HU float32 volume, dense mask) for each phase; phases breathe 1-2 mm apart."""
    points = grid.body_points()
    breath = np.array([0, 0.15, 1.0]) * rng.normal(-4, 4) * breathing
    kernel = rng.uniform(0.45, 0.7) if not shifted else rng.uniform(0.15, 0.3)
    noise = rng.uniform(7, 14) * (1.5 if shifted else 1.0) * anatomy.habitus
    sample = None
    diffuse = table().diffuse
    for phase in phases:
        moved = rng.random() < 0.35
        if sample is None or moved:
            sample = anatomy.sample(points, breath + rng.normal(0, 0.8, 3))
        hu = lookup(anatomy, "hu")[sample.tissue]
        parenchyma = liver_like(sample)
        hu[parenchyma] += diffuse.steatosis.hu_per_pdff * (anatomy.diffuse.pdff - 0.03)
        hu[parenchyma] += diffuse.iron.hu_per_r2s * (anatomy.diffuse.r2s - 38)
        hu = lesion_blend(sample, anatomy, hu, "hu")
        if phase != "unenhanced":
            index = PHASES.index(phase) - 1
            iodine = lookup(anatomy, "iodine", index)[sample.tissue]
            iodine[parenchyma] *= 1 + 0.12 * sample.nodules[parenchyma]
            iodine = lesion_blend(sample, anatomy, iodine, "iodine", index)
            hu += iodine * rng.normal(1, 0.08)
        volume = gaussian_filter(hu, (kernel, kernel, 0.45))
        grain = gaussian_filter(rng.standard_normal(grid.shape, dtype=np.float32), (kernel, kernel, 0.2))
        volume += noise * grain / max(float(grain.std()), 1e-6)
        yield phase, np.clip(volume, -1024, 3071).astype(np.float32), sample.dense(anatomy.lesions)
