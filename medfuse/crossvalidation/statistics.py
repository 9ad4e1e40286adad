"""Metrics of predictions on cases that were left out, with intervals by a bootstrap over patients.

An AUROC is the share of pairs (a case with the finding, a case without) that are ranked rightly, over the
pairs that one model scored: both cases in the same fold, of all repeats together. Scores of different models
are never compared, so a fold without positives adds no pair and spoils nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ROUNDS = 500
BINS = 15


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Probabilities (R, B, F) of a model on cases left out, NaN where it has none; labels (B, F), -1 unknown;
    fold (R, B)."""

    probability: np.ndarray
    labels: np.ndarray
    fold: np.ndarray

    @property
    def there(self) -> np.ndarray:
        """(B,) bool: cases with a score."""
        return ~np.isnan(self.probability).all((0, 2))


def patient_weights(groups: np.ndarray, seed: int, rounds: int = ROUNDS) -> np.ndarray:
    """(1 + rounds, B): how often each case counts; the first row counts each once, the others draw the groups
    with replacement."""
    names, at = np.unique(groups, return_inverse=True)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=rounds)
    return np.concatenate([np.ones((1, len(groups))), drawn[:, at]]).astype(np.float32)


def auroc(scores: Scores, weights: np.ndarray) -> np.ndarray:
    """(W, F) AUROC under each row of weights (W, B), NaN where a finding has no pair."""
    out = np.full((len(weights), scores.labels.shape[1]), np.nan)
    for f in range(scores.labels.shape[1]):
        positive = np.flatnonzero(scores.labels[:, f] == 1)
        negative = np.flatnonzero(scores.labels[:, f] == 0)
        if not len(positive) or not len(negative):
            continue
        above = np.zeros((len(positive), len(negative)), np.float32)
        pairs = np.zeros_like(above)
        for p, fold in zip(scores.probability[:, :, f], scores.fold, strict=True):
            a, b = p[positive, None], p[None, negative]
            same = (fold[positive, None] == fold[None, negative]) & ~np.isnan(a) & ~np.isnan(b)
            pairs += same
            above += same * ((a > b) + 0.5 * (a == b))
        w_positive, w_negative = weights[:, positive], weights[:, negative]
        total = ((w_positive @ pairs) * w_negative).sum(1)
        right = ((w_positive @ above) * w_negative).sum(1)
        np.divide(right, total, out=out[:, f], where=total > 0)
    return out


def mean_of_known(values: np.ndarray, columns: list[int]) -> np.ndarray:
    """(W,) mean over the columns of values (W, F) that are known, NaN where none is."""
    chosen = values[:, columns]
    known = ~np.isnan(chosen)
    out = np.full(len(values), np.nan)
    np.divide(np.where(known, chosen, 0).sum(1), known.sum(1), out=out, where=known.any(1))
    return out


def brier(scores: Scores, weights: np.ndarray) -> np.ndarray:
    """(W,) mean squared distance of probability and label."""
    known = (scores.labels >= 0)[None] & ~np.isnan(scores.probability)
    gap = np.where(known, (np.nan_to_num(scores.probability) - scores.labels[None]) ** 2, 0)
    return _ratio(weights @ gap.sum((0, 2)), weights @ known.sum((0, 2)))


def calibration_error(scores: Scores, weights: np.ndarray) -> np.ndarray:
    """(W,) expected calibration error in 15 bins of equal width, all findings together."""
    known = (scores.labels >= 0)[None] & ~np.isnan(scores.probability)
    p = np.nan_to_num(scores.probability)
    which = np.minimum((p * BINS).astype(int), BINS - 1)
    off = np.where(known, p - scores.labels[None], 0)
    gap = np.zeros(len(weights))
    for b in range(BINS):
        inside = (which == b) & known
        gap += np.abs(weights @ np.where(inside, off, 0).sum((0, 2)))
    return _ratio(gap, weights @ known.sum((0, 2)))


def accuracy(scores: Scores, weights: np.ndarray, exclusive: list[int]) -> np.ndarray:
    """(W,) share of cases whose likeliest of the ``exclusive`` findings is the one that holds."""
    labels = scores.labels[:, exclusive]
    p = scores.probability[:, :, exclusive]
    known = (labels == 1).any(1)[None] & ~np.isnan(p).any(2)
    right = known & (np.nan_to_num(p).argmax(2) == labels.argmax(1)[None])
    return _ratio(weights @ right.sum(0), weights @ known.sum(0))


def _ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    out = np.full(len(top), np.nan)
    return np.divide(top, bottom, out=out, where=bottom > 0)


def summary(values: np.ndarray) -> tuple[float | None, list[float] | None]:
    """The first of values (W,), which counts each case once, and the 95 % interval of the others; None for
    what cannot be told, the interval where fewer than half of the draws had a value."""
    draws = values[1:][~np.isnan(values[1:])]
    mean = None if np.isnan(values[0]) else round(float(values[0]), 4)
    if mean is None or len(draws) * 2 < len(values) - 1:
        return mean, None
    low, high = np.percentile(draws, [2.5, 97.5])
    return mean, [round(float(low), 4), round(float(high), 4)]
