"""Pixel-level fusion against its baselines, with every metric's table. Trains within a stated budget on one
folder, scores another.

python benchmarks/fusion.py --train DIR --test DIR [--minutes 5] [--json]     folders CT/ and MRI/ with equal
names
python benchmarks/fusion.py --leave-patient-out ../shared/data/paired2d/aanlib [--minutes 5]
python benchmarks/fusion.py --speed                                           the network alone on a pair of
256 × 256
python benchmarks/fusion.py --simulated --minutes 6 --save
medfuse/bundles/pixel-fusion-simulated/fusion.safetensors
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image as Picture

from medfuse.pixelfusion.metrics import WARNINGS, score
from medfuse.pixelfusion.network import (
    BASELINES,
    SHIPPED,
    PixelFusion,
    fuse_learned,
    load_fusion,
    save_fusion,
)
from medfuse.pixelfusion.train import simulated_pairs, train_pixel_fusion
from medfuse.training.budget import Budget

COLUMNS = (*WARNINGS, "seconds")


def read(path: Path) -> np.ndarray:
    """Luminance in 0 to 1."""
    with Picture.open(path) as p:
        return np.asarray(p.convert("YCbCr").split()[0], np.float64) / 255


def pairs_of(
    folder: Path, first: str = "CT", second: str = "MRI"
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    names = sorted(p.name for p in (folder / first).glob("*.png") if (folder / second / p.name).exists())
    return {n: (read(folder / first / n), read(folder / second / n)) for n in names}


def rows_of(pairs: dict, models: dict[str, PixelFusion]) -> dict[str, dict[str, dict[str, float]]]:
    """method → picture → metrics."""
    out: dict = {}
    methods = {**{k: (lambda a, b, m=m: fuse_learned(a, b, m)) for k, m in models.items()}, **BASELINES}
    for name, work in methods.items():
        for picture, (a, b) in pairs.items():
            started = time.perf_counter()
            f = work(a, b)
            seconds = time.perf_counter() - started
            out.setdefault(name, {})[picture] = {**score(255 * a, 255 * b, 255 * f), "seconds": seconds}
    return out


def means(rows: dict) -> dict[str, dict[str, float]]:
    return {
        m: {c: round(float(np.mean([r[c] for r in v.values()])), 4) for c in COLUMNS} for m, v in rows.items()
    }


def difference(rows: dict, a: str, b: str, metric: str, seed: int = 0) -> dict[str, float]:
    """Mean of a - b with a 95 % bootstrap interval over patients (file number // 1000)."""
    gain: dict[int, list[float]] = {}
    for picture in rows[a]:
        gain.setdefault(int(picture.split(".")[0]) // 1000, []).append(
            rows[a][picture][metric] - rows[b][picture][metric]
        )
    per = np.array([np.mean(v) for v in gain.values()])
    draws = np.random.default_rng(seed).integers(0, len(per), (2000, len(per)))
    low, high = np.quantile(per[draws].mean(1), [0.025, 0.975])
    return {
        "mean": round(float(per.mean()), 4),
        "low": round(float(low), 4),
        "high": round(float(high), 4),
        "patients": len(per),
    }


def speed(threads: int, n: int = 40) -> dict:
    """Median and best seconds of the shipped network on a random pair of 256 × 256."""
    torch.set_num_threads(threads)
    a, b = np.random.default_rng(0).random((2, 256, 256))
    model = load_fusion()
    spent = []
    for _ in range(n):
        started = time.perf_counter()
        fuse_learned(a, b, model)
        spent.append(time.perf_counter() - started)
    return {"threads": threads, "median_s": round(float(np.median(spent)), 4), "best_s": round(min(spent), 4)}


def table(rows: dict[str, dict[str, float]]) -> str:
    lines = ["| | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    return "\n".join(
        [*lines, *(f"| {m} | " + " | ".join(f"{v[c]:.3f}" for c in COLUMNS) + " |" for m, v in rows.items())]
    )


def leave_patient_out(data: Path, minutes: float, seed: int) -> dict:
    """Train on all other patients' pairs (CT-MRI and the rest), score each patient; beside the shipped
    weights as they are."""
    result: dict = {}
    every = {k: pairs_of(data / k, k.split("-")[0]) for k in ("CT-MRI", "PET-MRI", "SPECT-MRI")}
    shipped = {"shipped (simulated pairs only)": load_fusion()} if SHIPPED.exists() else {}
    rows: dict = {}
    patients = sorted({int(n.split(".")[0]) // 1000 for n in every["CT-MRI"]})
    for patient in patients:
        test = {n: p for n, p in every["CT-MRI"].items() if int(n.split(".")[0]) // 1000 == patient}
        train = [tuple(x.astype(np.float32) for x in p) for n, p in every["CT-MRI"].items() if n not in test]
        budget = Budget(minutes=minutes / len(patients))
        model = train_pixel_fusion(train, budget=budget, seed=seed)  # type: ignore[arg-type]
        for method, got in rows_of(test, {"medfuse": model, **shipped}).items():
            rows.setdefault(method, {}).update(got)
        print(
            f"patient {patient}: "
            + str({k: v for k, v in means(rows)["medfuse"].items() if k in ("qabf", "ssim", "scd", "vif")}),
            flush=True,
        )
    result["CT-MRI"] = {
        "rows": means(rows),
        "medfuse_minus_max": {
            m: difference(rows, "medfuse", "max", m) for m in ("qabf", "ssim", "scd", "vif")
        },
        "n": len(rows["max"]),
    }
    ct_trained = train_pixel_fusion(
        [tuple(x.astype(np.float32) for x in p) for p in every["CT-MRI"].values()],
        budget=Budget(minutes=minutes / len(patients)),
        seed=seed,
    )  # type: ignore[misc]
    for k in ("PET-MRI", "SPECT-MRI"):
        got = rows_of(every[k], {"medfuse (trained on CT-MRI)": ct_trained, **shipped})
        result[k] = {"rows": means(got), "n": len(got["max"])}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", type=Path)
    parser.add_argument("--test", type=Path)
    parser.add_argument("--leave-patient-out", type=Path)
    parser.add_argument("--simulated", action="store_true")
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--patients", type=int, default=120)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--save", type=Path)
    parser.add_argument("--json", action="store_true")
    a = parser.parse_args()
    machine = (
        f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, seed {a.seed}, "
        f"{a.minutes:g} minutes"
    )
    if a.speed:
        print(
            json.dumps(
                {
                    "rows": [speed(n) for n in (1, os.cpu_count() or 1)],
                    "machine": f"{platform.machine()}, {os.cpu_count()} cores",
                }
            )
        )
        return
    if a.simulated:
        pairs = simulated_pairs(a.patients, 7000 + a.seed)
        model = train_pixel_fusion(
            pairs,
            budget=Budget(minutes=a.minutes),
            seed=a.seed,
            log=lambda s, x: print(s, round(x, 4), flush=True),
        )
        print(f"{len(pairs)} simulated pairs, {sum(p.numel() for p in model.parameters())} parameters")
        if a.save:
            save_fusion(model, a.save)
        return
    if a.leave_patient_out:
        result = {**leave_patient_out(a.leave_patient_out, a.minutes, a.seed), "machine": machine}
        if a.json:
            print(json.dumps(result))
            return
        for k in ("CT-MRI", "PET-MRI", "SPECT-MRI"):
            print(f"\n{k}, {result[k]['n']} pictures\n{table(result[k]['rows'])}")
        print("\nmedfuse minus max, by patient:", result["CT-MRI"]["medfuse_minus_max"], "\n", machine)
        return
    if a.train is None or a.test is None:
        parser.error("give --train and --test, --leave-patient-out, or --simulated")
    train = [tuple(x.astype(np.float32) for x in p) for p in pairs_of(a.train).values()]
    if not train:
        parser.error(f"{a.train}: no pairs; it needs the folders CT/ and MRI/ with equal names")
    model = train_pixel_fusion(train, budget=Budget(minutes=a.minutes), seed=a.seed)  # type: ignore[arg-type]
    if a.save:
        save_fusion(model, a.save)
    models = {"medfuse": model, **({"shipped": load_fusion()} if SHIPPED.exists() else {})}
    rows = means(rows_of(pairs_of(a.test), models))
    if a.json:
        print(json.dumps({"rows": rows, "warnings": WARNINGS, "machine": machine}))
        return
    print(table(rows))
    print("; ".join(f"{k}: {v}" for k, v in WARNINGS.items()), "\n", machine)


if __name__ == "__main__":
    main()
