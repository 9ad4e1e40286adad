"""Real breast ultrasound (BUSI) through `medfuse train`: near-duplicates in one group, grouped 5-fold, beside
simple rows.

python benchmarks/busi.py --data ../shared/data/ultrasound2d/busi --manifest busi/manifest.jsonl      writes a
manifest
python benchmarks/busi.py --data … --folds 5 --minutes 3 --seeds 3 [--rows plain masked pretrained]     trains
and scores
   [--pretrain population/manifest.jsonl --pretrain-minutes 10]    SIMULATED ultrasound on which the encoder
   of row "pretrained" starts

Rows: "plain" sees the images as they are; "masked" after measuring marks are painted over (as the shipped
    bundle does); "marks only" sees where marks were and nothing else. Groups are images whose perceptual
    hashes differ in at most 10 of 64 bits. BUSI has no patient ids, so other images of one woman may still
    lie on both sides.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image
from scipy.fft import dctn
from scipy.sparse.csgraph import connected_components
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.preprocessing import StandardScaler

CLASSES = ("benign", "malignant", "normal")
SAME = 10  # bits


def load(data: Path) -> tuple[list[Path], np.ndarray]:
    paths = [p for c in CLASSES for p in sorted((data / c).glob("*.png")) if "_mask" not in p.stem]
    return paths, np.array([CLASSES.index(p.parent.name) for p in paths])


def grey(path: Path, size: int) -> np.ndarray:
    with Image.open(path) as f:
        return np.asarray(f.convert("L").resize((size, size), Image.Resampling.BILINEAR), np.float32)


def groups_of(paths: list[Path]) -> np.ndarray:
    """One number a group of near-duplicates: 64-bit DCT hashes at most SAME bits apart, mirror images too."""
    hashes = []
    for p in paths:
        small = grey(p, 32)
        for image in (small, small[:, ::-1]):
            low = dctn(image, norm="ortho")[:8, :8].ravel()
            hashes.append(low > np.median(low[1:]))
    bits = np.array(hashes)
    plain = bits[0::2]
    mirror = bits[1::2]
    near = (
        np.minimum((plain[:, None] != plain[None]).sum(-1), (plain[:, None] != mirror[None]).sum(-1)) <= SAME
    )
    return connected_components(near)[1]


def write_manifest(
    path: Path, paths: list[Path], y: np.ndarray, groups: np.ndarray, split: np.ndarray
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as f:
        for p, c, g, s in zip(paths, y, groups, split, strict=True):
            row = {
                "case_id": f"busi-{p.stem.replace(' ', '').replace('(', '-').replace(')', '')}",
                "patient_id": f"group{g}",
                "split": str(s),
                "images": [{"path": str(p.resolve()), "modality": "US", "role": "still"}],
                "labels": {name: int(c == k) for k, name in enumerate(CLASSES)},
            }
            f.write(json.dumps(row) + "\n")


def splits(y: np.ndarray, groups: np.ndarray, folds: int) -> list[np.ndarray]:
    """For each fold: an array of train, val, test. A fold is two parts of 2 × folds; the part after it
    chooses."""
    parts = np.zeros(len(y), int)
    for k, (_, some) in enumerate(
        StratifiedGroupKFold(2 * folds, shuffle=True, random_state=0).split(y, y, groups)
    ):
        parts[some] = k
    return [
        np.where(parts // 2 == k, "test", np.where(parts == (2 * k + 2) % (2 * folds), "val", "train"))
        for k in range(folds)
    ]


def scores(y: np.ndarray, p: np.ndarray) -> dict[str, float]:
    """Accuracy of three classes, AUROC of malignant against the rest and against benign."""
    malignant = CLASSES.index("malignant")
    lesions = y != CLASSES.index("normal")
    odds = p[:, malignant] / (p[:, malignant] + p[:, CLASSES.index("benign")] + 1e-9)
    return {
        "accuracy": round(float((p.argmax(1) == y).mean()), 4),
        "auc_malignant": round(float(roc_auc_score(y == malignant, p[:, malignant])), 4),
        "auc_benign_malignant": round(float(roc_auc_score(y[lesions] == malignant, odds[lesions])), 4),
    }


def thumbnail_rows(paths: list[Path], y: np.ndarray, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Copy the class of the nearest 24 × 24 thumbnail; as probabilities: a soft vote of the five nearest."""
    x = np.stack([grey(p, 24).ravel() for p in paths])
    x = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)
    nearest = np.argsort(-(x[test] @ x[train].T), axis=1)[:, :5]
    votes = np.zeros((int(test.sum()), 3))
    for rank, weight in enumerate((5, 1, 1, 1, 1)):
        votes[np.arange(len(votes)), y[train][nearest[:, rank]]] += weight
    return votes / votes.sum(1, keepdims=True)


