"""MR volume ↔ ultrasound by LC²: SIMULATED sweeps and tracked frames with a known error, and the (dummy,
simulated) MR–TRUS pairs.

    python benchmarks/ultrasound_registration.py [--n 12] [--seed 11] [--data ../shared/data/nifti] [--json]

A sweep or frame is cut from the MR phantom's own labels: echogenicity, bright interfaces, Rayleigh speckle,
attenuation, log compression, a sector. Its stated position is off by a random rigid error. Beside LC²: mutual
information from the same start.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from registration import phantom_labels, placed, rigid_by
from scipy.ndimage import gaussian_filter, map_coordinates

from medfuse.errors import UserError
from medfuse.registration.register import by_landmarks, fixed_threads, moved, register
from medfuse.registration.ultrasound import register_ultrasound
from medfuse.registration.volume import from_array

MR = np.array([0, 100, 160, 20, 230, 90, 40, 200], np.float32)
ECHO = np.array([0.0, 0.35, 0.5, 0.9, 0.03, 0.65, 0.25, 0.45], np.float32)  # not in the order of MR's values
IMPEDANCE = np.array([0.0, 1.62, 1.66, 4.0, 1.50, 1.68, 1.60, 1.40], np.float32)


def ultrasound(
    label: np.ndarray,
    mm: float,
    frame: np.ndarray,
    shape: tuple[int, int, int],
    step: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """(I, J, K) log-compressed B-mode: beams run along −J, frame (4, 4) its index → RAS+ mm."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1).reshape(-1, 3)
    at = (index @ frame[:3, :3].T + frame[:3, 3]) / mm + label.shape[0] / 2

    def sample(table: np.ndarray, order: int) -> np.ndarray:
        return map_coordinates(table[label], at.T, order=order, mode="nearest").reshape(shape)

    echo = sample(ECHO, 1)
    z = gaussian_filter(sample(IMPEDANCE, 1), 0.6)
    interface = np.abs(np.gradient(z, axis=1)) / step
    depth = (shape[1] - 1 - np.arange(shape[1])) * step
    amplitude = (echo * rng.rayleigh(0.8, shape) + 1.5 * np.minimum(interface, 0.6)) * np.exp(-depth / 90)[
        None, :, None
    ]
    amplitude = gaussian_filter(amplitude, 0.7)
    shown = np.clip(1 + np.log10(amplitude + 1e-3) / 2.0, 0.02, 1) * 255
    side = np.abs(np.arange(shape[0]) - shape[0] / 2)[:, None, None] * step
    return np.where(side < 12 + 0.45 * depth[None, :, None], shown, 0).astype(np.float32)


def one(rng: np.random.Generator, kind: str) -> tuple[sitk.Image, sitk.Image, sitk.Transform]:
    """(MR volume, ultrasound at its wrong place, truth: ultrasound → MR)."""
    label = phantom_labels(rng, 96, 1.4)
    mr = gaussian_filter(MR[label], 0.8) + rng.normal(0, 6, label.shape).astype(np.float32)
    step, shape = (0.7, (120, 120, 1)) if kind == "tracked frame" else (1.2, (72, 72, 36))
    frame = np.diag([step, step, step, 1.0])
    frame[:3, 3] = [18 - step * shape[0] / 2, -step * shape[1] / 2, 4 - step * shape[2] / 2]
    pixels = ultrasound(label, 1.4, frame, shape, step, rng)
    truth = rigid_by(rng, 8.0)
    true_place = from_array(pixels, frame)
    # the stated frame is the true one moved by the inverse, so that ``truth`` brings it back
    back = truth.GetInverse()
    wrong = sitk.Image(true_place)
    wrong.SetOrigin(back.TransformPoint(true_place.GetOrigin()))
    direction = np.array(sitk.Euler3DTransform(back).GetMatrix()).reshape(3, 3) @ np.array(
        true_place.GetDirection()
    ).reshape(3, 3)
    wrong.SetDirection(direction.ravel().tolist())
    return placed(mr, 1.4), wrong, truth


