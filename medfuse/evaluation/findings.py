"""How well findings are told apart: AUROC by finding, macro by group, with bootstrap intervals by patient."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import roc_auc_score

from ..task import Task


def finding_auroc(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """(F,) AUROC of each column of scores (B, F) against labels (B, F); NaN where only one class occurs."""
    out = np.full(labels.shape[1], np.nan)
    for f in range(labels.shape[1]):
        known = labels[:, f] >= 0
        y = labels[known, f]
        if 0 < y.sum() < len(y):
            out[f] = roc_auc_score(y, scores[known, f])
    return out


def macro(values: np.ndarray, columns: list[int]) -> float | None:
    chosen = values[columns]
    return None if np.isnan(chosen).all() else float(np.nanmean(chosen))


def table_row(task: Task, labels: np.ndarray, scores: np.ndarray, *, seed: int = 0, rounds: int = 200) -> dict:
    """macro_auroc with ci95 (percentile bootstrap over patients), focal_auroc, diffuse_auroc, n."""
    every = list(range(len(task.findings)))
    groups = {g: [i for i, f in enumerate(task.findings) if f.group == g] for g in ("focal", "diffuse")}
    auroc = finding_auroc(labels, scores)
    rng = np.random.default_rng(seed)
    draws = []
    for _ in range(rounds):
        pick = rng.integers(0, len(labels), len(labels))
        value = macro(finding_auroc(labels[pick], scores[pick]), every)
        if value is not None:
            draws.append(value)
    interval = [round(float(q), 4) for q in np.percentile(draws, [2.5, 97.5])] if draws else None
    rounded = {k: None if v is None else round(v, 4) for k, v in {
        "macro_auroc": macro(auroc, every),
        "focal_auroc": macro(auroc, groups["focal"]),
        "diffuse_auroc": macro(auroc, groups["diffuse"]),
    }.items()}  # fmt: skip
    return {**rounded, "ci95": interval, "n": len(labels)}
