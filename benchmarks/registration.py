"""Registration against known truth: rigid between contrasts, breathing, real volumes, and whether the verdict
finds faults.

    python benchmarks/registration.py [--only rigid|breathing|real|verdict] [--data ../shared/data/nifti] [--n
    60] [--json]

rigid: 128³ phantoms of two contrasts, 9.5 mm off, beside SimpleITK's untuned registration and, where
    installed, itk-elastix.
verdict: good pairs and pairs with faults (other patient by identifiers, mirrored, half cut off, noise).
    ``--tune`` prints the measures of another seed, from which the thresholds of registration/quality.py were
    set.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter

from medfuse.registration.quality import assess
from medfuse.registration.register import RegisterOptions, Registration, fixed_threads, moved, register
from medfuse.registration.volume import from_array

CT = np.array([-1000, 40, 60, 300, 0, 80, 120, -80], np.float32)
MR = np.array([0, 100, 160, 20, 230, 90, 40, 200], np.float32)


def phantom_labels(rng: np.random.Generator, n: int, mm: float) -> np.ndarray:
    """(n, n, n) labels: a body with a spine to the back, an organ to the right and blobs. ``mm`` is a voxel's
    size."""
    x = np.stack(np.meshgrid(*[np.arange(n, dtype=np.float32)] * 3, indexing="ij"))
    x = (x - n / 2) * mm
    label = np.zeros((n, n, n), int)
    label[(x[0] / 50) ** 2 + (x[1] / 38) ** 2 + (x[2] / 56) ** 2 < 1] = 1
    label[((x[0] - 18) / 24) ** 2 + (x[1] / 22) ** 2 + ((x[2] - 8) / 26) ** 2 < 1] = 2
    label[(x[0] / 9) ** 2 + ((x[1] + 24) / 9) ** 2 < (np.abs(x[2]) < 50)] = 3
    for k in range(14):
        c = rng.uniform(-26, 26, 3)
        r = rng.uniform(4, 12, 3)
        label[sum(((x[i] - c[i]) / r[i]) ** 2 for i in range(3)) < 1] = 4 + k % 4
    return label


def phantom(rng: np.random.Generator, n: int, mm: float) -> tuple[np.ndarray, np.ndarray]:
    """The same body in two contrasts (n, n, n)."""
    label = phantom_labels(rng, n, mm)
    sigma = 1.0
    return (
        gaussian_filter(CT[label], sigma) + rng.normal(0, 15, label.shape).astype(np.float32),
        gaussian_filter(MR[label], sigma) + rng.normal(0, 6, label.shape).astype(np.float32),
    )


def placed(pixels: np.ndarray, mm: float) -> sitk.Image:
    affine = np.diag([mm, mm, mm, 1.0])
    affine[:3, 3] = -mm * pixels.shape[0] / 2
    return from_array(pixels, affine)


def rigid_by(rng: np.random.Generator, distance: float) -> sitk.Euler3DTransform:
    """A random rigid transform that moves points 40 mm from the middle by about ``distance`` mm on
    average."""
    t = sitk.Euler3DTransform()
    t.SetRotation(*(float(v) for v in rng.uniform(-0.09, 0.09, 3)))
    direction = rng.normal(size=3)
    t.SetTranslation((direction / np.linalg.norm(direction) * distance * 0.8).tolist())
    return t


def grid_points() -> np.ndarray:
    return np.array(np.meshgrid(*[np.linspace(-36, 36, 6)] * 3)).reshape(3, -1).T


def error(found: sitk.Transform, truth: sitk.Transform) -> float:
    p = grid_points()
    return float(np.linalg.norm(moved(p, found) - moved(p, truth), axis=1).mean())


def untuned(moving: sitk.Image, fixed: sitk.Image) -> sitk.Transform:
    """SimpleITK as its first tutorial has it: geometry centres, one level, gradient descent."""
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(50)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(0.01, 1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsGradientDescent(1.0, 100, 1e-6, 10)
    method.SetInitialTransform(
        sitk.CenteredTransformInitializer(
            fixed, moving, sitk.Euler3DTransform(), sitk.CenteredTransformInitializerFilter.GEOMETRY
        ),
        inPlace=False,
    )
    return method.Execute(fixed, moving)


def elastix(
    moving: sitk.Image, fixed: sitk.Image, iterations: int | None = None, samples: int = 2048
) -> sitk.Transform:
    """itk-elastix with its default rigid map, or with more iterations and samples a level."""
    import itk

    itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(1)  # as all others in this run

    def to_itk(image: sitk.Image):
        out = itk.GetImageFromArray(sitk.GetArrayFromImage(image))
        out.SetSpacing(image.GetSpacing())
        out.SetOrigin(image.GetOrigin())
        out.SetDirection(itk.matrix_from_array(np.array(image.GetDirection()).reshape(3, 3)))
        return out

    parameters = itk.ParameterObject.New()
    chosen = parameters.GetDefaultParameterMap("rigid")
    if iterations is not None:
        chosen["MaximumNumberOfIterations"] = [str(iterations)]
        chosen["NumberOfSpatialSamples"] = [str(samples)]
    parameters.AddParameterMap(chosen)
    _, found = itk.elastix_registration_method(
        to_itk(fixed), to_itk(moving), parameter_object=parameters, log_to_console=False
    )
    values = [float(v) for v in found.GetParameter(0, "TransformParameters")]
    t = sitk.Euler3DTransform()
    t.SetCenter([float(v) for v in found.GetParameter(0, "CenterOfRotationPoint")])
    t.SetComputeZYX(False)
    t.SetParameters(values)
    return t


def rigid(n: int, seed: int) -> dict:
    rows: dict[str, dict[str, list[float]]] = {}
    same = True
    for k in range(n):
        rng = np.random.default_rng([seed, k])
        ct, mr = phantom(rng, 128, 1.0)
        truth = rigid_by(rng, 9.5)
        fixed = placed(ct, 1.0)
        moving = sitk.Resample(placed(mr, 1.0), fixed, truth, sitk.sitkBSpline, 0.0)
        start = error(sitk.Transform(), truth.GetInverse())
        methods = {"medfuse": lambda m, f: register(m, f).transform, "SimpleITK untuned": untuned}
        if importlib.util.find_spec("itk") is not None:
            methods["itk-elastix, defaults"] = elastix
            methods["itk-elastix, 1000 iterations of 20000 samples"] = lambda m, f: elastix(
                m, f, 1000, 20_000
            )
        for name, work in methods.items():
            began = time.perf_counter()
            found = work(moving, fixed)
            seconds = time.perf_counter() - began
            row = rows.setdefault(name, {"tre_mm": [], "seconds": [], "start_mm": []})
            row["tre_mm"].append(error(found, truth.GetInverse()))
            row["seconds"].append(seconds)
            row["start_mm"].append(start)
            if name == "medfuse" and k == 0:
                same = register(moving, fixed).transform.GetParameters() == found.GetParameters()
    return {
        "rows": {k: {c: round(float(np.mean(v)), 4) for c, v in r.items()} for k, r in rows.items()},
        "n": n,
        "identical_twice": same,
    }


def breathing(n: int, seed: int) -> dict:
    """A smooth displacement of up to 12 mm downward below the diaphragm's height: deformable against rigid,
    in voxels of 2 mm."""
    out: dict[str, list[float]] = {"start": [], "rigid": [], "deformable": []}
    folded = 0
    for k in range(n):
        rng = np.random.default_rng([seed, 100 + k])
        ct, mr = phantom(rng, 64, 2.0)
        fixed = placed(ct, 2.0)
        still = placed(mr, 2.0)
        z, y, x = np.meshgrid(*[np.arange(64) - 32.0] * 3, indexing="ij")
        depth = rng.uniform(6, 12) * np.exp(
            -((z * 2 - 10) ** 2 + (x * 2 - 10) ** 2 + (y * 2) ** 2) / (2 * 32.0**2)
        )
        shift = np.zeros((64, 64, 64, 3))
        shift[..., 2] = depth
        shift[..., 1] = 0.2 * depth
        field = sitk.GetImageFromArray(shift, isVector=True)
        field.CopyInformation(fixed)
        bent = sitk.DisplacementFieldTransform(sitk.Cast(field, sitk.sitkVectorFloat64))
        moving = sitk.Resample(still, fixed, bent, sitk.sitkLinear, 0.0)  # moving(p) = still(p + d(p))
        points = grid_points()
        found = {
            "rigid": register(moving, fixed),
            "deformable": register(moving, fixed, RegisterOptions("deformable")),
        }
        truth = inverse_of(bent, points)
        out["start"].append(float(np.linalg.norm(truth - points, axis=1).mean()) / 2)
        for name, result in found.items():
            out[name].append(
                float(np.linalg.norm(moved(points, result.transform) - truth, axis=1).mean()) / 2
            )
        folded += (
            assess(found["deformable"], moving, fixed, same_patient=True, back=False).jacobian or (1, 1)
        )[0] <= 0
    return {"tre_voxels": {k: round(float(np.mean(v)), 3) for k, v in out.items()}, "n": n, "folded": folded}


def inverse_of(transform: sitk.Transform, points: np.ndarray) -> np.ndarray:
    """Points that the transform maps onto ``points``, by fixed-point iteration."""
    guess = points.copy()
    for _ in range(60):
        guess = guess - (moved(guess, transform) - points)
    return guess


FAULTS = ("none", "other patient", "mirrored", "half cut off", "noise")


def one_pair(rng: np.random.Generator, fault: str) -> tuple[sitk.Image, sitk.Image, sitk.Transform, bool]:
    ct, mr = phantom(rng, 64, 2.0)
    truth = rigid_by(rng, float(rng.uniform(2, 20)))
    if fault == "other patient":
        mr = phantom(rng, 64, 2.0)[1]
    if fault == "mirrored":
        mr = mr[::-1].copy()
    fixed = placed(ct, 2.0)
    moving = sitk.Resample(placed(mr, 2.0), fixed, truth, sitk.sitkLinear, 0.0)
    if fault == "half cut off":
        axis = int(rng.integers(3))
        keep = 26
        cut = [slice(None)] * 3
        cut[axis] = slice(0, keep) if rng.random() < 0.5 else slice(64 - keep, 64)
        moving = moving[tuple(cut)]
    if fault == "noise":
        a = sitk.GetArrayFromImage(moving)
        noisy = sitk.GetImageFromArray((rng.normal(0, 1, a.shape) * 100).astype(np.float32))
        noisy.CopyInformation(moving)
        moving = noisy
    return moving, fixed, truth.GetInverse(), fault != "other patient"


def verdict(n: int, seed: int, tune: bool) -> dict:
    counts: dict[str, dict[str, int]] = {}
    tres: list[float] = []
    missed = 0
    for k in range(n):
        fault = FAULTS[k % (2 * len(FAULTS))] if k % (2 * len(FAULTS)) < len(FAULTS) else "none"
        rng = np.random.default_rng([seed, 1000 + k])
        moving, fixed, truth, same = one_pair(rng, fault)
        try:
            result: Registration = register(moving, fixed, quick=True)
            q = assess(result, moving, fixed, same_patient=same, seed=1)
            said = q.verdict
            if tune:
                print(
                    fault,
                    round(error(result.transform, truth), 2),
                    q.shared_information,
                    q.mirrored_information,
                    q.overlap,
                    q.inverse_consistency_mm,
                    said,
                    q.reasons,
                    flush=True,
                )
            if fault == "none":
                tres.append(error(result.transform, truth))
                missed += tres[-1] > 3 and said == "no fault found"
        except Exception as e:
            said = "failed"
            if tune:
                print(fault, "refused:", str(e)[:80], flush=True)
        counts.setdefault(fault, {}).setdefault(said, 0)
        counts[fault][said] += 1
    bad = {f: c for f, c in counts.items() if f != "none"}
    found = sum(v for c in bad.values() for s, v in c.items() if s != "no fault found")
    total = sum(v for c in bad.values() for v in c.values())
    good = counts["none"]
    return {
        "counts": counts,
        "bad_called_check_or_failed": round(found / total, 4),
        "bad": total,
        "good": sum(good.values()),
        "good_called_check_or_failed": round(1 - good.get("no fault found", 0) / sum(good.values()), 4),
        "good_tre_mm": round(float(np.mean(tres)), 3) if tres else None,
        "good_but_over_3_mm_unnoticed": int(missed),
    }


def real(data: Path) -> dict:
    """Real volumes: one volunteer's contrasts, CT and T1 templates in one space; each also moved by a known
    transform."""
    from medfuse.errors import UnreadableError, UserError
    from medfuse.io.nifti import read_nifti
    from medfuse.registration.volume import to_sitk

    out: dict = {}
    pairs = {
        "T1 ← PD, one volunteer": ("niivue/chris_PD.nii.gz", "niivue/chris_t1.nii.gz", "MR", "MR"),
        "T1 ← MRA, one volunteer": ("niivue/chris_MRA.nii.gz", "niivue/chris_t1.nii.gz", "MR", "MR"),
        "T1 ← CT templates, one space": (
            "spm_clinical/scct.nii.gz",
            "niivue/MNI152_T1_2mm.nii.gz",
            "CT",
            "MR",
        ),
    }
    for name, (m, f, a, b) in pairs.items():
        if not (data / m).exists() or not (data / f).exists():
            continue
        try:
            moving = to_sitk(read_nifti(data / m, a))
            fixed = to_sitk(read_nifti(data / f, b))
        except (UnreadableError, UserError) as e:
            out[name] = {"refused": str(e)}
            continue
        started = time.perf_counter()
        result = register(moving, fixed)
        took = time.perf_counter() - started
        q = assess(result, moving, fixed, same_patient=True)
        row = {
            "verdict": q.verdict,
            "reasons": q.reasons,
            "moved_mm": q.moved_mm,
            "inverse_consistency_mm": q.inverse_consistency_mm,
            "seconds": round(took, 1),
        }
        known = rigid_by(np.random.default_rng(5), 9.5)
        away = sitk.Resample(
            moving, moving, known, sitk.sitkLinear, float(sitk.GetArrayViewFromImage(moving).min())
        )
        again = register(away, fixed)
        points = grid_points()
        back = moved(moved(points, again.transform), known)  # through the shifted image to the original
        row["same_place_after_9.5_mm_shift_mm"] = round(
            float(np.linalg.norm(back - moved(points, result.transform), axis=1).mean()), 3
        )
        out[name] = row
    folder = data / "deepreg_mrus_SIMULATED"
    if folder.exists():
        out["MR → TRUS, SIMULATED, by landmarks"] = mrus(folder)
    return out


def mrus(folder: Path) -> dict:
    """Half of the organ labels' centres place the images, the other half measure the error."""
    import nibabel as nib

    from medfuse.registration.register import by_landmarks

    errors = []
    starts = []
    for f in sorted((folder / "fixed_labels").glob("*.nii*"))[:20]:
        m = folder / "moving_labels" / f.name
        if not m.exists():
            continue
        a = nib.load(m)
        b = nib.load(f)
        one = np.asarray(a.dataobj)
        two = np.asarray(b.dataobj)
        centres = []
        for labels, image in ((one, a), (two, b)):
            rows = [np.argwhere(labels[..., c] > 0).mean(0) for c in range(labels.shape[-1])]
            centres.append(
                np.array(rows) @ np.asarray(image.affine)[:3, :3].T + np.asarray(image.affine)[:3, 3]
            )
        moving, fixed = (c * np.array([-1.0, -1.0, 1.0]) for c in centres)
        use = np.arange(len(fixed)) % 2 == 0
        if use.sum() < 3:
            continue
        t = by_landmarks(moving[use], fixed[use])
        starts.append(float(np.linalg.norm(moving[~use] - fixed[~use], axis=1).mean()))
        errors.append(float(np.linalg.norm(moved(fixed[~use], t) - moving[~use], axis=1).mean()))
    return (
        {
            "pairs": len(errors),
            "start_tre_mm": round(float(np.mean(starts)), 2),
            "tre_mm": round(float(np.mean(errors)), 2),
        }
        if errors
        else {"pairs": 0}
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=("rigid", "breathing", "real", "verdict"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data/nifti"))
    parser.add_argument("--n", type=int, default=0, help="pairs of each part (default 3, 4 and 200)")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--json", action="store_true")
    a = parser.parse_args()
    result: dict = {
        "machine": (
            f"{platform.machine()}, {os.cpu_count()} cores, SimpleITK {sitk.Version_VersionString()}, one "
            "thread"
        )
    }
    with fixed_threads(1):
        if a.only in (None, "rigid"):
            result["rigid"] = rigid(a.n or 3, a.seed)
        if a.only in (None, "breathing"):
            result["breathing"] = breathing(a.n or 4, a.seed)
        if a.only in (None, "real") and a.data.is_dir():
            result["real"] = real(a.data)
        if a.only in (None, "verdict"):
            result["verdict"] = verdict(a.n or 200, 77 if a.tune else a.seed, a.tune)
    print(json.dumps(result) if a.json else json.dumps(result, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