def hog_rows(paths: list[Path], y: np.ndarray, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Histograms of oriented gradients and logistic regression."""
    from skimage.feature import hog

    x = np.stack([hog(grey(p, 128), pixels_per_cell=(16, 16), cells_per_block=(2, 2)) for p in paths])
    scale = StandardScaler().fit(x[train])
    return (
        LogisticRegression(C=0.003, max_iter=500)
        .fit(scale.transform(x[train]), y[train])
        .predict_proba(scale.transform(x[test]))
    )


def marks_rows(paths: list[Path], y: np.ndarray, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """The shortcut: only how many pixels of burned-in marks there are, and where."""
    from medfuse.preprocess.marks import find_marks

    x = np.stack(
        [
            np.asarray(
                Image.fromarray(find_marks(grey(p, 256).astype(np.uint8))).resize(
                    (8, 8), Image.Resampling.BOX
                ),
                float,
            ).ravel()
            for p in paths
        ]
    )
    return LogisticRegression(C=0.1, max_iter=500).fit(x[train], y[train]).predict_proba(x[test])


def pretrain(manifest: Path, folder: Path, minutes: float, size: int) -> str:
    """A bundle whose ultrasound encoder learned the findings of SIMULATED abdominal frames, without label
    maps."""
    from medfuse.task import load_task
    from medfuse.training.options import TrainOptions
    from medfuse.training.run import train

    breast = load_task("breast-ultrasound")
    abdomen = load_task("upper-abdomen")
    seen = [f for f in abdomen.findings if "US" in f.modalities]
    spec = breast.modalities["US"].model_copy(
        update={"frames": 12, "size": size, "remove_marks": False, "roles": ("cine",)}
    )
    task = breast.model_copy(
        update={
            "name": "abdominal-frames",
            "exclusive": (),
            "about": {},
            "modalities": {"US": spec},
            "findings": tuple(f.model_copy(update={"modalities": ("US",), "requires": {}}) for f in seen),
        }
    )
    ids = {f.id for f in seen}
    path = folder / "simulated.jsonl"
    with path.open("w") as f:
        for line in manifest.read_text().splitlines():
            row = json.loads(line)
            images = [
                {k: v for k, v in i.items() if k != "mask"}
                | {"path": str((manifest.parent / i["path"]).resolve())}
                for i in row["images"]
                if i["modality"] == "US"
            ]
            if images:
                labels = {k: v for k, v in row["labels"].items() if k in ids}
                f.write(
                    json.dumps({**row, "images": images, "labels": labels, "report": "", "reports": {}})
                    + "\n"
                )
    out = folder / "pretrained"
    result = train(
        task,
        path,
        out,
        TrainOptions(minutes=minutes, seed=1),
        command="benchmarks/busi.py",
        log=lambda m: print(m, flush=True),
    )
    print("pretrained on simulated frames:", result["validation"], flush=True)
    return str(out)


def medfuse_rows(
    manifest: Path,
    out: Path,
    minutes: float,
    seed: int,
    order: list[str],
    *,
    size: int,
    remove_marks: bool,
    start: str | None,
) -> np.ndarray:
    """Train by the command's own function, predict the test split by the bundle."""
    from medfuse.bundles.bundle import load_bundle
    from medfuse.bundles.calibration import calibrated
    from medfuse.evaluation.evaluate import features_of
    from medfuse.io.manifest import read_manifest
    from medfuse.models.feature_set import collect, predict_logits
    from medfuse.task import load_task
    from medfuse.training.options import TrainOptions
    from medfuse.training.run import train

    task = load_task("breast-ultrasound")
    spec = task.modalities["US"].model_copy(update={"remove_marks": remove_marks, "size": size})
    task = task.model_copy(update={"modalities": {"US": spec}})
    options = TrainOptions(minutes=minutes, seed=seed, start=start)
    train(task, manifest, out, options, command="benchmarks/busi.py", log=lambda m: None)
    bundle = load_bundle(out)
    rows = [r for r in read_manifest(manifest) if r.split == "test"]
    data, _ = features_of(bundle, rows, "cpu", lambda d, n: None)
    assert data.case_ids == order
    logits = predict_logits(bundle.model, collect(task, bundle.model.sizes, data).batch)
    p = calibrated(logits, bundle.temperature("US"))
    return p[:, [next(i for i, f in enumerate(task.findings) if f.id == c) for c in CLASSES]]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument(
        "--manifest", type=Path, help="only write this manifest (two parts in ten are test, one chooses)"
    )
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--run", type=int, help="how many of the folds to run (default: all)")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--size", type=int, default=96, help="pixels a side that the networks see")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument(
        "--rows", nargs="+", default=["plain", "masked"], choices=["plain", "masked", "pretrained"]
    )
    parser.add_argument("--pretrain", type=Path, help="manifest of simulated cases, for row pretrained")
    parser.add_argument("--pretrain-minutes", type=float, default=10.0)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    options = parser.parse_args()
    paths, y = load(options.data)
    groups = groups_of(paths)
    every = splits(y, groups, options.folds)
    if options.manifest is not None:
        write_manifest(options.manifest, paths, y, groups, every[0])
        print(f"{len(paths)} images in {groups.max() + 1} groups: {options.manifest}")
        return
    rows: dict[str, list[dict]] = {}
    start = None
    if "pretrained" in options.rows:
        if options.pretrain is None:
            parser.error("row pretrained needs --pretrain, a manifest of simulated cases")
        options.out.mkdir(parents=True, exist_ok=True)
        start = pretrain(options.pretrain, options.out, options.pretrain_minutes, options.size)
    for k, split in enumerate(every[: options.run]):
        train = split == "train"
        test = split == "test"
        known = train | (split == "val")  # the simple rows choose nothing, so they may learn from both
        for name, work in (
            ("nearest thumbnail", thumbnail_rows),
            ("HOG + logistic", hog_rows),
            ("burned-in marks only", marks_rows),
        ):
            rows.setdefault(name, []).append(scores(y[test], work(paths, y, known, test)))
        for seed, kind in product(range(1, options.seeds + 1), options.rows):
            with TemporaryDirectory() as folder:
                manifest = Path(folder) / "manifest.jsonl"
                write_manifest(manifest, paths, y, groups, split)
                order = [
                    r["case_id"]
                    for r in map(json.loads, manifest.read_text().splitlines())
                    if r["split"] == "test"
                ]
                p = medfuse_rows(
                    manifest,
                    Path(folder) / "bundle",
                    options.minutes,
                    seed,
                    order,
                    size=options.size,
                    remove_marks=kind == "masked",
                    start=start if kind == "pretrained" else None,
                )
            rows.setdefault(f"medfuse, {kind}", []).append(scores(y[test], p))
            print(f"fold {k} seed {seed} {kind}: {rows[f'medfuse, {kind}'][-1]}", flush=True)
    result = {
        "images": len(paths),
        "groups": int(groups.max() + 1),
        "folds": options.folds,
        "run": len(every[: options.run]),
        "minutes": options.minutes,
        "size": options.size,
        "seeds": options.seeds,
        "machine": (
            f"{platform.machine()}, {torch.get_num_threads()} thread(s) of {os.cpu_count()} cores, torch "
            f"{torch.__version__}"
        ),
        "rows": {
            name: {
                key: [
                    round(float(np.mean([r[key] for r in rs])), 4),
                    round(float(np.std([r[key] for r in rs])), 4),
                ]
                for key in rs[0]
            }
            for name, rs in rows.items()
        },
    }
    print(json.dumps(result, indent=1))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "busi.json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
