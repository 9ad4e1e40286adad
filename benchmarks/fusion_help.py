"""Does one fused picture help? Lesion visibility and a small classifier, on SIMULATED registered CT and MR
with known lesions.

python benchmarks/fusion_help.py [--patients 150] [--seed 1] [--json]

visibility: contrast-to-noise of every true lesion against the ring around it (|difference of means| /
    standard deviation in the ring), in each source and each fused picture. classifier: the same small network
    on patches (no lesion, cyst, solid lesion) of one source, of both sources stacked as channels, and of one
    fused picture; patients split in two halves, three seeds. The fused pictures come from the shipped
    weights, trained on other simulated patients.
"""

from __future__ import annotations

import argparse
import json
import platform

import numpy as np
import torch
from scipy.ndimage import binary_dilation, label
from sklearn.metrics import balanced_accuracy_score
from torch import nn

from medfuse.pixelfusion.network import BASELINES, fuse_learned, load_fusion
from medfuse.pixelfusion.train import simulated_scenes
from medfuse.task import load_task

# pixels
PATCH = 32
LEAST = 12
CYSTS = ("simple_cyst", "septated_cyst")
SOURCES = ("CT", "MR")


def scenes(patients: int, seed: int) -> list[tuple[int, dict[str, np.ndarray], np.ndarray]]:
    """(patient, {source or method: picture}, label map) of every slice."""
    model = load_fusion()
    out = []
    for patient, (a, b, dense) in simulated_scenes(patients, 880_000 + seed):
        pictures = {"CT": a, "MR": b, "fused, learned": fuse_learned(a, b, model)}
        pictures |= {
            f"fused, {name}": work(a.astype(float), b.astype(float)) for name, work in BASELINES.items()
        }
        out.append((patient, pictures, dense))
    return out


def visibility(every, lesions: list[int]) -> dict:
    rows: dict[str, list[float]] = {}
    for _, pictures, dense in every:
        parts, n = label(np.isin(dense, lesions))
        for k in range(1, n + 1):
            inside = parts == k
            ring = (
                binary_dilation(inside, iterations=5) & ~binary_dilation(inside, iterations=1) & (dense == 1)
            )
            if inside.sum() < LEAST or ring.sum() < LEAST:
                continue
            for name, x in pictures.items():
                rows.setdefault(name, []).append(
                    abs(float(x[inside].mean() - x[ring].mean())) / max(float(x[ring].std()), 1e-3)
                )
    cnr = {k: np.array(v) for k, v in rows.items()}
    better = np.maximum(cnr["CT"], cnr["MR"])
    worse = np.minimum(cnr["CT"], cnr["MR"])
    return {
        "lesions": len(better),
        "median_cnr": {k: round(float(np.median(v)), 3) for k, v in cnr.items()}
        | {"better source of each lesion": round(float(np.median(better)), 3)},
        "share_above_1": {k: round(float((v > 1).mean()), 3) for k, v in cnr.items()}
        | {"better source of each lesion": round(float((better > 1).mean()), 3)},
        "fused_at_least_the_worse_source": {
            k: round(float((v >= worse).mean()), 3) for k, v in cnr.items() if k.startswith("fused")
        },
    }


def patches(
    every, lesions: list[int], cysts: list[int], channels: tuple[str, ...], seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x (N, C, PATCH, PATCH), y (N,) 0 none, 1 cyst, 2 solid, patient (N,): one patch a lesion, and one of
    plain liver a slice."""
    x = []
    y = []
    who = []
    rng = np.random.default_rng(seed)
    half = PATCH // 2
    for patient, pictures, dense in every:
        parts, n = label(np.isin(dense, lesions))
        centres = [
            (np.argwhere(parts == k).mean(0), 1 if dense[parts == k][0] in cysts else 2)
            for k in range(1, n + 1)
            if (parts == k).sum() >= LEAST
        ]
        liver = np.argwhere((dense == 1) & ~binary_dilation(parts > 0, iterations=half // 2))
        if len(liver):
            centres.append((liver[rng.integers(len(liver))], 0))
        for centre, kind in centres:
            i, j = (
                int(np.clip(round(float(c)), half, s - half))
                for c, s in zip(centre, dense.shape, strict=True)
            )
            x.append(np.stack([pictures[c][i - half : i + half, j - half : j + half] for c in channels]))
            y.append(kind)
            who.append(patient)
    return np.stack(x).astype(np.float32), np.array(y), np.array(who)


def network(channels: int) -> nn.Sequential:
    def block(a: int, b: int) -> list[nn.Module]:
        return [nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(2)]

    return nn.Sequential(
        *block(channels, 16),
        *block(16, 32),
        *block(32, 64),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(64, 3),
    )


def classifier(every, lesions: list[int], cysts: list[int], seeds: int, epochs: int = 40) -> dict:
    out: dict[str, list[float]] = {}
    inputs = {"CT": ("CT",), "MR": ("MR",), "both stacked": SOURCES}
    inputs |= {k: (k,) for k in every[0][1] if k.startswith("fused")}
    for name, channels in inputs.items():
        x, y, who = patches(every, lesions, cysts, channels, 0)
        train = who % 2 == 0
        mean = x[train].mean((0, 2, 3), keepdims=True)
        sd = x[train].std((0, 2, 3), keepdims=True)
        x = (x - mean) / sd
        weight = torch.tensor(len(y) / (3 * np.bincount(y[train], minlength=3) + 1), dtype=torch.float32)
        for seed in range(seeds):
            torch.manual_seed(seed)
            net = network(len(channels))
            optimiser = torch.optim.AdamW(net.parameters(), 2e-3, weight_decay=1e-2)
            a = torch.from_numpy(x[train])
            b = torch.from_numpy(y[train])
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
            for _ in range(epochs):
                for at in torch.randperm(len(a)).split(64):
                    flipped = torch.flip(a[at], (2,)) if torch.rand(()) < 0.5 else a[at]
                    loss = nn.functional.cross_entropy(net(flipped), b[at], weight)
                    optimiser.zero_grad()
                    loss.backward()
                    optimiser.step()
                schedule.step()
            with torch.no_grad():
                guess = net.eval()(torch.from_numpy(x[~train])).argmax(1).numpy()
            out.setdefault(name, []).append(balanced_accuracy_score(y[~train], guess))
    return {
        "balanced_accuracy": {
            k: [round(float(np.mean(v)), 3), round(float(np.std(v)), 3)] for k, v in out.items()
        },
        "train": int(train.sum()),
        "test": int((~train).sum()),
        "test_counts": np.bincount(y[~train]).tolist(),
        "seeds": seeds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--patients", type=int, default=150)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    a = parser.parse_args()
    torch.set_num_threads(1)
    task = load_task("upper-abdomen")
    every = scenes(a.patients, a.seed)
    cysts = [task.dense.index(c) for c in CYSTS]
    result = {
        "patients": a.patients,
        "slices": len(every),
        "visibility": visibility(every, task.lesion_indices),
        "classifier": classifier(every, task.lesion_indices, cysts, a.seeds),
        "machine": f"{platform.machine()}, seed {a.seed}",
    }
    print(json.dumps(result) if a.json else json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
