"""What could refute a result before there is one: models that must not work, and what so many cases show.

Each model is gradient boosting or logistic regression in five grouped folds: what headers say (modality,
role, voxel size, scanner, site), array shapes alone, the words of the indication alone, and labels that were
shuffled between patients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from ..cohort.results import auroc_half_width
from ..cohort.split import folds_of
from ..io.manifest import ManifestRow
from ..io.read import open_case
from ..models.feature_set import label_matrix
from ..task import Task
from .hand import boost
from .results import Estimate
from .statistics import Scores, auroc, mean_of_known, patient_weights, summary

FOLDS = 5
FEW = 8  # cases, below which nothing is fitted
WIDTHS = (0.05, 0.1)  # half widths of the power table
Facts = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Refutation:
    """macro_auroc: of all findings. worst: the finding that is told best, with its AUROC. told: findings
    whose interval lies above .5."""

    macro_auroc: Estimate
    worst: dict[str, float]
    told: list[str]


@dataclass(frozen=True, kw_only=True)
class Power:
    """half_width: of the 95 % interval of an AUROC of .8 with these cases. cases_for: cases in all that would
    make it as narrow, at this prevalence (Hanley and McNeil 1982)."""

    positives: int
    negatives: int
    half_width: float | None
    cases_for: dict[str, int | None]


def facts_of(
    rows: list[ManifestRow], progress: Callable[[int, int], None]
) -> tuple[list[Facts], list[Facts]]:
    """Of each case what its headers say, and its array shapes; each image is read once."""
    headers, shapes = [], []
    for n, row in enumerate(rows, 1):
        said: Facts = {f"site {row.site}": 1.0} if row.site else {}
        sizes: Facts = {}
        for image in open_case(row, allow_empty=True).images:
            name = f"{image.modality} {image.role}"
            said[name] = said.get(name, 0.0) + 1
            if image.source.manufacturer:
                said[f"scanner {image.source.manufacturer}"] = 1.0
            if image.affine is not None:
                for axis, size in enumerate(np.linalg.norm(np.asarray(image.affine)[:3, :3], axis=0)):
                    said[f"{name} voxel {axis}"] = round(float(size), 3)
            for axis, length in enumerate(image.pixels.shape):
                sizes[f"{image.modality} axis {axis}"] = float(length)
        headers.append(said)
        shapes.append(sizes)
        progress(n, len(rows))
    return headers, shapes


def matrix(facts: list[Facts]) -> np.ndarray:
    """(B, K) with NaN where a case lacks a fact."""
    names = sorted({k for f in facts for k in f})
    out = np.full((len(facts), max(1, len(names))), np.nan)
    for row, known in zip(out, facts, strict=True):
        for name, value in known.items():
            row[names.index(name)] = value
    return out


def refute(
    task: Task, rows: list[ManifestRow], facts: tuple[list[Facts], list[Facts]], seed: int
) -> dict[str, Refutation]:
    """By model. Rows know their groups."""
    labels = label_matrix(task, rows)
    fold = folds_of(rows, FOLDS, seed)
    groups = np.array([r.group or r.patient_id or r.case_id for r in rows])
    weights = patient_weights(groups, seed)
    headers, shapes = (matrix(f) for f in facts)
    words = [r.indication for r in rows]
    shuffled = labels[np.random.default_rng(seed).permutation(len(rows))]
    found = {
        "headers": _told(headers, labels, labels, fold),
        "array shape": _told(shapes, labels, labels, fold),
        "shuffled labels": _told(np.concatenate([headers, shapes], 1), shuffled, labels, fold),
    }
    if any(words):
        found["indication"] = _from_words(words, labels, fold)
    return {name: _judged(task, p, labels, fold, weights) for name, p in found.items()}


def _told(x: np.ndarray, learned: np.ndarray, labels: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """(B, F) probabilities of cases left out by boosting."""

    def fit(train: np.ndarray, y: np.ndarray, test: np.ndarray) -> np.ndarray:
        return boost(x[train], y, x[test])

    return _left_out(fit, learned, labels, fold)


def _from_words(words: list[str], labels: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """(B, F) probabilities of cases left out by logistic regression on the words of the indication."""
    texts = np.array(words, dtype=object)

    def fit(train: np.ndarray, y: np.ndarray, test: np.ndarray) -> np.ndarray:
        counted = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), min_df=1)
        try:
            x = counted.fit_transform(texts[train])
        except ValueError:  # none of the cases to learn from has a word
            return np.full(len(test), np.nan)
        return LogisticRegression(max_iter=500).fit(x, y).predict_proba(counted.transform(texts[test]))[:, 1]

    return _left_out(fit, labels, labels, fold)


def _left_out(
    fit: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
    learned: np.ndarray,
    labels: np.ndarray,
    fold: np.ndarray,
) -> np.ndarray:
    out = np.full(labels.shape, np.nan)
    for f in range(labels.shape[1]):
        for number in np.unique(fold):
            test = np.flatnonzero(fold == number)
            train = np.flatnonzero((fold != number) & (learned[:, f] >= 0))
            y = learned[train, f]
            if len(train) >= FEW and len(np.unique(y)) == 2:
                out[test, f] = fit(train, y, test)
    return out


def _judged(
    task: Task, p: np.ndarray, labels: np.ndarray, fold: np.ndarray, weights: np.ndarray
) -> Refutation:
    values = auroc(Scores(probability=p[None], labels=labels, fold=fold[None]), weights)
    mean, interval = summary(mean_of_known(values, list(range(labels.shape[1]))))
    each = {f.id: summary(values[:, i]) for i, f in enumerate(task.findings)}
    known = {name: m for name, (m, _) in each.items() if m is not None}
    worst = max(known, key=lambda name: known[name], default="")
    return Refutation(
        macro_auroc=Estimate(mean=mean, ci95=interval),
        worst={worst: known[worst]} if worst else {},
        told=[name for name, (_, ci) in each.items() if ci is not None and ci[0] > 0.5],
    )


def power(task: Task, rows: list[ManifestRow]) -> dict[str, Power]:
    """By finding that some label names."""
    labels = label_matrix(task, rows)
    out = {}
    for f, finding in enumerate(task.findings):
        positives, negatives = (int((labels[:, f] == v).sum()) for v in (1, 0))
        if not positives and not negatives:
            continue
        out[finding.id] = Power(
            positives=positives,
            negatives=negatives,
            half_width=auroc_half_width(positives, negatives),
            cases_for={f"{w:g}": _cases_for(positives, negatives, w) for w in WIDTHS},
        )
    return out


def _cases_for(positives: int, negatives: int, width: float) -> int | None:
    """The fewest cases at this prevalence whose interval is that narrow; None without both kinds."""
    if not positives or not negatives:
        return None
    share = positives / (positives + negatives)
    n = 10
    while True:
        found = auroc_half_width(max(1, round(share * n)), max(1, round((1 - share) * n)))
        if found is not None and found <= width:
            return n
        n = max(n + 1, int(n * 1.02))
