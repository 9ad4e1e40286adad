"""The simple rival of any network: hand features of the preprocessed images, and gradient boosting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.stats import kurtosis, skew
from sklearn.ensemble import HistGradientBoostingClassifier

from ..io.manifest import ManifestRow
from ..models.features import CaseFeatures
from ..models.senses import add_senses
from ..models.subsets import name as subset_name
from ..models.subsets import subsets
from ..task import Task
from ..training.data.tensors import Preprocessed, load_input

FEW = 8  # cases, below which boosting is not fitted
WIDEST = 512  # columns of a sense; beyond it its tokens are averaged


def hand_features(
    task: Task, folder: Path, entries: list[Preprocessed], rows: list[ManifestRow]
) -> dict[str, np.ndarray]:
    """By sense (B, K): of an image how bright, how spread and how rough each of its roles is, the mean over a
    case's images; of a further sense its values. NaN where it is missing."""
    out = {
        m: np.stack(
            [_of_images(folder, e["files"].get(m, []), len(task.modalities[m].roles)) for e in entries]
        )
        for m in task.image_senses
    }
    cases = [CaseFeatures() for _ in rows]
    for case, row in zip(cases, rows, strict=True):
        add_senses(case, task.further, row)
    return out | {s: _of_sense(s, cases) for s in task.further}


def _of_images(folder: Path, names: list[str], roles: int) -> np.ndarray:
    found = [_of_image(*load_input(folder, n, roles)[:2]) for n in names]
    width = 12 * max(1, roles)
    if not found:
        return np.full(width, np.nan)
    padded = [np.pad(f, (0, max(0, width - len(f))), constant_values=np.nan)[:width] for f in found]
    known = ~np.isnan(padded)
    total = np.where(known, padded, 0).sum(0)
    return np.divide(total, known.sum(0), out=np.full(width, np.nan), where=known.any(0))


def _of_image(values: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Of each role of a volume (R, X, Y, Z), or of a whole cine (T, S, S)."""
    if values.ndim == 4:
        return np.concatenate(
            [_texture(v) if p else np.full(12, np.nan) for v, p in zip(values, present, strict=True)]
        )
    return _texture(values)


def _texture(values: np.ndarray) -> np.ndarray:
    x = values.astype(np.float32)
    flat = x.ravel()
    if not flat.size or flat.min() == flat.max():
        return np.full(12, np.nan)
    steps = np.concatenate([np.abs(np.diff(x, axis=a)).ravel() for a in range(x.ndim) if x.shape[a] > 1])
    return np.array(
        [
            flat.mean(),
            flat.std(),
            skew(flat),
            kurtosis(flat),
            *np.percentile(flat, [1, 10, 50, 90, 99]),
            steps.mean(),
            np.percentile(steps, 99),
            (flat <= flat.min()).mean(),
        ]
    )


def _of_sense(sense: str, cases: list[CaseFeatures]) -> np.ndarray:
    """Values of each kind of token side by side; where that is too wide, the mean of all tokens."""
    there = [c for c in cases if sense in c.features]
    if not there:
        return np.full((len(cases), 1), np.nan)
    kinds = sorted({int(k) for c in there for k in c.kind[sense]})
    size = there[0].features[sense].shape[1]
    wide = len(kinds) * size <= WIDEST
    out = np.full((len(cases), len(kinds) * size if wide else size), np.nan)
    for row, case in zip(out, cases, strict=True):
        if sense not in case.features:
            continue
        if not wide:
            row[:] = case.features[sense].mean(0)
            continue
        for k, values in zip(case.kind[sense], case.features[sense], strict=True):
            at = kinds.index(int(k)) * size
            row[at : at + size] = values
    return out


def boosted(
    task: Task,
    features: dict[str, np.ndarray],
    labels: np.ndarray,
    learn: np.ndarray,
    scored: np.ndarray,
) -> dict[str, np.ndarray]:
    """By subset the probabilities (S, F) of the cases ``scored`` (numbers) by boosting on the cases ``learn``
    that have all of the subset; NaN where too few have it, or it is missing."""
    out = {}
    for s in subsets(task.senses):
        x = np.concatenate([features[m] for m in s], 1)
        there = np.all([~np.isnan(features[m]).all(1) for m in s], axis=0)
        p = np.full((len(scored), labels.shape[1]), np.nan)
        asked = there[scored]
        for f in range(labels.shape[1]):
            at = learn[there[learn] & (labels[learn, f] >= 0)]
            y = labels[at, f]
            if len(at) >= FEW and len(np.unique(y)) == 2 and asked.any():
                p[asked, f] = boost(x[at], y, x[scored[asked]])
        out[subset_name(s)] = p
    return out


def boost(x: np.ndarray, y: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """(N,) probabilities of cases ``asked`` (N, K) by boosting on x (B, K) with NaN and y (B,) of both kinds;
    where nothing is known, how often y holds."""
    tells = (~np.isnan(x)).any(0)  # scikit-learn takes missing values, but no column of nothing else
    if not tells.any():
        return np.full(len(asked), y.mean())
    booster = HistGradientBoostingClassifier(
        max_iter=50,
        max_depth=3,
        learning_rate=0.1,
        min_samples_leaf=int(np.clip(len(x) // 10, 2, 20)),
        early_stopping=False,
        random_state=0,
    )
    return booster.fit(x[:, tells], y).predict_proba(asked[:, tells])[:, 1]
