"""What a benchmark on real patients gives: metrics by subset, controls, and intervals by a bootstrap over
patients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from medfuse.training.budget import Budget

Row = dict[str, float | list[float] | None]  # metric: value, METRIC_ci95: [low, high], ci95: of the first
ROUNDS = 2000


@dataclass(frozen=True, kw_only=True)
class Results:
    """What `real.py --json` prints. rows: by subset of the senses; controls: by name, of the same metrics;
    seed; folds: 0 where a set of its own was tested."""

    set: str
    n_train: int
    n_test: int
    rows: dict[str, Row]
    controls: dict[str, Row]
    minutes: float
    seed: int = 0
    folds: int = 0
    notes: dict[str, object] = field(default_factory=dict)


class RealSet(Protocol):
    """What the module of a set has. ``train`` and ``test`` None: folds over all patients of the copy that
    MEDFUSE_SHARED has."""

    MINUTES: float  # of training, where none are given

    def run(self, train: Path | None, test: Path | None, budget: Budget, seed: int) -> Results:
        """Train on the one folder, test on the other."""
        ...


def interval(
    groups: np.ndarray, statistic: Callable[[np.ndarray], float], seed: int = 0, rounds: int = ROUNDS
) -> list[float] | None:
    """95 % of bootstrap samples of patients. groups: (N,) the patient of each row; statistic: of the numbers
    of rows. None where most samples have no value."""
    names, at = np.unique(groups, return_inverse=True)
    rows_of = [np.flatnonzero(at == n) for n in range(len(names))]
    rng = np.random.default_rng(seed)
    drawn = [
        statistic(np.concatenate([rows_of[n] for n in rng.integers(0, len(names), len(names))]))
        for _ in range(rounds)
    ]
    known = [d for d in drawn if not np.isnan(d)]
    if len(known) * 2 < rounds:
        return None
    return [round(float(x), 4) for x in np.percentile(known, [2.5, 97.5])]


def mean_row(metrics: dict[str, np.ndarray], groups: np.ndarray, seed: int = 0) -> Row:
    """Means of values (N,) that are known, each with its interval; ``ci95`` is that of the first metric."""
    row: Row = {}
    for name, values in metrics.items():
        known = ~np.isnan(values)
        row[name] = round(float(values[known].mean()), 4) if known.any() else None

        def mean(at: np.ndarray, of: np.ndarray = values) -> float:
            found = of[at][~np.isnan(of[at])]
            return float(found.mean()) if len(found) else float("nan")

        row[f"{name}_ci95"] = interval(groups, mean, seed) if known.any() else None
    return {"ci95": row[f"{next(iter(metrics))}_ci95"], **row} if metrics else row
