"""BUSI through `benchmarks/real.py`: benign, malignant or normal, from one real ultrasound image of a breast.

A frozen encoder (real_encoder.py) and a ridge regression. Near-duplicates stand on one side (see busi.py),
folds are stratified. There are no patient ids: other images of one woman may still lie on both sides.
Controls: shuffled labels, the file's size alone, the nearest thumbnail.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
from busi import CLASSES, groups_of, load, thumbnail_rows
from PIL import Image
from real_encoder import ENCODER, SIDE, features, ridge
from real_results import Results, Row, interval
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold

from medfuse.training.budget import Budget

MINUTES = 5.0
FOLDS = 5
SEEDS = 3
BLOCKS = ("24/grid", "40/grid", "112/grid", "320/grid", "head")
STRENGTH = 0.3  # chosen on these folds
MALIGNANT = CLASSES.index("malignant")


def run(train: Path | None, test: Path | None, budget: Budget, seed: int) -> Results:
    """Train on the one folder, test on the other; without them, folds of the shared copy. The budget is not
    needed: what is slow is the encoder, once an image."""
    started = time.monotonic()
    shared = Path(os.environ.get("MEDFUSE_SHARED", "../shared")) / "data/ultrasound2d/busi"
    paths, y = load(train or shared)
    n = len(paths)
    if test is not None:
        more, also = load(test)
        paths, y = [*paths, *more], np.concatenate([y, also])
    if not paths:
        raise SystemExit(f"{train or shared}: no image in benign, malignant or normal")
    groups = groups_of(paths)
    if test is None:
        splits = [s for k in range(SEEDS) for s in _folds(y, groups, seed + k)]
    else:
        splits = [(np.flatnonzero(~np.isin(groups[:n], groups[n:])), np.arange(n, len(y)))]
    rows = _rows(paths, y, splits, seed)
    at = np.concatenate([b for _, b in splits])
    table = {name: _row(y[at], p, groups[at], seed) for name, p in rows.items()}
    return Results(
        set="busi",
        n_train=len(splits[0][0]),
        n_test=len(np.unique(at)),
        rows={"US": table.pop("US")},
        controls=table,
        minutes=round((time.monotonic() - started) / 60, 1),
        seed=seed,
        folds=0 if test is not None else FOLDS,
        notes={"encoder": ENCODER, "seeds": 1 if test is not None else SEEDS, "n": "images"},
    )


def _folds(y: np.ndarray, groups: np.ndarray, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    return list(StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(y, y, groups))


def _rows(
    paths: list[Path], y: np.ndarray, splits: list[tuple[np.ndarray, np.ndarray]], seed: int
) -> dict[str, np.ndarray]:
    """Scores (tests, classes) of every row, tests of all splits one after the other."""
    seen = features(np.stack([_picture(p) for p in paths]))
    blocks = [seen[b] for b in BLOCKS]
    sizes = [np.log([_size(p) for p in paths])]
    wrong = np.random.default_rng(seed).permutation(y)
    out: dict[str, list[np.ndarray]] = {}
    for a, b in splits:
        for name, x, labels in (("US", blocks, y), ("shuffled labels", blocks, wrong), ("size", sizes, y)):
            out.setdefault(name, []).append(ridge(x, np.eye(len(CLASSES))[labels], a, b, STRENGTH))
        chosen = np.zeros((2, len(y)), bool)
        chosen[0, a] = chosen[1, b] = True
        back = np.argsort(np.argsort(b))  # thumbnail_rows answers in the order of the images
        out.setdefault("nearest thumbnail", []).append(thumbnail_rows(paths, y, *chosen)[back])
    return {name: np.concatenate(parts) for name, parts in out.items()}


def _picture(path: Path) -> np.ndarray:
    with Image.open(path) as f:
        return np.asarray(f.convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def _size(path: Path) -> tuple[int, int, int]:
    with Image.open(path) as f:
        return *f.size, path.stat().st_size


def _row(y: np.ndarray, p: np.ndarray, groups: np.ndarray, seed: int) -> Row:
    right = (p.argmax(1) == y).astype(float)

    def auroc(at: np.ndarray) -> float:
        truth = y[at] == MALIGNANT
        return float(roc_auc_score(truth, p[at, MALIGNANT])) if 0 < truth.sum() < len(at) else float("nan")

    every = np.arange(len(y))
    accuracy = interval(groups, lambda at: float(right[at].mean()), seed, 500)
    return {
        "accuracy": round(float(right.mean()), 4),
        "accuracy_ci95": accuracy,
        "auroc_malignant": round(auroc(every), 4),
        "auroc_malignant_ci95": interval(groups, auroc, seed, 500),
        "ci95": accuracy,
    }