def corners(image: sitk.Image) -> np.ndarray:
    size = np.array(image.GetSize())
    at = np.array(np.meshgrid(*[[0, n // 2, n - 1] for n in size], indexing="ij")).reshape(3, -1).T
    return np.array([image.TransformIndexToPhysicalPoint([int(v) for v in p]) for p in at])


def simulated(kind: str, n: int, seed: int) -> dict:
    rows: dict[str, list[float]] = {
        "start_mm": [],
        "lc2_mm": [],
        "mutual_information_mm": [],
        "repeat_mm": [],
        "seconds": [],
    }
    for k in range(n):
        volume, us, truth = one(np.random.default_rng([seed, k]), kind)
        points = corners(us)

        def off(t: sitk.Transform, points: np.ndarray = points, truth: sitk.Transform = truth) -> float:
            return float(np.linalg.norm(moved(points, t) - moved(points, truth), axis=1).mean())

        began = time.perf_counter()
        found = register_ultrasound(volume, us)
        rows["seconds"].append(time.perf_counter() - began)
        rows["start_mm"].append(off(sitk.Transform()))
        rows["lc2_mm"].append(off(found.result.transform))
        rows["repeat_mm"].append(found.repeat_mm)
        if kind == "sweep":
            try:
                by_mi = register(volume, us, start=sitk.Euler3DTransform()).transform
                rows["mutual_information_mm"].append(off(by_mi))
            except (UserError, RuntimeError):
                rows["mutual_information_mm"].append(float("nan"))
    agreed = [e for e, r in zip(rows["lc2_mm"], rows["repeat_mm"], strict=True) if r <= 3.0]
    out: dict = {
        k: {"median": round(float(np.nanmedian(v)), 2), "worst": round(float(np.nanmax(v)), 2)}
        for k, v in rows.items()
        if v
    }
    return {
        **out,
        "n": n,
        "within_3_mm": sum(e <= 3 for e in rows["lc2_mm"]),
        "searches_agree": len(agreed),
        "agree_and_within_3_mm": sum(e <= 3 for e in agreed),
    }


def dummy_pairs(folder: Path) -> list[dict]:
    """DeepReg's dummy MR–TRUS images: error at the organ labels' centres, before, by LC², and the best any
    rigid transform could do."""
    import nibabel as nib

    def image(path: Path) -> sitk.Image:
        i = nib.load(path)
        return from_array(np.asarray(i.dataobj).astype(np.float32), np.asarray(i.affine))

    def centres(path: Path) -> np.ndarray:
        i = nib.load(path)
        a = np.asarray(i.dataobj)
        rows = np.array([np.argwhere(a[..., c] > 0).mean(0) for c in range(a.shape[-1])])
        return (rows @ np.asarray(i.affine)[:3, :3].T + np.asarray(i.affine)[:3, 3]) * np.array(
            [-1.0, -1.0, 1.0]
        )

    out = []
    for f in sorted((folder / "fixed_images").glob("*.nii.gz")):
        us = image(f)
        mr = image(folder / "moving_images" / f.name)
        fixed = centres(folder / "fixed_labels" / f.name)
        moving = centres(folder / "moving_labels" / f.name)
        start = sitk.CenteredTransformInitializer(
            us, mr, sitk.Euler3DTransform(), sitk.CenteredTransformInitializerFilter.GEOMETRY
        )

        def off(t: sitk.Transform, moving: np.ndarray = moving, fixed: np.ndarray = fixed) -> float:
            return round(float(np.linalg.norm(moved(fixed, t) - moving, axis=1).mean()), 2)

        found = register_ultrasound(mr, us, start=start)
        out.append(
            {
                "pair": f.name[:6],
                "start_mm": off(start),
                "lc2_mm": off(found.result.transform),
                "best_rigid_mm": off(by_landmarks(moving, fixed)),
                "repeat_mm": found.repeat_mm,
            }
        )
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=12)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/nifti"))
    parser.add_argument("--json", action="store_true")
    a = parser.parse_args()
    result: dict = {"machine": f"{platform.machine()}, {os.cpu_count()} cores, one thread"}
    with fixed_threads(1):
        result["sweep"] = simulated("sweep", a.n, a.seed)
        result["tracked frame"] = simulated("tracked frame", a.n, a.seed)
        folder = a.data / "deepreg_mrus_SIMULATED"
        if folder.is_dir():
            result["dummy MR-TRUS pairs"] = dummy_pairs(folder)
    print(json.dumps(result) if a.json else json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
