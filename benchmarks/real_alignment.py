"""CT onto MR of real patients with soft-tissue sarcoma, after a known shift and turn of up to 20 mm and 15°:
how far off at the tumour, and does the verdict find planted faults. Started by `real.py --set alignment`; a
folder is a copy of the set with nifti/STS_001_CT.nii.gz and so on.

The CT is trimmed by up to 12 mm on each side, by chance, and its place in the patient is changed by the known
transform: nothing is resampled, and the crops' corners do not tell where it belongs. error_mm: from the frame
that the publisher gave both, which nobody measured; edges: how much better edges of both agree than in that
frame (normalised gradient fields, Haber and Modersitzki 2006, which no search here looks at). Registered as
`medfuse register --windowed` does, without its finest stage. Nothing is trained; without --test every second
patient is scored, and the others were looked at before.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from real_results import Results, Row, interval

from medfuse.errors import UserError
from medfuse.registration.quality import assess
from medfuse.registration.register import Registration, moved, register
from medfuse.registration.volume import clamped
from medfuse.training.budget import Budget

MINUTES = 5.0
COPY = "data/cohorts/sts_ct_mr_pet"
VOLUMES = ("nifti", "nifti_lean", "nifti_2mm", "nifti_full")
SHIFT_MM = 20.0
TURN = float(np.radians(15))
TRIM_MM = 12.0
NEAR_MM = 3.0
AWAY_MM = 400.0  # of what is too far out
EACH = 2  # patients with each planted fault


@dataclass(frozen=True, kw_only=True)
class Pair:
    """CT and MR of one patient in one frame (LPS mm), and (N, 3) points in the tumour."""

    name: str
    ct: sitk.Image
    mr: sitk.Image
    tumour: np.ndarray


def load(folder: Path) -> list[Pair]:
    """The patients of a copy of the set that have both, in order of their names."""
    home = next((folder / n for n in VOLUMES if (folder / n).is_dir()), folder)
    found = []
    for ct in sorted(home.glob("STS_*_CT.nii.gz")):
        name = ct.name.removesuffix("_CT.nii.gz")
        mr = ct.with_name(f"{name}_MR_T1.nii.gz")
        outline = ct.with_name(f"{name}_MR_T1_mask.nii.gz")
        if mr.exists() and outline.exists():
            read = [sitk.ReadImage(str(p), sitk.sitkFloat32) for p in (ct, mr)]
            at = points_of(sitk.ReadImage(str(outline)))
            found.append(Pair(name=name, ct=read[0], mr=read[1], tumour=at))
    if not found:
        raise SystemExit(f"{folder}: no STS_…_CT.nii.gz with its MR; lay the set out as docs/real.md says")
    return found


def points_of(outline: sitk.Image) -> np.ndarray:
    """(N, 3) LPS mm of some 300 voxels of an outline."""
    at = np.argwhere(sitk.GetArrayViewFromImage(outline) > 0)[:, ::-1]
    some = at[:: max(1, len(at) // 300)]
    return np.array([outline.TransformIndexToPhysicalPoint([int(v) for v in p]) for p in some])


def known(rng: np.random.Generator, about: np.ndarray) -> sitk.VersorRigid3DTransform:
    """A random shift of up to SHIFT_MM and turn of up to TURN about a point."""
    way = rng.normal(size=3)
    axis = rng.normal(size=3)
    t = sitk.VersorRigid3DTransform()
    t.SetCenter(about.tolist())
    t.SetRotation((axis / np.linalg.norm(axis)).tolist(), float(rng.uniform(0, TURN)))
    t.SetTranslation((way / np.linalg.norm(way) * rng.uniform(0, SHIFT_MM)).tolist())
    return t


def placed(image: sitk.Image, t: sitk.Transform) -> sitk.Image:
    """The same voxels in another place: what lay at p lies at t(p), for a rigid t."""
    axes = np.array(image.GetDirection()).reshape(3, 3)
    origin = np.array(t.TransformPoint(image.GetOrigin()))
    ends = np.array([t.TransformPoint((np.array(image.GetOrigin()) + a).tolist()) for a in axes.T])
    out = sitk.Image(image)
    out.SetDirection((ends - origin).T.ravel().tolist())
    out.SetOrigin(origin.tolist())
    return out


def trimmed(image: sitk.Image, rng: np.random.Generator) -> sitk.Image:
    """Up to TRIM_MM less on each side."""
    cut = [(rng.uniform(0, TRIM_MM, 2) / s).astype(int).tolist() for s in image.GetSpacing()]
    return sitk.Crop(image, [c[0] for c in cut], [c[1] for c in cut])


def middle(image: sitk.Image) -> np.ndarray:
    """Of a volume, LPS mm."""
    return np.array(image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in image.GetSize()]))


def edges(fixed: sitk.Image, moving: sitk.Image, transform: sitk.Transform) -> float:
    """Agreement of edges, 0 to 1, in the middle two thirds of the fixed image, both smoothed by 1.5 mm."""
    low = float(sitk.GetArrayViewFromImage(moving).min())
    both = (fixed, sitk.Resample(moving, fixed, transform, sitk.sitkLinear, low))
    slopes = [
        np.stack(np.gradient(sitk.GetArrayFromImage(sitk.SmoothingRecursiveGaussian(i, 1.5)))) for i in both
    ]
    sizes = [(s**2).sum(0) for s in slopes]
    noise = [np.sqrt(s).mean() ** 2 for s in sizes]
    same = (slopes[0] * slopes[1]).sum(0) ** 2 / ((sizes[0] + noise[0]) * (sizes[1] + noise[1]))
    inner = tuple(slice(max(1, n // 6), n - max(1, n // 6)) for n in same.shape)
    return float(same[inner].mean())


@dataclass(frozen=True, kw_only=True)
class Brought:
    """One patient: mm at the tumour, ratio of edges, and the verdict on a pair without a fault."""

    start_mm: float
    error_mm: float
    whole_mm: float
    edges: float
    verdict: str


def brought(pair: Pair, seed: int) -> Brought:
    """Move the CT of a patient, and bring it back."""
    rng = np.random.default_rng([seed, int(pair.name[4:])])
    away = known(rng, pair.tumour.mean(0))
    raw = placed(trimmed(pair.ct, rng), away)
    ct = clamped(raw, "CT")
    truth = moved(pair.tumour, away)
    found = register(ct, pair.mr, quick=True)
    return Brought(
        start_mm=apart(pair.tumour, truth),
        error_mm=apart(moved(pair.tumour, found.transform), truth),
        whole_mm=_unclamped(pair, raw, truth),
        edges=edges(pair.mr, ct, found.transform) / edges(pair.mr, ct, away),
        verdict=assess(found, ct, pair.mr, same_patient=True).verdict,
    )


def apart(a: np.ndarray, b: np.ndarray) -> float:
    """Mean distance of points (N, 3) that belong together, mm."""
    return float(np.linalg.norm(a - b, axis=1).mean())


def _unclamped(pair: Pair, ct: sitk.Image, truth: np.ndarray) -> float:
    """The same from all values of the CT; NaN where nothing overlaps."""
    try:
        return apart(moved(pair.tumour, register(ct, pair.mr, quick=True).transform), truth)
    except UserError:
        return float("nan")


def planted(pair: Pair, other: Pair, rng: np.random.Generator) -> Iterator[tuple[str, sitk.Image]]:
    """The CT with one fault each, in the frame of the MR."""
    ct = clamped(trimmed(pair.ct, rng), "CT")
    flipped = sitk.Flip(ct, [True, False, False])
    flipped.CopyInformation(ct)
    yield "mirrored", flipped
    shift = sitk.TranslationTransform(3, (middle(pair.ct) - middle(other.ct)).tolist())
    yield "another patient", placed(clamped(other.ct, "CT"), shift)
    yield "too far out", placed(ct, sitk.TranslationTransform(3, [AWAY_MM, 0.0, 0.0]))
    noise = rng.normal(0, 100, ct.GetSize()[::-1]).astype(np.float32)
    blank = sitk.GetImageFromArray(noise)
    blank.CopyInformation(ct)
    yield "noise", blank


def verdict_of(ct: sitk.Image, mr: sitk.Image, *, same_patient: bool) -> str:
    """What is said of a pair; "refused" where it is not registered at all."""
    try:
        found: Registration = register(ct, mr, quick=True)
    except UserError:
        return "refused"
    return assess(found, ct, mr, same_patient=same_patient).verdict


def found_faults(pairs: list[Pair], seed: int) -> dict[str, Row]:
    """Share of planted faults on which a person is told to look, or more; identifiers tell patients apart,
    except in the row that says so."""
    said: dict[str, list[bool]] = {}
    for n, pair in enumerate(pairs[:EACH]):
        rng = np.random.default_rng([seed, 1, n])
        for name, ct in planted(pair, pairs[(n + 1) % len(pairs)], rng):
            foreign = name == "another patient"
            verdict = verdict_of(ct, pair.mr, same_patient=not foreign)
            said.setdefault(name, []).append(verdict != "no fault found")
            if foreign:
                verdict = verdict_of(ct, pair.mr, same_patient=True)
                said.setdefault("another patient, by pixels alone", []).append(verdict != "no fault found")
            print(f"{pair.name} {name}: {verdict}", file=sys.stderr, flush=True)
    return {name: {"faults_found": float(np.mean(v))} for name, v in said.items()}


def row_of(found: list[Brought]) -> Row:
    """Medians with their intervals, and shares within NEAR_MM."""
    groups = np.arange(len(found))
    row = _errors(np.array([b.error_mm for b in found]))
    sharper = np.array([b.edges for b in found])
    _add(row, "edges", lambda at: float(np.median(sharper[at])), groups)
    good = np.array([b.verdict == "no fault found" for b in found])
    _add(row, "good_called_good", lambda at: float(good[at].mean()), groups)
    return row


def _errors(values: np.ndarray) -> Row:
    """Median of (N,) mm, and the share within NEAR_MM."""
    row: Row = {}
    groups = np.arange(len(values))
    _add(row, "error_mm", lambda at: float(np.nanmedian(values[at])), groups)
    _add(row, "within_3_mm", lambda at: float((values[at] <= NEAR_MM).mean()), groups)
    return row


def _add(row: Row, name: str, statistic: Callable[[np.ndarray], float], groups: np.ndarray) -> None:
    row[name] = round(statistic(groups), 3)
    row[f"{name}_ci95"] = interval(groups, statistic)


def run(train: Path | None, test: Path | None, budget: Budget, seed: int) -> Results:
    """Bring each patient's CT back, then plant faults. ``train`` and ``budget`` are not needed."""
    started = time.perf_counter()
    shared = Path(os.environ.get("MEDFUSE_SHARED", "../shared"))
    pairs = load(test) if test is not None else load(shared / COPY)[1::2]
    found = []
    for pair in pairs:
        found.append(brought(pair, seed))
        print(f"{pair.name} {found[-1]}", file=sys.stderr, flush=True)
    off = np.array([[b.start_mm, b.whole_mm] for b in found])
    controls: dict[str, Row] = {
        "not brought back": _errors(off[:, 0]),
        "all values of the CT": _errors(off[:, 1]),
        "window minus all values": {},
    }
    gain = np.array([b.error_mm for b in found]) - off[:, 1]
    every = np.arange(len(found))
    _add(controls["window minus all values"], "error_mm", lambda at: float(np.nanmedian(gain[at])), every)
    return Results(
        set="alignment",
        n_train=0,
        n_test=len(pairs),
        rows={"CT->MR": row_of(found), **found_faults(pairs, seed)},
        controls=controls,
        minutes=(time.perf_counter() - started) / 60,
        seed=seed,
    )
