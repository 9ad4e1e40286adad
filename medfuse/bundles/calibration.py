"""Temperature scaling and the expected calibration error (Guo et al. 2017, 1706.04599)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize_scalar
from scipy.special import betaincinv, expit

# bins of probability, and the fewest validation answers in one that are worth an interval
BINS = 10
ENOUGH = 20


def fit_temperature(labels: Int[np.ndarray, "b f"], logits: Float[np.ndarray, "b f"]) -> float:
    """The temperature that minimises the negative log-likelihood of labels (B, F), -1 meaning unknown; 1
    where all are."""
    known = labels >= 0
    if not known.any():
        return 1.0
    y = labels[known].astype(float)
    z = logits[known]

    def nll(log_t: float) -> float:
        s = z / np.exp(log_t)
        return float(np.mean(np.logaddexp(0, s) - y * s))

    return float(np.exp(minimize_scalar(nll, bounds=(-2.0, 2.0), method="bounded").x))


def expected_calibration_error(
    labels: Int[np.ndarray, "b f"], probability: Float[np.ndarray, "b f"], bins: int = 15
) -> float:
    """Mean gap between confidence and frequency over equal-width bins, all findings together."""
    known = labels >= 0
    y = labels[known]
    p = probability[known]
    which = np.minimum((p * bins).astype(int), bins - 1)
    gap = 0.0
    for b in range(bins):
        inside = which == b
        if inside.any():
            gap += inside.mean() * abs(p[inside].mean() - y[inside].mean())
    return float(gap)


def calibrated(
    logits: Float[np.ndarray, "*b f"], temperature: float, shift: Float[np.ndarray, " f"] | float = 0.0
) -> Float[np.ndarray, "*b f"]:
    """Logits (…, F) to probabilities; ``shift`` (F,) is added to the calibrated logits."""
    return expit(logits / temperature + shift)


def reliability(labels: Int[np.ndarray, "b f"], probability: Float[np.ndarray, "b f"]) -> list[list[int]]:
    """Answers and true ones among them in each of ten bins of probability, all findings together: what
    `interval` reads."""
    known = labels >= 0
    y = labels[known]
    which = np.minimum((probability[known] * BINS).astype(int), BINS - 1)
    return [[int((which == b).sum()), int(y[which == b].sum())] for b in range(BINS)]


def interval(probability: float, table: list[list[int]], confidence: float = 0.9) -> list[float] | None:
    """How often validation cases with about this probability came true: the exact binomial interval (Clopper
    & Pearson 1934)."""
    n, true = table[min(int(probability * BINS), BINS - 1)]
    if n < ENOUGH:
        return None
    tail = (1 - confidence) / 2
    low = betaincinv(true, n - true + 1, tail) if true else 0.0
    high = betaincinv(true + 1, n - true, 1 - tail) if true < n else 1.0
    return [round(float(low), 3), round(float(high), 3)]
