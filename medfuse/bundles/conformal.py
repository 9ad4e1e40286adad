"""Sets of answers that hold the true one with a stated probability (split conformal, Angelopoulos & Bates
2107.07511).

For each finding and presence pattern the set is {present}, {absent}, both ("cannot tell from these images")
or, where even the likelier answer is stranger than what validation saw, none.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

COVERAGE = 0.9


def fit_quantiles(
    labels: Int[np.ndarray, "b f"], probability: Float[np.ndarray, "b f"], coverage: float = COVERAGE
) -> Float[np.ndarray, " f"]:
    """(F,) threshold on 1 − p(answer) for each finding; labels (B, F) with -1 for unknown, probability (B,
    F)."""
    out = np.ones(labels.shape[1])
    for f in range(labels.shape[1]):
        known = labels[:, f] >= 0
        n = int(known.sum())
        if n < 10:  # too few to promise anything: every answer stays possible
            continue
        p = probability[known, f]
        y = labels[known, f]
        score = np.where(y == 1, 1 - p, p)
        level = np.ceil((n + 1) * coverage) / n
        out[f] = np.quantile(score, min(1.0, level), method="higher")
    return out


def answer_sets(
    probability: Float[np.ndarray, "b f"], quantiles: Float[np.ndarray, " f"]
) -> Bool[np.ndarray, "b f 2"]:
    """(B, F, 2) bool: whether absent, present belong to the set."""
    absent = np.asarray(probability <= quantiles)
    present = np.asarray(1 - probability <= quantiles)
    return np.stack([absent, present], -1)


def coverage_of(
    labels: Int[np.ndarray, "b f"], probability: Float[np.ndarray, "b f"], quantiles: Float[np.ndarray, " f"]
) -> dict[str, float]:
    """Share of known labels that their set holds, and share of sets that hold both answers."""
    sets = answer_sets(probability, quantiles)
    known = labels >= 0
    held = np.take_along_axis(sets, np.maximum(labels, 0)[..., None], -1)[..., 0]
    return {
        "coverage90": round(float(held[known].mean()), 4),
        "cannot_tell": round(float(np.asarray(sets.all(-1))[known].mean()), 4),
    }
