"""BUSI through `benchmarks/real.py`: benign, malignant or normal, from one real ultrasound image of a breast,
and whether the evidence lies on the lesion.

A frozen encoder (real_encoder.py) read by a ridge regression and by parts (real_busi_parts.py); US is the
mean of both. Near-duplicates stand on one side (see busi.py), folds are stratified. There are no patient ids:
other images of one woman may still lie on both sides. Controls: shuffled labels, the file's size alone, the
nearest thumbnail; of the evidence: shuffled labels, an encoder that learned nothing, the middle of the image,
the largest dark blob, and a place at random.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from busi import CLASSES, groups_of, load, thumbnail_rows
from PIL import Image
from real_busi_parts import SIMPLE, ByParts, Told, hits, outlines, read, unlearned
from real_encoder import ENCODER, SIDE, ridge
from real_results import Results, Row, interval, mean_row
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from torch import Tensor

from medfuse.preprocess.marks import remove_marks
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
    pictures = np.stack([_picture(p) for p in paths])
    seen, cells = read(pictures)
    known = [ByParts(cells[a], y[a], seed) for a, _ in splits]
    told = [k.told(cells) for k in known]
    rows = _rows(paths, y, splits, seen, told, seed)
    at = np.concatenate([b for _, b in splits])
    table = {name: _row(y[at], p, groups[at], seed) for name, p in rows.items()}
    game = _Game(pictures=pictures, y=y, splits=splits[:FOLDS], outlines=outlines(paths))
    pointed = game.played(cells, known, seed)
    for name, hit in pointed.items():
        who = groups[game.lesions]
        table[name] = mean_row({"on_lesion": hit}, who, seed) | table.get(name, {})
    return Results(
        set="busi",
        n_train=len(splits[0][0]),
        n_test=len(np.unique(at)),
        rows={name: table.pop(name) for name in ("US", "ridge", "by parts")},
        controls=table,
        minutes=round((time.monotonic() - started) / 60, 1),
        seed=seed,
        folds=0 if test is not None else FOLDS,
        notes={
            "encoder": ENCODER,
            "seeds": 1 if test is not None else SEEDS,
            "n": "images",
            "outlined_lesions": len(game.lesions),
        },
    )


@dataclass(frozen=True, kw_only=True)
class _Game:
    """The pointing game on the outlined lesions of the images that are tested, each by the classifier that
    never saw it."""

    pictures: np.ndarray
    y: np.ndarray
    splits: list[tuple[np.ndarray, np.ndarray]]
    outlines: dict[int, np.ndarray]

    @property
    def lesions(self) -> np.ndarray:
        """Numbers of the images, split by split."""
        return np.array([i for _, b in self.splits for i in b if i in self.outlines], int)

    def played(self, cells: Tensor, known: list[ByParts], seed: int) -> dict[str, np.ndarray]:
        """By name, (L,) whether it points at the lesion, for each of `lesions`."""
        if not len(self.lesions):
            return {}
        blank = cells.clone()
        at = np.unique(self.lesions)
        blank[at] = read(remove_marks(self.pictures[at]))[1]
        other, wrong = unlearned(self.pictures, seed), np.random.default_rng(seed).permutation(self.y)
        maps = {
            "by parts": [k.told(cells).evidence for k in known[: len(self.splits)]],
            "by parts, marks painted over": [k.told(blank).evidence for k in known[: len(self.splits)]],
            "shuffled labels": [
                ByParts(cells[a], wrong[a], seed).told(cells).evidence for a, _ in self.splits
            ],
            "encoder that learned nothing": [
                ByParts(other[a], self.y[a], seed).told(other).evidence for a, _ in self.splits
            ],
        }
        out = {name: self._hits(every) for name, every in maps.items()}
        for name, point in SIMPLE.items():
            out[name] = np.array([hits(self.outlines[i], point(self.pictures[i])) for i in self.lesions])
        out["place at random"] = np.array([self.outlines[i].mean() for i in self.lesions])
        for name in ("encoder that learned nothing", "shuffled labels", "largest dark blob"):
            out[f"by parts minus {name}"] = out["by parts"] - out[name]
        return out

    def _hits(self, every: list[np.ndarray]) -> np.ndarray:
        """every: evidence (N, H, W) by split."""
        return np.array(
            [
                hits(self.outlines[i], maps[i])
                for (_, b), maps in zip(self.splits, every, strict=False)
                for i in b
                if i in self.outlines
            ]
        )


def _folds(y: np.ndarray, groups: np.ndarray, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    return list(StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(y, y, groups))


def _rows(
    paths: list[Path],
    y: np.ndarray,
    splits: list[tuple[np.ndarray, np.ndarray]],
    seen: dict[str, np.ndarray],
    told: list[Told],
    seed: int,
) -> dict[str, np.ndarray]:
    """Scores (tests, classes) of every row, tests of all splits one after the other."""
    blocks = [seen[b] for b in BLOCKS]
    sizes = [np.log([_size(p) for p in paths])]
    wrong = np.random.default_rng(seed).permutation(y)
    out: dict[str, list[np.ndarray]] = {}
    for (a, b), parts in zip(splits, told, strict=True):
        for name, x, labels in (("ridge", blocks, y), ("shuffled labels", blocks, wrong), ("size", sizes, y)):
            out.setdefault(name, []).append(ridge(x, np.eye(len(CLASSES))[labels], a, b, STRENGTH))
        out.setdefault("by parts", []).append(parts.probability[b])
        out.setdefault("US", []).append((out["ridge"][-1] + parts.probability[b]) / 2)
        chosen = np.zeros((2, len(y)), bool)
        chosen[0, a] = chosen[1, b] = True
        back = np.argsort(np.argsort(b))  # thumbnail_rows answers in the order of the images
        out.setdefault("nearest thumbnail", []).append(thumbnail_rows(paths, y, *chosen)[back])
    return {name: np.concatenate(parts_) for name, parts_ in out.items()}


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
