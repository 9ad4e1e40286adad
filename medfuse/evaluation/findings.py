"""How well findings are told apart: AUROC by finding, macro by group, with bootstrap intervals by patient."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import rankdata

from ..task import Task
from .results import Difference, TableRow


def finding_auroc(
    labels: Int[np.ndarray, "b f"], scores: Float[np.ndarray, "b f"]
) -> Float[np.ndarray, " f"]:
    """(F,) AUROC of each column of scores (B, F) against labels (B, F); NaN where only one class occurs."""
    if (labels < 0).any():
        columns = [
            finding_auroc(labels[k, f : f + 1], scores[k, f : f + 1]) for f, k in enumerate((labels >= 0).T)
        ]
        return np.concatenate(columns)
    # the rank-sum form (Mann-Whitney), all findings at once: the bootstrap asks for it tens of thousands of
    # times
    positives = labels.sum(0)
    pairs = positives * (len(labels) - positives)
    rank_sum = (rankdata(scores, axis=0) * labels).sum(0) if len(labels) else np.zeros(labels.shape[1])
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(pairs > 0, (rank_sum - positives * (positives + 1) / 2) / pairs, np.nan)


def accuracy(
    labels: Int[np.ndarray, "b f"], scores: Float[np.ndarray, "b f"], exclusive: list[int]
) -> float | None:
    """Share of cases whose highest of the ``exclusive`` scores is the one that holds; None where none is
    labelled."""
    known = (labels[:, exclusive] == 1).any(1)
    if not known.any():
        return None
    right = scores[known][:, exclusive].argmax(1) == labels[known][:, exclusive].argmax(1)
    return round(float(right.mean()), 4)


def macro(values: Float[np.ndarray, " f"], columns: list[int]) -> float | None:
    """Mean of the ``columns`` of values (F,) that are known; None where none is."""
    chosen = values[columns]
    return None if np.isnan(chosen).all() else float(np.nanmean(chosen))


def table_row(
    task: Task,
    labels: Int[np.ndarray, "b f"],
    scores: Float[np.ndarray, "b f"],
    *,
    seed: int = 0,
    rounds: int = 200,
) -> TableRow:
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
    return TableRow(
        macro_auroc=_rounded(macro(auroc, every)),
        focal_auroc=_rounded(macro(auroc, groups["focal"])),
        diffuse_auroc=_rounded(macro(auroc, groups["diffuse"])),
        ci95=interval,
        n=len(labels),
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def paired_difference(
    labels: Int[np.ndarray, "b f"],
    a: Float[np.ndarray, "b f"],
    b: Float[np.ndarray, "b f"],
    *,
    seed: int = 0,
    rounds: int = 500,
) -> Difference:
    """Macro AUROC of scores a minus that of scores b on the same patients, with a paired bootstrap interval
    by patient."""

    def gap(rows: np.ndarray) -> float:
        gaps = finding_auroc(labels[rows], a[rows]) - finding_auroc(labels[rows], b[rows])
        return float("nan") if np.isnan(gaps).all() else float(np.nanmean(gaps))

    whole = gap(np.arange(len(labels)))
    if np.isnan(whole):  # no finding has both a case with and a case without
        return Difference(difference=None, ci95=None)
    rng = np.random.default_rng(seed)
    draws = [gap(rng.integers(0, len(labels), len(labels))) for _ in range(rounds)]
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return Difference(difference=round(whole, 4), ci95=[round(float(low), 4), round(float(high), 4)])
