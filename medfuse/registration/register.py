"""Bring one volume onto another by multi-resolution mutual information (SimpleITK): rigid, affine, or
B-spline after rigid.

Mattes et al., IEEE TMI 2003 (mutual information, B-splines). Repeatable bit by bit: sampling has a seed,
threads are fixed, and the joint histogram is summed in one order.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import SimpleITK as sitk
from jaxtyping import Float, Num

from ..errors import UserError

Kind = Literal["rigid", "affine", "deformable"]
BINS = 48


@dataclass(frozen=True)
class RegisterOptions:
    kind: Kind = "rigid"
    seed: int = 1
    threads: int = 1  # more is faster and differs in the eighth digit from run to run
    node_mm: float = 40.0  # of the B-spline's control points


@dataclass
class Registration:
    """``transform`` maps points of the fixed image to the moving one (as SimpleITK resamples). curve: metric
    by iteration and level."""

    transform: sitk.Transform
    kind: Kind
    metric: float
    initial_metric: float
    curve: list[list[float]] = field(default_factory=list)
    seconds: float = 0.0


@contextmanager
def fixed_threads(n: int) -> Iterator[None]:
    """Let SimpleITK use ``n`` threads inside the block, and as many as before after it."""
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(n)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


@dataclass(frozen=True)
class _Pair:
    """What is registered: a moving and a fixed image, where their metric is measured, and how."""

    moving: sitk.Image
    fixed: sitk.Image
    options: RegisterOptions
    fixed_mask: sitk.Image | None = None
    moving_mask: sitk.Image | None = None


@dataclass(frozen=True, kw_only=True)
class _Pyramid:
    """One stage of the search: shrink factors and smoothing by level, how fast steps shrink, and voxels."""

    shrink: tuple[int, ...] = (4, 2)
    smooth: tuple[float, ...] = (2.0, 1.0)
    relax: float = 0.6
    samples: int = 60_000


COARSE = _Pyramid(samples=20_000)
ALONE = _Pyramid()  # where no finer stage follows
# steps shrink slowly: mutual information is flat about its optimum, above all in rotation
FINE = _Pyramid(shrink=(1,), smooth=(0.0,), relax=0.95, samples=30_000)
AFFINE = _Pyramid(shrink=(2, 1), smooth=(1.0, 0.0), relax=0.8)

Curve = list[list[float]]  # metric by iteration, by level


def register(
    moving: sitk.Image,
    fixed: sitk.Image,
    options: RegisterOptions = RegisterOptions(),
    *,
    fixed_mask: sitk.Image | None = None,
    moving_mask: sitk.Image | None = None,
    start: sitk.Transform | None = None,
    quick: bool = False,
) -> Registration:
    """Register. ``start`` replaces the alignment of moments; ``quick`` leaves out the last, finest stage.
    Raises UserError where the images do not overlap at all."""
    started = time.perf_counter()
    pair = _Pair(moving, fixed, options, fixed_mask, moving_mask)
    with fixed_threads(options.threads):
        first = start or _by_moments(moving, fixed)
        try:
            before = _metric(pair, first)
            found, curve = _search(pair, first, quick=quick)
            after = _metric(pair, found)
        except RuntimeError as e:
            if "samples map outside" in str(e) or "All samples" in str(e) or "Not enough" in str(e):
                raise UserError(
                    "the two images do not overlap, or too little to compare; check that they show the "
                    "same region"
                ) from e
            raise
    return Registration(found, options.kind, after, before, curve, time.perf_counter() - started)


def _search(pair: _Pair, first: sitk.Transform, *, quick: bool) -> tuple[sitk.Transform, Curve]:
    """Rigid, then finer, then affine, then B-spline, as far as the options ask."""
    kind = pair.options.kind
    found, curve = _stage(pair, first, ALONE if quick else COARSE)
    if not quick:
        found, more = _stage(pair, found, FINE)
        curve += more
    if kind in ("affine", "deformable"):
        found, more = _stage(pair, _as_affine(found), AFFINE)
        curve += more
    if kind == "deformable":
        found, more = _bspline(pair, found)
        curve += more
    return found, curve


def _by_moments(moving: sitk.Image, fixed: sitk.Image) -> sitk.Transform:
    """Centres of mass onto each other; of what stands out from the background, so that padding does not
    count."""
    f, m = (sitk.Cast(sitk.OtsuThreshold(i, 0, 1), sitk.sitkFloat32) for i in (fixed, moving))
    return sitk.CenteredTransformInitializer(
        f, m, sitk.Euler3DTransform(), sitk.CenteredTransformInitializerFilter.MOMENTS
    )


def _method(pair: _Pair) -> sitk.ImageRegistrationMethod:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetInterpolator(sitk.sitkLinear)
    if pair.fixed_mask is not None:
        method.SetMetricFixedMask(sitk.Cast(pair.fixed_mask > 0, sitk.sitkUInt8))
    if pair.moving_mask is not None:
        method.SetMetricMovingMask(sitk.Cast(pair.moving_mask > 0, sitk.sitkUInt8))
    return method


def _metric(pair: _Pair, transform: sitk.Transform) -> float:
    """Negative mutual information on a regular tenth of the voxels."""
    method = _method(pair)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(0.1)
    method.SetInitialTransform(transform)
    return float(method.MetricEvaluate(pair.fixed, pair.moving))


def _stage(pair: _Pair, first: sitk.Transform, levels: _Pyramid) -> tuple[sitk.Transform, Curve]:
    method = _method(pair)
    seed = pair.options.seed
    voxels = float(np.prod(pair.fixed.GetSize()))
    shares = [min(1.0, levels.samples / (voxels / s**3)) for s in levels.shrink]
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentagePerLevel([max(1e-4, s) for s in shares], seed)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=0.5 if levels.shrink == (1,) else 2.0,
        minStep=1e-3,
        numberOfIterations=250,
        relaxationFactor=levels.relax,
        gradientMagnitudeTolerance=1e-9,
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel(list(levels.shrink))
    method.SetSmoothingSigmasPerLevel(list(levels.smooth))
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOff()
    method.SetInitialTransform(first, inPlace=False)
    return _run(method, pair)


def _run(method: sitk.ImageRegistrationMethod, pair: _Pair) -> tuple[sitk.Transform, Curve]:
    curve: Curve = []

    def note() -> None:
        if not curve:
            curve.append([])
        curve[-1].append(float(method.GetMetricValue()))

    method.AddCommand(sitk.sitkMultiResolutionIterationEvent, lambda: curve.append([]))
    method.AddCommand(sitk.sitkIterationEvent, note)
    return plain(method.Execute(pair.fixed, pair.moving)), curve


def plain(transform: sitk.Transform) -> sitk.Transform:
    """Composites within composites made one, and a composite of one that one: files hold them so."""
    if transform.GetName() != "CompositeTransform":
        return transform
    flat = sitk.CompositeTransform(transform)
    flat.FlattenTransform()
    return flat.GetNthTransform(0) if flat.GetNumberOfTransforms() == 1 else flat


def _as_affine(rigid: sitk.Transform) -> sitk.AffineTransform:
    inner = sitk.Euler3DTransform(rigid.Downcast() if hasattr(rigid, "Downcast") else rigid)
    out = sitk.AffineTransform(3)
    out.SetMatrix(inner.GetMatrix())
    out.SetTranslation(inner.GetTranslation())
    out.SetCenter(inner.GetCenter())
    return out


def _bspline(pair: _Pair, first: sitk.Transform) -> tuple[sitk.Transform, Curve]:
    """A cubic B-spline on top of ``first``: its grid is refined twofold once."""
    fixed = pair.fixed
    options = pair.options
    extent = [n * s for n, s in zip(fixed.GetSize(), fixed.GetSpacing(), strict=True)]
    mesh = [max(2, int(np.ceil(e / options.node_mm))) for e in extent]
    method = _method(pair)
    voxels = float(np.prod(fixed.GetSize()))
    shrink = (4, 2)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentagePerLevel(
        [min(1.0, 120_000 / (voxels / s**3)) for s in shrink], options.seed
    )
    method.SetOptimizerAsLBFGS2(solutionAccuracy=1e-4, numberOfIterations=40, deltaConvergenceTolerance=1e-5)
    method.SetShrinkFactorsPerLevel(list(shrink))
    method.SetSmoothingSigmasPerLevel([2.0, 1.0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOff()
    method.SetMovingInitialTransform(first)
    spline = sitk.BSplineTransformInitializer(fixed, mesh, 3)
    method.SetInitialTransformAsBSpline(spline, inPlace=True, scaleFactors=[1, 2])
    _, curve = _run(method, pair)
    return plain(sitk.CompositeTransform([first, spline])), curve


def resampled(
    moving: sitk.Image, fixed: sitk.Image, transform: sitk.Transform, *, linear: bool = True
) -> sitk.Image:
    """The moving image on the fixed grid; outside of it the moving image's minimum."""
    low = float(sitk.GetArrayViewFromImage(moving).min())
    return sitk.Resample(
        moving, fixed, transform, sitk.sitkLinear if linear else sitk.sitkNearestNeighbor, low
    )


