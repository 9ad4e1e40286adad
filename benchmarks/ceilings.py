"""What the images could tell if every structure were outlined perfectly: a random forest on true-mask
statistics.

python benchmarks/ceilings.py --manifest population/manifest.jsonl --work DIR [--cases 600]

For each modality and structure: its voxels, and per role the mean, spread and difference to the liver.
    Lesions are outlined but not
named: the statistics of the three largest, whatever they are. A forest a finding and subset, trained on the
    split "train", scored on "val". A ceiling for features like these, not for every model.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path

import numpy as np
from scipy.ndimage import label
from sklearn.ensemble import RandomForestClassifier

from medfuse.evaluation.findings import finding_auroc
from medfuse.io.manifest import read_manifest
from medfuse.models.feature_set import label_matrix
from medfuse.models.subsets import name as subset_name
from medfuse.models.subsets import subsets
from medfuse.task import Task, load_task
from medfuse.training.data.tensors import load_input, preprocess_manifest

LESIONS = 3


def statistics(task: Task, modality: str, folder: Path, names: list[str]) -> np.ndarray:
    """((classes - lesion classes + LESIONS) × (1 + 3 roles),) of one case; zeros for what is not there."""
    roles = len(task.modalities[modality].roles)
    plain = [k for k in range(1, len(task.dense)) if k not in task.lesion_indices]
    out = np.zeros((len(plain) + LESIONS, 1 + 3 * roles), np.float32)
    for name in names:
        values, present, dense = load_input(folder, name, roles)
        channels = values.astype(np.float32)[None] if modality == "US" else values.astype(np.float32)
        organ = dense == task.dense.index(task.organ)
        base = [c[organ].mean() if organ.any() else 0.0 for c in channels]
        parts, n = label(np.isin(dense, task.lesion_indices))
        largest = (np.argsort(-np.bincount(parts.ravel(), minlength=n + 1)[1:]) + 1)[:LESIONS]
        for row, inside in enumerate([dense == k for k in plain] + [parts == c for c in largest]):
            if not inside.any():
                continue
            out[row, 0] = np.log1p(inside.sum())
            for r, channel in enumerate(channels):
                if modality == "US" or present[r]:
                    v = channel[inside]
                    out[row, 1 + 3 * r : 4 + 3 * r] = v.mean(), v.std(), v.mean() - base[r]
    return out.ravel()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument(
        "--work", type=Path, required=True, help="where preprocessed tensors lie or are written"
    )
    parser.add_argument("--cases", type=int, default=600)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    options = parser.parse_args()
    task = load_task("upper-abdomen")
    rows = [r for r in read_manifest(options.manifest) if r.split in ("train", "val")]
    folder, entries = preprocess_manifest(task, rows, options.work / "tensors", workers=os.cpu_count() or 1)
    rows = rows[: options.cases]
    entries = entries[: options.cases]
    labels = label_matrix(task, rows)
    train = np.array([r.split == "train" for r in rows])
    x = {
        m: np.stack([statistics(task, m, folder, e["files"].get(m, [])) for e in entries])
        for m in task.senses
    }
    table = {}
    for s in subsets(task.senses):
        features = np.concatenate([x[m] for m in s], 1)
        p = np.full(labels[~train].shape, np.nan)
        for f in range(labels.shape[1]):
            if len(np.unique(labels[train, f])) == 2:
                forest = RandomForestClassifier(
                    300, min_samples_leaf=3, class_weight="balanced", random_state=0, n_jobs=-1
                )
                p[:, f] = forest.fit(features[train], labels[train, f]).predict_proba(features[~train])[:, 1]
        auroc = finding_auroc(labels[~train], p)
        focal = [i for i, f in enumerate(task.findings) if f.group == "focal"]
        table[subset_name(s)] = {
            "macro_auroc": round(float(np.nanmean(auroc)), 4),
            "focal_auroc": round(float(np.nanmean(auroc[focal])), 4),
        }
    result = {
        "cases": len(rows),
        "train": int(train.sum()),
        "ceilings": table,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
    print(json.dumps(result, indent=1))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "ceilings.json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
