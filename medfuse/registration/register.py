"""Bring one volume onto another by multi-resolution mutual information (SimpleITK): rigid, affine, or B-spline after rigid.

Mattes et al., IEEE TMI 2003 (mutual information, B-splines). Repeatable bit by bit: sampling has a seed, threads are fixed, and the
joint histogram is summed in one order.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import SimpleITK as sitk

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
    """``transform`` maps points of the fixed image to the moving one (as SimpleITK resamples). curve: metric by iteration and level."""

    transform: sitk.Transform
    kind: Kind
    metric: float
    initial_metric: float
    curve: list[list[float]] = field(default_factory=list)
    seconds: float = 0.0


@contextmanager
def fixed_threads(n: int) -> Iterator[None]:
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(n)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def register(
    moving: sitk.Image, fixed: sitk.Image, options: RegisterOptions = RegisterOptions(), *, fixed_mask: sitk.Image | None = None,
    moving_mask: sitk.Image | None = None, start: sitk.Transform | None = None, quick: bool = False,
) -> Registration:  # fmt: skip
    """Register. ``start`` replaces the alignment of moments; ``quick`` leaves out the last, finest stage. Raises UserError where the images do not overlap at all."""
    started = time.perf_counter()
    with fixed_threads(options.threads):
        first = start or _by_moments(moving, fixed)
        masks = (fixed_mask, moving_mask)
        try:
            before = _metric(moving, fixed, first, masks)
            found, curve = _stage(moving, fixed, first, options, masks, samples=60_000 if quick else 20_000)
            if not quick:  # steps shrink slowly: mutual information is flat about its optimum, above all in rotation
                found, more = _stage(
                    moving, fixed, found, options, masks, shrink=(1,), smooth=(0.0,), relax=0.95, samples=30_000
                )
                curve += more
            if options.kind in ("affine", "deformable"):
                affine = _as_affine(found)
                found, more = _stage(moving, fixed, affine, options, masks, shrink=(2, 1), smooth=(1.0, 0.0), relax=0.8)
                curve += more
            if options.kind == "deformable":
                found, more = _bspline(moving, fixed, found, options, masks)
                curve += more
            after = _metric(moving, fixed, found, masks)
        except RuntimeError as e:
            if "samples map outside" in str(e) or "All samples" in str(e) or "Not enough" in str(e):
                raise UserError(
                    "the two images do not overlap, or too little to compare; check that they show the same region"
                ) from e
            raise
    return Registration(found, options.kind, after, before, curve, time.perf_counter() - started)


def _by_moments(moving: sitk.Image, fixed: sitk.Image) -> sitk.Transform:
    """Centres of mass onto each other; of what stands out from the background, so that padding does not count."""
    f, m = (sitk.Cast(sitk.OtsuThreshold(i, 0, 1), sitk.sitkFloat32) for i in (fixed, moving))
    return sitk.CenteredTransformInitializer(
        f, m, sitk.Euler3DTransform(), sitk.CenteredTransformInitializerFilter.MOMENTS
    )


def _method(moving: sitk.Image, fixed: sitk.Image, masks, seed: int) -> sitk.ImageRegistrationMethod:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetInterpolator(sitk.sitkLinear)
    if masks[0] is not None:
        method.SetMetricFixedMask(sitk.Cast(masks[0] > 0, sitk.sitkUInt8))
    if masks[1] is not None:
        method.SetMetricMovingMask(sitk.Cast(masks[1] > 0, sitk.sitkUInt8))
    return method


def _metric(moving: sitk.Image, fixed: sitk.Image, transform: sitk.Transform, masks) -> float:
    """Negative mutual information on a regular tenth of the voxels."""
    method = _method(moving, fixed, masks, 1)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(0.1)
    method.SetInitialTransform(transform)
    return float(method.MetricEvaluate(fixed, moving))


def _stage(
    moving: sitk.Image, fixed: sitk.Image, first: sitk.Transform, options: RegisterOptions, masks, *,
    shrink: tuple[int, ...] = (4, 2), smooth: tuple[float, ...] = (2.0, 1.0), relax: float = 0.6, samples: int = 60_000,
) -> tuple[sitk.Transform, list[list[float]]]:  # fmt: skip
    method = _method(moving, fixed, masks, options.seed)
    voxels = float(np.prod(fixed.GetSize()))
    shares = [min(1.0, samples / (voxels / s**3)) for s in shrink]
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentagePerLevel([max(1e-4, s) for s in shares], options.seed)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=0.5 if shrink == (1,) else 2.0,
        minStep=1e-3,
        numberOfIterations=250,
        relaxationFactor=relax,
        gradientMagnitudeTolerance=1e-9,
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel(list(shrink))
    method.SetSmoothingSigmasPerLevel(list(smooth))
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOff()
    method.SetInitialTransform(first, inPlace=False)
    return _run(method, moving, fixed)


def _run(
    method: sitk.ImageRegistrationMethod, moving: sitk.Image, fixed: sitk.Image
) -> tuple[sitk.Transform, list[list[float]]]:
    curve: list[list[float]] = []

    def note() -> None:
        if not curve:
            curve.append([])
        curve[-1].append(float(method.GetMetricValue()))

    method.AddCommand(sitk.sitkMultiResolutionIterationEvent, lambda: curve.append([]))
    method.AddCommand(sitk.sitkIterationEvent, note)
    return plain(method.Execute(fixed, moving)), curve


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


def _bspline(moving: sitk.Image, fixed: sitk.Image, first: sitk.Transform, options: RegisterOptions, masks) -> tuple[sitk.Transform, list[list[float]]]:  # fmt: skip
    """A cubic B-spline on top of ``first``: its grid is refined twofold once."""
    extent = [n * s for n, s in zip(fixed.GetSize(), fixed.GetSpacing(), strict=True)]
    mesh = [max(2, int(np.ceil(e / options.node_mm))) for e in extent]
    method = _method(moving, fixed, masks, options.seed)
    voxels = float(np.prod(fixed.GetSize()))
    shrink = (4, 2)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentagePerLevel([min(1.0, 120_000 / (voxels / s**3)) for s in shrink], options.seed)
    method.SetOptimizerAsLBFGS2(solutionAccuracy=1e-4, numberOfIterations=40, deltaConvergenceTolerance=1e-5)
    method.SetShrinkFactorsPerLevel(list(shrink))
    method.SetSmoothingSigmasPerLevel([2.0, 1.0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOff()
    method.SetMovingInitialTransform(first)
    spline = sitk.BSplineTransformInitializer(fixed, mesh, 3)
    method.SetInitialTransformAsBSpline(spline, inPlace=True, scaleFactors=[1, 2])
    _, curve = _run(method, moving, fixed)
    return plain(sitk.CompositeTransform([first, spline])), curve


def resampled(moving: sitk.Image, fixed: sitk.Image, transform: sitk.Transform, *, linear: bool = True) -> sitk.Image:
    """The moving image on the fixed grid; outside of it the moving image's minimum."""
    low = float(sitk.GetArrayViewFromImage(moving).min())
    return sitk.Resample(moving, fixed, transform, sitk.sitkLinear if linear else sitk.sitkNearestNeighbor, low)


