"""MR by the signal equations of spoiled gradient echo (in and opposed phase), spin echo T2 and diffusion.

In/opposed: |W exp(-TE R2*) ± F exp(-TE R2*)|, opposed at 2.3 ms and in phase at 4.6 ms at 1.5 T (half at 3 T).
Gadolinium shortens T1 by the same enhancement the CT phases use (one physiology, two modalities).
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter, zoom

from .anatomy import Anatomy
from .grid import Grid, axial_grid
from .parameters import PHASES
from .physics import lesion_blend, liver_like, lookup

RELAXIVITY = 4.5 / 1000  # 1/(mmol/L ms), gadobutrol-like
MMOL_PER_HU = 1 / 90.0  # enhancement of 90 HU stands for 1 mmol/L of gadolinium


SEQUENCES = ("t1_in", "t1_opposed", "t2", "dwi", "t1_arterial", "t1_portal", "t1_delayed")


def draw_protocol(rng: np.random.Generator) -> list[str]:
    sequences = ["t1_in"]
    if rng.random() < 0.85:
        sequences.append("t1_opposed")
    if rng.random() < 0.94:
        sequences.append("t2")
    if rng.random() < 0.6:
        sequences.append("dwi")
    if rng.random() < 0.55:
        sequences += ["t1_arterial", "t1_portal"] + (["t1_delayed"] if rng.random() < 0.6 else [])
    return sequences


def draw_grid(rng: np.random.Generator, anatomy: Anatomy, *, cut: bool) -> Grid:
    pixel = max(2.9, 2 * anatomy.body[0] * 1.06 / 116) * rng.uniform(1.0, 1.08)
    centre = np.array([rng.normal(0, 5), rng.normal(0, 5), anatomy.liver[0].centre[2] + rng.normal(-2, 5)])
    if cut:
        centre[2] -= rng.uniform(65, 95)
    slices = int(rng.integers(34, 39))
    return axial_grid(rng, shape=(116, 92, slices), spacing=(pixel, pixel, 6.0), tilt_deg=2.0, centre=centre)


def _bias(rng: np.random.Generator, shape) -> np.ndarray:
    coarse = rng.normal(0, 0.14, (4, 4, 3))
    return np.exp(zoom(coarse, [n / c for n, c in zip(shape, coarse.shape, strict=True)], order=2)).astype(np.float32)


def render(
    rng: np.random.Generator,
    anatomy: Anatomy,
    grid: Grid,
    sequences: list[str],
    *,
    shifted: bool = False,
    breathing: float = 1.0,
):
    """Yield (sequence, float32 volume in arbitrary units, dense mask). ``breathing`` 0: held where the anatomy is."""
    field3t = rng.random() < (0.9 if shifted else 0.15)
    suffix = "_3t" if field3t else ""
    te_opposed, te_in = (1.15, 2.3) if field3t else (2.3, 4.6)
    points = grid.body_points()
    breath = np.array([0, 0.15, 1.0]) * rng.normal(-2, 5) * breathing
    bias, gain = _bias(rng, grid.shape), rng.uniform(300, 900)
    noise = rng.uniform(0.010, 0.022) * (1.8 if shifted else 1.0)
    sample = None
    for sequence in sequences:
        if sample is None or rng.random() < 0.3:  # another breath-hold
            sample = anatomy.sample(points, breath + rng.normal(0, 1.0, 3))
        parenchyma = liver_like(sample)

        def prop(key, index=None, *, sample=sample):
            return lesion_blend(sample, anatomy, lookup(anatomy, key, index)[sample.tissue], key, index)

        pd, r2s = prop("pd"), np.maximum(prop("r2s"), 8.0)
        r2s[parenchyma] = anatomy.r2s * (1.9 if field3t else 1.0)
        fat = prop("pdff")
        fat[parenchyma] = anatomy.pdff
        t1 = np.maximum(prop("t1" + suffix), 150.0)
        if sequence.startswith("t1"):
            r1 = 1 / t1
            fat_saturated = sequence not in ("t1_in", "t1_opposed")
            if fat_saturated:
                phase = PHASES.index(sequence.removeprefix("t1_")) - 1
                enhancement = prop("iodine", phase)
                enhancement[parenchyma] *= 1 + 0.12 * sample.nodules[parenchyma]
                r1 = r1 + RELAXIVITY * MMOL_PER_HU * np.maximum(enhancement, 0) * rng.normal(1, 0.08)
            tr, flip = (150.0, np.deg2rad(70)) if not fat_saturated else (5.0, np.deg2rad(12))
            e1 = np.exp(-tr * r1)
            magnetisation = pd * np.sin(flip) * (1 - e1) / (1 - np.cos(flip) * e1)
            te = te_opposed if sequence == "t1_opposed" else te_in if sequence == "t1_in" else te_opposed / 2
            decay = np.exp(-te * r2s / 1000)
            sign = -1.0 if sequence == "t1_opposed" else 0.08 if fat_saturated else 1.0
            signal = np.abs((1 - fat) + sign * fat) * magnetisation * decay
            signal *= 4.0 if fat_saturated else 1.0
        else:
            t2 = 1 / (1 / np.maximum(prop("t2" + suffix), 4.0) + 0.0)
            t2[parenchyma] = 1 / (1 / t2[parenchyma] + np.maximum(anatomy.r2s - 38, 0) * 0.00006)
            if sequence == "t2":
                signal = pd * np.exp(-85 / t2) * (1 - 0.3 * fat)
            else:  # diffusion, b = 800 s/mm2, fat suppressed
                signal = 2.5 * pd * np.exp(-60 / t2) * np.exp(-0.8 * prop("adc")) * (1 - fat)
        volume = gaussian_filter(signal.astype(np.float32), (0.5, 0.5, 0.35)) * bias
        scale = noise * (1.4 if sequence == "dwi" else 1.0)
        real = volume + scale * rng.standard_normal(grid.shape, dtype=np.float32)
        imaginary = scale * rng.standard_normal(grid.shape, dtype=np.float32)
        yield sequence, gain * np.hypot(real, imaginary), sample.dense(anatomy.lesions)
