"""How far a registration may be believed: what was measured, and a verdict with its reasons.

Verdicts: "no fault found", "check" (a person must look), "failed" (not to be used). Pixels cannot tell two
    patients apart: identifiers are compared too. Thresholds were set on simulated faults of a seed that the
    benchmark does not use (benchmarks/registration.py --tune).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import SimpleITK as sitk

from ..case import Case
from ..errors import UserError
from .register import RegisterOptions, Registration, moved, register, resampled

Verdict = Literal["no fault found", "check", "failed"]
# share of the fixed body that the moved image's field covers
LEAST_OVERLAP = 0.3
LITTLE_OVERLAP = 0.7
# normalised mutual information inside the body
LEAST_SHARED = 0.05
LITTLE_SHARED = 0.07
# forward and back again, median over the body
INCONSISTENT_MM = 6.0
DOUBTFUL_MM = 2.0
# of the Jacobian determinant
FOLDED = 0.0
STRETCHED = 3.0
MIRROR_GAIN = 1.01  # the mirrored moving image fits this much better: the side may be wrong
LARGE_SHIFT = 0.5  # of the field of view
SAMPLES = 4000


@dataclass
class Quality:
    """Lengths in mm; None where it was not measured (no landmarks, no deformation)."""

    verdict: Verdict
    reasons: list[str]
    metric: float
    initial_metric: float
    shared_information: float
    overlap: float
    inverse_consistency_mm: float | None = None
    jacobian: tuple[float, float] | None = None
    tre_mm: float | None = None
    start_tre_mm: float | None = None
    mirrored_information: float | None = None
    moved_mm: float = 0.0
    same_patient: bool | None = None
    curve: list[list[float]] = field(default_factory=list)


def body(image: sitk.Image) -> sitk.Image:
    """What stands out from the background (Otsu), its holes filled."""
    return sitk.BinaryFillhole(sitk.BinaryMorphologicalClosing(sitk.OtsuThreshold(image, 0, 1), [1, 1, 1]))


def shared_information(fixed: np.ndarray, moving: np.ndarray, bins: int = 32) -> float:
    """Mutual information over the smaller entropy, 0 to 1, of paired values inside the body (N,)."""
    if len(fixed) < 100 or np.ptp(fixed) == 0 or np.ptp(moving) == 0:
        return 0.0
    ranks = [
        np.clip(np.searchsorted(np.quantile(v, np.linspace(0, 1, bins + 1)[1:-1]), v), 0, bins - 1)
        for v in (fixed, moving)
    ]
    joint = np.bincount(ranks[0] * bins + ranks[1], minlength=bins * bins).reshape(bins, bins).astype(float)
    p = joint / joint.sum()
    a = p.sum(1)
    b = p.sum(0)

    def entropy(q: np.ndarray) -> float:
        q = q[q > 0]
        return float(-(q * np.log(q)).sum())

    smaller = min(entropy(a), entropy(b))
    return (entropy(a) + entropy(b) - entropy(p.ravel())) / smaller if smaller > 0 else 0.0


def assess(
    result: Registration,
    moving: sitk.Image,
    fixed: sitk.Image,
    *,
    landmarks: tuple[np.ndarray, np.ndarray] | None = None,
    same_patient: bool | None = None,
    seed: int = 1,
    back: bool = True,
) -> Quality:
    """Measure and judge. landmarks: matched points (N, 3) LPS mm, of the moving and of the fixed image."""
    inside = body(fixed)
    points = _inside_points(inside, seed)
    there = moved(points, result.transform)
    covered = _within(moving, there)
    warped = resampled(moving, fixed, result.transform)
    index = np.array([fixed.TransformPhysicalPointToIndex([float(v) for v in p]) for p in points])
    f = sitk.GetArrayViewFromImage(fixed)
    m = sitk.GetArrayViewFromImage(warped)
    at = tuple(index[covered][:, ::-1].T)
    shared = shared_information(f[at], m[at])
    quality = Quality(
        "no fault found",
        [],
        result.metric,
        result.initial_metric,
        round(shared, 4),
        round(float(covered.mean()), 4),
        moved_mm=round(float(np.linalg.norm(there - points, axis=1).mean()), 3),
        same_patient=same_patient,
        curve=result.curve,
    )
    if back and covered.any():
        quality.mirrored_information = round(_mirrored(warped, fixed, points[covered], seed), 4)
    if result.kind == "deformable":
        quality.jacobian = _jacobian(result, fixed, inside)
    if back:
        quality.inverse_consistency_mm = _there_and_back(result, moving, fixed, points[covered], seed)
    if landmarks is not None:
        marked = moved(landmarks[1], result.transform)
        quality.tre_mm = round(float(np.linalg.norm(marked - landmarks[0], axis=1).mean()), 4)
        quality.start_tre_mm = round(float(np.linalg.norm(landmarks[1] - landmarks[0], axis=1).mean()), 4)
    _judge(quality, fixed)
    return quality


def _inside_points(inside: sitk.Image, seed: int) -> np.ndarray:
    at = np.argwhere(sitk.GetArrayViewFromImage(inside) > 0)[:, ::-1]
    if not len(at):
        at = np.array([[n // 2 for n in inside.GetSize()]])
    pick = np.random.default_rng(seed).choice(len(at), min(SAMPLES, len(at)), replace=False)
    return np.array([inside.TransformIndexToPhysicalPoint([int(v) for v in at[i]]) for i in np.sort(pick)])


def _within(image: sitk.Image, points: np.ndarray) -> np.ndarray:
    size = np.array(image.GetSize())
    index = np.array([image.TransformPhysicalPointToContinuousIndex([float(v) for v in p]) for p in points])
    return np.asarray(((index >= -0.5) & (index <= size - 0.5)).all(1))


def _mirrored(warped: sitk.Image, fixed: sitk.Image, points: np.ndarray, seed: int) -> float:
    """Shared information with the moved image mirrored left to right and fitted anew: where a side is wrong,
    that fits better."""
    array = sitk.GetArrayFromImage(warped)
    # which index runs left to right
    axis = int(np.argmax(np.abs(np.array(fixed.GetDirection()).reshape(3, 3)[0])))
    mirrored = sitk.GetImageFromArray(np.flip(array, 2 - axis).copy())
    mirrored.CopyInformation(warped)
    try:
        start = sitk.CenteredTransformInitializer(
            sitk.Cast(body(fixed), sitk.sitkFloat32),
            sitk.Cast(body(mirrored), sitk.sitkFloat32),
            sitk.Euler3DTransform(),
            sitk.CenteredTransformInitializerFilter.MOMENTS,
        )
        found = register(mirrored, fixed, RegisterOptions(seed=seed), start=start, quick=True).transform
    except (RuntimeError, UserError):
        return 0.0
    again = sitk.GetArrayFromImage(resampled(mirrored, fixed, found))  # a copy: the image ends here
    index = np.array([fixed.TransformPhysicalPointToIndex([float(v) for v in p]) for p in points])
    at = tuple(index[:, ::-1].T)
    return shared_information(sitk.GetArrayViewFromImage(fixed)[at], again[at])


def _jacobian(result: Registration, fixed: sitk.Image, inside: sitk.Image) -> tuple[float, float]:
    """Smallest and largest determinant inside the body, at every fourth voxel."""
    small = sitk.Shrink(fixed, [min(4, max(1, n // 8)) for n in fixed.GetSize()])
    field_ = sitk.TransformToDisplacementField(
        result.transform,
        sitk.sitkVectorFloat64,
        small.GetSize(),
        small.GetOrigin(),
        small.GetSpacing(),
        small.GetDirection(),
    )
    determinant = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(field_))
    mask = (
        sitk.GetArrayFromImage(sitk.Resample(inside, small, sitk.Transform(), sitk.sitkNearestNeighbor)) > 0
    )
    values = determinant[mask] if mask.any() else determinant.ravel()
    return round(float(values.min()), 4), round(float(values.max()), 4)


def _there_and_back(
    result: Registration, moving: sitk.Image, fixed: sitk.Image, points: np.ndarray, seed: int
) -> float | None:
    """Median distance after going there by this transform and back by one found the other way round, rigid
    and quick."""
    if not len(points):
        return None
    try:
        back = register(
            fixed, moving, RegisterOptions("rigid" if result.kind == "rigid" else "affine", seed), quick=True
        )
    except (RuntimeError, UserError):
        return None
    returned = moved(moved(points, result.transform), back.transform)
    return round(float(np.median(np.linalg.norm(returned - points, axis=1))), 3)


def _judge(q: Quality, fixed: sitk.Image) -> None:
    """Set the verdict: what fails it, else what a person must look at."""
    failed = _faults(q)
    doubts = _doubts(q, fixed)
    q.verdict = "failed" if failed else "check" if doubts else "no fault found"
    q.reasons = failed + doubts


def _faults(q: Quality) -> list[str]:
    back = q.inverse_consistency_mm
    landmarks_worse = (
        q.tre_mm is not None and q.start_tre_mm is not None and q.tre_mm > max(5.0, q.start_tre_mm)
    )
    rules = [
        (q.same_patient is False, "the identifiers are of two patients"),
        (q.overlap < LEAST_OVERLAP, f"only {q.overlap:.0%} of the body is covered by both images"),
        (
            q.shared_information < LEAST_SHARED,
            f"the images share almost no information ({q.shared_information:.2f})",
        ),
        (
            back is not None and back > INCONSISTENT_MM,
            f"there and back again misses by {back or 0:.1f} mm",
        ),
        (q.jacobian is not None and q.jacobian[0] <= FOLDED, "the deformation folds"),
        (landmarks_worse, f"the landmarks lie {q.tre_mm or 0:.1f} mm apart"),
    ]
    return [sentence for holds, sentence in rules if holds]


def _doubts(q: Quality, fixed: sitk.Image) -> list[str]:
    back = q.inverse_consistency_mm
    lowest, highest = q.jacobian or (1.0, 1.0)
    mirrored = q.mirrored_information
    size = max(n * s for n, s in zip(fixed.GetSize(), fixed.GetSpacing(), strict=True))
    rules = [
        (
            q.same_patient is None,
            "the identifiers cannot be compared: whether both are of one patient is not known",
        ),
        (
            LEAST_OVERLAP <= q.overlap < LITTLE_OVERLAP,
            f"{q.overlap:.0%} of the body is covered by both images",
        ),
        (
            LEAST_SHARED <= q.shared_information < LITTLE_SHARED,
            f"the images share little information ({q.shared_information:.2f})",
        ),
        (
            mirrored is not None and mirrored > MIRROR_GAIN * q.shared_information,
            "the mirror image fits better: is a side wrong?",
        ),
        (back is None, "the way back could not be found"),
        (
            back is not None and DOUBTFUL_MM < back <= INCONSISTENT_MM,
            f"there and back again misses by {back or 0:.1f} mm",
        ),
        (lowest > FOLDED and highest > STRETCHED, f"the deformation stretches {highest:.1f}-fold"),
        (q.metric > q.initial_metric + 1e-6, "the images were more alike before than after"),
        (
            q.moved_mm > LARGE_SHIFT * size and q.same_patient is not False,
            f"the images were {q.moved_mm:.0f} mm apart",
        ),
    ]
    return [sentence for holds, sentence in rules if holds]


def same_patient(a: Case, b: Case) -> bool | None:
    """By patient id, sex and birth date; None where either says nothing."""
    if not a.patient_id or not b.patient_id:
        return None
    agree = all(
        not getattr(a, k) or not getattr(b, k) or getattr(a, k) == getattr(b, k)
        for k in ("sex", "birth_date")
    )
    return a.patient_id == b.patient_id and agree