def moved(points: np.ndarray, transform: sitk.Transform) -> np.ndarray:
    """(N, 3) LPS mm of the fixed image → of the moving one."""
    return np.array([transform.TransformPoint([float(v) for v in p]) for p in points])


def by_landmarks(moving: np.ndarray, fixed: np.ndarray) -> sitk.Transform:
    """The rigid transform that brings matched points (N, 3) LPS mm onto each other in the least-squares sense: where intensity
    fails, as between MR and ultrasound (experimental)."""
    if len(moving) != len(fixed) or len(fixed) < 3:
        raise UserError(
            f"{len(moving)} moving and {len(fixed)} fixed landmarks; give at least 3 pairs in the same order"
        )
    return sitk.LandmarkBasedTransformInitializer(
        sitk.VersorRigid3DTransform(), fixed.ravel().tolist(), moving.ravel().tolist()
    )


def matrix_of(transform: sitk.Transform) -> np.ndarray:
    """(4, 4) of a linear transform in LPS mm."""
    out = np.eye(4)
    zero = np.array(transform.TransformPoint([0.0, 0.0, 0.0]))
    for axis in range(3):
        unit = [0.0, 0.0, 0.0]
        unit[axis] = 1.0
        out[:3, axis] = np.array(transform.TransformPoint(unit)) - zero
    out[:3, 3] = zero
    return out
