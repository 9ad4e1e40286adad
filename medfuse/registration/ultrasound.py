"""Volume ↔ ultrasound (a 3D sweep, or one tracked frame) by LC²: the ultrasound as a local mix of the volume
and its gradient.

Wein et al., MICCAI 2013 (linear correlation of linear combination), with local patches and a derivative-free
search. Mutual information
alone fails here: an interface is bright in ultrasound whatever lies on its two sides. Experimental: the
    verdict is never better than "check".
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import uniform_filter
from scipy.optimize import minimize

from ..errors import UserError
from .quality import Quality
from .register import Registration, fixed_threads, moved

PATCH = 9  # ultrasound pixels across a patch
VOXELS = 250_000  # the ultrasound is thinned to about this many
# of the search about its start
REACH_MM = 15.0
REACH_RAD = 0.25
LEAST_COVER = 0.3  # share of the ultrasound that must stay inside the volume
EVALUATIONS = 260
NUDGE_MM = 6.0  # of the second search's start, which should end where the first did


@dataclass
class UltrasoundRegistration:
    """``result.transform`` maps ultrasound points to the volume (LPS mm). repeat_mm: how far apart two
    searches from different starts end, mean over the ultrasound; covered: share of the ultrasound inside the
    volume."""

    result: Registration
    repeat_mm: float
    covered: float


def lc2(
    ultrasound: np.ndarray, mask: np.ndarray, value: np.ndarray, gradient: np.ndarray, patch: int = PATCH
) -> float:
    """LC² in [0, 1] of arrays on one grid (Z, Y, X): 1 − residual / variance of the best local mix a·value +
    b·gradient + c.

    Patches count by the variance of the ultrasound in them; ``mask`` is where all three are known.
    """
    size = [min(patch, n) for n in ultrasound.shape]
    w = mask.astype(np.float32)
    share = uniform_filter(w, size)
    enough = mask & (share > 0.5)
    if not enough.any():
        return 0.0
    safe = np.maximum(share, 1e-3)

    def mean(x: np.ndarray) -> np.ndarray:
        return uniform_filter(x * w, size) / safe

    u, a, b = (np.where(mask, x, 0).astype(np.float32) for x in (ultrasound, value, gradient))
    mu = mean(u)
    ma = mean(a)
    mb = mean(b)
    suu = mean(u * u) - mu * mu
    saa = mean(a * a) - ma * ma
    sbb = mean(b * b) - mb * mb
    sua = mean(u * a) - mu * ma
    sub = mean(u * b) - mu * mb
    sab = mean(a * b) - ma * mb
    flat = 1e-4  # of a unit-variance image: a patch without structure explains nothing
    saa = saa + flat
    sbb = sbb + flat
    explained = (sua * sua * sbb - 2 * sua * sub * sab + sub * sub * saa) / np.maximum(
        saa * sbb - sab * sab, 1e-8
    )
    total = np.maximum(suu, 0)[enough]
    if total.sum() <= 0:
        return 0.0
    return float(np.clip(explained[enough], 0, total).sum() / total.sum())


def register_ultrasound(
    volume: sitk.Image,
    ultrasound: sitk.Image,
    *,
    start: sitk.Transform | None = None,
    seed: int = 1,
    search: bool = True,
) -> UltrasoundRegistration:
    """Rigid, from ``start`` (ultrasound → volume; none: where the tracker or header says). One slice of
    ultrasound is a tracked frame; without ``search`` it stays at its start, and LC² only says how well it
    fits there.

    Raises UserError where the two do not meet, or the ultrasound is all of one value.
    """
    began = time.perf_counter()
    with fixed_threads(1):
        task = _Search(volume, ultrasound, start or sitk.Euler3DTransform())
        initial = task.score(np.zeros(6))
        if task.covered(np.zeros(6)) < LEAST_COVER:
            raise UserError(
                "the ultrasound lies outside the volume; give landmarks or a tracked position to start from"
            )
        if not search:
            still = Registration(task.transform(np.zeros(6)), "rigid", -initial, -initial, [])
            return UltrasoundRegistration(still, 0.0, round(task.covered(np.zeros(6)), 4))
        first, curve = task.run(np.zeros(6))
        nudge = np.random.default_rng(seed).normal(size=6)
        nudge[3:] *= NUDGE_MM / np.linalg.norm(nudge[3:])
        nudge[:3] *= 0.05 / np.linalg.norm(nudge[:3])
        second, _ = task.run(nudge)
        best = max((first, second), key=task.score)
        found = task.transform(best)
        result = Registration(
            found, "rigid", -task.score(best), -initial, [curve], round(time.perf_counter() - began, 2)
        )
        points = task.points()
        apart = moved(points, task.transform(first)) - moved(points, task.transform(second))
        return UltrasoundRegistration(
            result, round(float(np.linalg.norm(apart, axis=1).mean()), 3), round(task.covered(best), 4)
        )


class _Search:
    """Parameters: three angles (rad) about the ultrasound's centre and three shifts (mm), before the
    start."""

    def __init__(self, volume: sitk.Image, ultrasound: sitk.Image, start: sitk.Transform) -> None:
        self.single = min(ultrasound.GetSize()) == 1
        step = max(1, round((np.prod(ultrasound.GetSize()) / VOXELS) ** (1 / (2 if self.single else 3))))
        shrink = [min(step, n) for n in ultrasound.GetSize()]
        self.grid = sitk.Shrink(sitk.Cast(ultrasound, sitk.sitkFloat32), shrink)
        u = sitk.GetArrayFromImage(self.grid)
        if float(np.ptp(u)) == 0:
            raise UserError("every pixel of the ultrasound has the same value; there is nothing to register")
        self.sector = u > u.min() + 0.02 * np.ptp(u)  # outside of the sector a frame is black
        self.u = (u - u[self.sector].mean()) / u[self.sector].std()
        spacing = float(np.median(self.grid.GetSpacing()))
        low = sitk.Cast(volume, sitk.sitkFloat32)
        smooth = sitk.SmoothingRecursiveGaussian(low, max(spacing, min(volume.GetSpacing())) * 0.5)
        edges = sitk.GradientMagnitudeRecursiveGaussian(low, max(spacing, min(volume.GetSpacing())))
        self.layers = [_unit(smooth), _unit(edges)]
        self.inside = sitk.Cast(volume * 0 + 1, sitk.sitkFloat32)
        self.start = start
        size = self.grid.GetSize()
        self.centre = self.grid.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in size])

    def transform(self, parameters: np.ndarray) -> sitk.Transform:
        own = sitk.Euler3DTransform()
        own.SetCenter(self.centre)
        own.SetRotation(*(float(v) for v in parameters[:3]))
        own.SetTranslation([float(v) for v in parameters[3:]])
        return _composed(self.start, own)

    def sampled(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        t = self.transform(parameters)
        value, edge, inside = (
            sitk.GetArrayFromImage(sitk.Resample(x, self.grid, t, sitk.sitkLinear, 0.0))
            for x in (*self.layers, self.inside)
        )
        return value, edge, inside > 0.99

    def score(self, parameters: np.ndarray) -> float:
        value, edge, inside = self.sampled(parameters)
        mask = self.sector & inside
        if mask.sum() < LEAST_COVER * self.sector.sum():
            return 0.0
        return lc2(self.u, mask, value, edge)

    def covered(self, parameters: np.ndarray) -> float:
        return float((self.sampled(parameters)[2] & self.sector).sum() / self.sector.sum())

    def run(self, begin: np.ndarray) -> tuple[np.ndarray, list[float]]:
        """COBYQA (a trust region without derivatives, as BOBYQA in the paper) in units where every parameter
        spans one."""
        unit = np.array([REACH_RAD] * 3 + [REACH_MM] * 3)
        curve: list[float] = []

        def cost(x: np.ndarray) -> float:
            curve.append(-self.score(x * unit))
            return curve[-1]

        options = {"maxfev": EVALUATIONS, "initial_tr_radius": 0.35, "final_tr_radius": 1e-3}
        found = minimize(cost, begin / unit, method="COBYQA", bounds=[(-1, 1)] * 6, options=options)
        return found.x * unit, curve

    def points(self) -> np.ndarray:
        """(N, 3) LPS mm, a coarse grid over the sector."""
        at = np.argwhere(self.sector)[:: max(1, int(self.sector.sum()) // 200)]
        return np.array([self.grid.TransformIndexToPhysicalPoint([int(v) for v in p[::-1]]) for p in at])


def _unit(image: sitk.Image) -> sitk.Image:
    a = sitk.GetArrayFromImage(image)
    return (image - float(a.mean())) / max(float(a.std()), 1e-6)


def _composed(start: sitk.Transform, own: sitk.Euler3DTransform) -> sitk.Transform:
    """start ∘ own as one rigid transform: files and DICOM then hold a matrix."""
    origin = np.zeros(3)
    axes = np.eye(3)
    both = [start.TransformPoint(own.TransformPoint(tuple(p))) for p in (origin, *axes)]
    matrix = np.stack([np.subtract(p, both[0]) for p in both[1:]], 1)
    out = sitk.AffineTransform(3)
    out.SetMatrix(matrix.ravel().tolist())
    out.SetTranslation([float(v) for v in both[0]])
    return out


APART_MM = 6.0  # two searches that end this far from each other found nothing


def assess_ultrasound(
    found: UltrasoundRegistration,
    *,
    searched: bool,
    landmarks: tuple[np.ndarray, np.ndarray] | None,
    same_patient: bool | None,
) -> Quality:
    """ "check" at best: nothing measured here can vouch for it. landmarks: matched (N, 3) LPS mm of the
    moving and the fixed image."""
    result = found.result
    failed = []
    doubts = ["experimental: a person must look whether ultrasound and volume show the same place"]
    if same_patient is False:
        failed.append("the identifiers are of two patients")
    if same_patient is None:
        doubts.append("the identifiers cannot be compared: whether both are of one patient is not known")
    if searched and found.repeat_mm > APART_MM:
        failed.append(f"two searches end {found.repeat_mm:.1f} mm apart")
    if found.covered < 0.7:
        doubts.append(f"{found.covered:.0%} of the ultrasound lies inside the volume")
    quality = Quality(
        "check",
        [],
        result.metric,
        result.initial_metric,
        0.0,
        found.covered,
        same_patient=same_patient,
        curve=result.curve,
    )
    if landmarks is not None:
        quality.tre_mm = round(
            float(np.linalg.norm(moved(landmarks[1], result.transform) - landmarks[0], axis=1).mean()), 4
        )
        quality.start_tre_mm = round(float(np.linalg.norm(landmarks[1] - landmarks[0], axis=1).mean()), 4)
        if quality.tre_mm > max(5.0, quality.start_tre_mm):
            failed.append(f"the landmarks lie {quality.tre_mm:.1f} mm apart")
    quality.verdict = "failed" if failed else "check"
    quality.reasons = failed + doubts
    return quality
