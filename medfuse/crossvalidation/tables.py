"""Scores of all folds → metrics with intervals, by model, subset and finding."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from ..models.subsets import name as subset_name
from ..models.subsets import subsets
from ..task import Task
from .fold import FUSED, Cohort, FoldScores
from .plan import Fold
from .results import Estimate, FindingByFolds
from .statistics import (
    Scores,
    accuracy,
    auroc,
    brier,
    calibration_error,
    mean_of_known,
    patient_weights,
    summary,
)


@dataclass(frozen=True, kw_only=True)
class Tables:
    """Metrics of the fused model by subset, of the baselines, by finding, and cases by subset."""

    subsets: dict[str, dict[str, Estimate]]
    baselines: dict[str, dict[str, dict[str, Estimate]]]
    per_finding: dict[str, FindingByFolds]
    cases: dict[str, int]


def tables(cohort: Cohort, folds: list[Fold], made: list[FoldScores], seed: int) -> Tables:
    """Everything that is measured, in the order of subsets; a subset that no case has is left out."""
    repeats = 1 + max(f.repeat for f in folds)
    fold = np.zeros((repeats, len(cohort.rows)), int)
    for f in folds:
        fold[f.repeat, f.test] = f.number
    weights = patient_weights(np.array([r.group for r in cohort.rows]), seed)
    task = cohort.task
    names = [subset_name(s) for s in subsets(task.senses)]
    of = {(m, s): _joined(cohort, folds, made, fold, m, s) for m in _models(made) for s in names}
    fused = {s: of[FUSED, s] for s in names if of[FUSED, s].there.any()}
    baselines: dict[str, dict[str, dict[str, Estimate]]] = {}
    for model in _models(made):
        if model == FUSED:
            continue
        rows = {}
        for s, ours in fused.items():
            theirs = of[model, s]
            if theirs.there.any():
                rows[s] = _metrics(task, theirs, weights) | {
                    "fusion_minus_this": _difference(ours, theirs, weights)
                }
        if rows:
            baselines[model] = rows
    return Tables(
        subsets={s: _metrics(task, scores, weights) for s, scores in fused.items()},
        baselines=baselines,
        per_finding=_findings(cohort, fused, weights),
        cases={s: int(scores.there.sum()) for s, scores in fused.items()},
    )


def _models(made: list[FoldScores]) -> list[str]:
    return list(dict.fromkeys(m for one in made for m in one.scores))


def _joined(
    cohort: Cohort, folds: list[Fold], made: list[FoldScores], fold: np.ndarray, model: str, subset: str
) -> Scores:
    """One model on one subset over all folds."""
    p = np.full((*fold.shape, cohort.labels.shape[1]), np.nan)
    for f, one in zip(folds, made, strict=True):
        if subset in one.scores.get(model, {}):
            p[f.repeat, one.test] = one.scores[model][subset]
    return Scores(probability=p, labels=cohort.labels, fold=fold)


def _estimate(values: np.ndarray) -> Estimate:
    mean, interval = summary(values)
    return Estimate(mean=mean, ci95=interval)


def _metrics(task: Task, scores: Scores, weights: np.ndarray) -> dict[str, Estimate]:
    by_finding = auroc(scores, weights)
    columns: dict[str, Iterable[int]] = {
        "macro_auroc": range(len(task.findings)),
        "focal_auroc": (i for i, f in enumerate(task.findings) if f.group == "focal"),
        "diffuse_auroc": (i for i, f in enumerate(task.findings) if f.group == "diffuse"),
    }
    out = {}
    for name, which in columns.items():
        if chosen := list(which):
            out[name] = _estimate(mean_of_known(by_finding, chosen))
    out["ece"] = _estimate(calibration_error(scores, weights))
    out["brier"] = _estimate(brier(scores, weights))
    if task.exclusive:
        out["accuracy"] = _estimate(accuracy(scores, weights, task.exclusive_indices))
    return out


def _difference(ours: Scores, theirs: Scores, weights: np.ndarray) -> Estimate:
    """Macro AUROC of ours minus theirs, on the cases that both scored."""
    neither = np.isnan(ours.probability) | np.isnan(theirs.probability)
    pair = [
        auroc(replace(s, probability=np.where(neither, np.nan, s.probability)), weights)
        for s in (ours, theirs)
    ]
    gap = pair[0] - pair[1]
    return _estimate(mean_of_known(gap, list(range(gap.shape[1]))))


def _findings(cohort: Cohort, fused: dict[str, Scores], weights: np.ndarray) -> dict[str, FindingByFolds]:
    by_subset = {s: auroc(scores, weights) for s, scores in fused.items()}
    out = {}
    for f, finding in enumerate(cohort.task.findings):
        column = cohort.labels[:, f]
        out[finding.id] = FindingByFolds(
            positives=int((column == 1).sum()),
            negatives=int((column == 0).sum()),
            patients=len({cohort.rows[i].group for i in np.flatnonzero(column == 1)}),
            auroc={s: _estimate(values[:, f]) for s, values in by_subset.items()},
        )
    return out
