"""MR by the signal equations of spoiled gradient echo (in and opposed phase), spin echo T2 and diffusion.

In/opposed: |W exp(-TE R2*) ± F exp(-TE R2*)|, opposed at 2.3 ms and in phase at 4.6 ms at 1.5 T (half at 3
T). Gadolinium shortens T1 by the same enhancement the CT phases use (one physiology, two modalities).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.ndimage import gaussian_filter, zoom

from .anatomy import Anatomy
from .grid import Grid, axial_grid
from .parameters import PHASES, Property
from .physics import lesion_blend, liver_like, lookup
from .shapes import Sample

RELAXIVITY = 4.5 / 1000  # 1/(mmol/L ms), gadobutrol-like
MMOL_PER_HU = 1 / 90.0  # enhancement of 90 HU stands for 1 mmol/L of gadolinium

SEQUENCES = ("t1_in", "t1_opposed", "t2", "dwi", "t1_arterial", "t1_portal", "t1_delayed")
WITHOUT_GADOLINIUM = ("t1_in", "t1_opposed")


def draw_protocol(rng: np.random.Generator) -> list[str]:
    """Which sequences were acquired; not every examination has them all."""
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
    """Matrix, pixel and slice of one MR; ``cut`` leaves the top of the liver outside (limited coverage)."""
    pixel = max(2.9, 2 * anatomy.body[0] * 1.06 / 116) * rng.uniform(1.0, 1.08)
    centre = np.array([rng.normal(0, 5), rng.normal(0, 5), anatomy.liver[0].centre[2] + rng.normal(-2, 5)])
    if cut:
        centre[2] -= rng.uniform(65, 95)
    slices = int(rng.integers(34, 39))
    return axial_grid(rng, shape=(116, 92, slices), spacing=(pixel, pixel, 6.0), tilt_deg=2.0, centre=centre)


def _bias(rng: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    coarse = rng.normal(0, 0.14, (4, 4, 3))
    return np.exp(zoom(coarse, [n / c for n, c in zip(shape, coarse.shape, strict=True)], order=2)).astype(
        np.float32
    )


@dataclass(frozen=True, kw_only=True)
class _Scanner:
    """Field strength and, with it, which T1 and T2 hold, the echo times in ms and the gain of R2*."""

    t1: Property
    t2: Property
    te_opposed: float
    te_in: float
    r2s_gain: float


AT_1_5_T = _Scanner(t1="t1", t2="t2", te_opposed=2.3, te_in=4.6, r2s_gain=1.0)
AT_3_T = _Scanner(t1="t1_3t", t2="t2_3t", te_opposed=1.15, te_in=2.3, r2s_gain=1.9)


@dataclass(frozen=True, kw_only=True)
class _Scene:
    """One breath-hold of one patient in one scanner: each tissue property as a volume."""

    scanner: _Scanner
    anatomy: Anatomy
    sample: Sample

    @cached_property
    def parenchyma(self) -> np.ndarray:
        return liver_like(self.sample)

    def prop(self, key: Property, index: int | None = None) -> np.ndarray:
        base = lookup(self.anatomy, key, index)[self.sample.tissue]
        return lesion_blend(self.sample, self.anatomy, base, key, index)

    def fat(self) -> np.ndarray:
        """Fat fraction."""
        fat = self.prop("pdff")
        fat[self.parenchyma] = self.anatomy.diffuse.pdff
        return fat


def _t1_weighted(rng: np.random.Generator, scene: _Scene, sequence: str) -> np.ndarray:
    """Spoiled gradient echo: in phase, opposed phase, or fat saturated after gadolinium."""
    scanner = scene.scanner
    r2s = np.maximum(scene.prop("r2s"), 8.0)
    r2s[scene.parenchyma] = scene.anatomy.diffuse.r2s * scanner.r2s_gain
    r1 = 1 / np.maximum(scene.prop(scanner.t1), 150.0)
    if sequence in WITHOUT_GADOLINIUM:
        opposed = sequence == "t1_opposed"
        te = scanner.te_opposed if opposed else scanner.te_in
        sign = -1.0 if opposed else 1.0
        return _spoiled_echo(scene, r1, r2s, tr=150.0, flip_deg=70, te=te, sign=sign)
    r1 = r1 + _gadolinium(rng, scene, PHASES.index(sequence.removeprefix("t1_")) - 1)
    te = scanner.te_opposed / 2
    return 4.0 * _spoiled_echo(scene, r1, r2s, tr=5.0, flip_deg=12, te=te, sign=0.08)


def _gadolinium(rng: np.random.Generator, scene: _Scene, phase: int) -> np.ndarray:
    """What the contrast agent adds to R1 in 1/ms at a phase."""
    enhancement = scene.prop("iodine", phase)
    enhancement[scene.parenchyma] *= 1 + 0.12 * scene.sample.nodules[scene.parenchyma]
    return RELAXIVITY * MMOL_PER_HU * np.maximum(enhancement, 0) * rng.normal(1, 0.08)


def _spoiled_echo(
    scene: _Scene, r1: np.ndarray, r2s: np.ndarray, *, tr: float, flip_deg: float, te: float, sign: float
) -> np.ndarray:
    """The Ernst equation with R2* decay at ``te``; fat adds with ``sign`` (-1: opposed). Times in ms."""
    flip = np.deg2rad(flip_deg)
    e1 = np.exp(-tr * r1)
    magnetisation = scene.prop("pd") * np.sin(flip) * (1 - e1) / (1 - np.cos(flip) * e1)
    fat = scene.fat()
    return np.abs((1 - fat) + sign * fat) * magnetisation * np.exp(-te * r2s / 1000)


def _t2_weighted(scene: _Scene, sequence: str) -> np.ndarray:
    """Spin echo, or diffusion (b = 800 s/mm2, fat suppressed)."""
    t2 = 1 / (1 / np.maximum(scene.prop(scene.scanner.t2), 4.0) + 0.0)
    iron = np.maximum(scene.anatomy.diffuse.r2s - 38, 0) * 0.00006
    t2[scene.parenchyma] = 1 / (1 / t2[scene.parenchyma] + iron)
    pd = scene.prop("pd")
    fat = scene.fat()
    if sequence == "t2":
        return pd * np.exp(-85 / t2) * (1 - 0.3 * fat)
    return 2.5 * pd * np.exp(-60 / t2) * np.exp(-0.8 * scene.prop("adc")) * (1 - fat)


def render(
    rng: np.random.Generator,
    anatomy: Anatomy,
    grid: Grid,
    sequences: list[str],
    *,
    shifted: bool = False,
    breathing: float = 1.0,
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield (sequence, float32 volume in arbitrary units, dense mask). ``breathing`` 0: held where the
    anatomy is."""
    scanner = AT_3_T if rng.random() < (0.9 if shifted else 0.15) else AT_1_5_T
    points = grid.body_points()
    breath = np.array([0, 0.15, 1.0]) * rng.normal(-2, 5) * breathing
    bias = _bias(rng, grid.shape)
    gain = rng.uniform(300, 900)
    noise = rng.uniform(0.010, 0.022) * (1.8 if shifted else 1.0)
    sample: Sample | None = None
    for sequence in sequences:
        if sample is None or rng.random() < 0.3:  # another breath-hold
            sample = anatomy.sample(points, breath + rng.normal(0, 1.0, 3))
        scene = _Scene(scanner=scanner, anatomy=anatomy, sample=sample)
        is_t1 = sequence.startswith("t1")
        signal = _t1_weighted(rng, scene, sequence) if is_t1 else _t2_weighted(scene, sequence)
        volume = gaussian_filter(signal.astype(np.float32), (0.5, 0.5, 0.35)) * bias
        scale = noise * (1.4 if sequence == "dwi" else 1.0)
        real = volume + scale * rng.standard_normal(grid.shape, dtype=np.float32)
        imaginary = scale * rng.standard_normal(grid.shape, dtype=np.float32)
        yield sequence, gain * np.hypot(real, imaginary), sample.dense(anatomy.lesions)