def moved(points: Num[np.ndarray, "n 3"], transform: sitk.Transform) -> Float[np.ndarray, "n 3"]:
    """(N, 3) LPS mm of the fixed image → of the moving one."""
    return np.array([transform.TransformPoint([float(v) for v in p]) for p in points])


def by_landmarks(moving: Float[np.ndarray, "n 3"], fixed: Float[np.ndarray, "m 3"]) -> sitk.Transform:
    """The rigid transform that brings matched points (N, 3) LPS mm onto each other in the least-squares
    sense: where intensity fails, as between MR and ultrasound (experimental)."""
    if len(moving) != len(fixed) or len(fixed) < 3:
        raise UserError(
            f"{len(moving)} moving and {len(fixed)} fixed landmarks; give at least 3 pairs in the same order"
        )
    return sitk.LandmarkBasedTransformInitializer(
        sitk.VersorRigid3DTransform(), fixed.ravel().tolist(), moving.ravel().tolist()
    )


def matrix_of(transform: sitk.Transform) -> Float[np.ndarray, "4 4"]:
    """(4, 4) of a linear transform in LPS mm."""
    out = np.eye(4)
    zero = np.array(transform.TransformPoint([0.0, 0.0, 0.0]))
    for axis in range(3):
        unit = [0.0, 0.0, 0.0]
        unit[axis] = 1.0
        out[:3, axis] = np.array(transform.TransformPoint(unit)) - zero
    out[:3, 3] = zero
    return out
