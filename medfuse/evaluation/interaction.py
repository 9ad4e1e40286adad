"""What two modalities say alike, what each says alone, and what only both say together, over a cohort, in
bits a finding.

Usable information (Xu et al. 2020, 2002.10689) of a subset of modalities about a finding is how many bits of
log-loss its calibrated probability saves against knowing the frequency alone; what saves nothing counts as
nothing. Two modalities a and b are split by minimum mutual information (Barrett 2015, 1411.2832): redundancy
min(I_a, I_b), what is left of each is its own, synergy is what both together have above the better one. It is
a statement about this model on this cohort, not about the sensors.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from jaxtyping import Float, Int, Num
from scipy.special import xlogy

from .results import Interaction

RESAMPLES = 300


def usable_bits(
    labels: Int[np.ndarray, "b f"],
    probability: Float[np.ndarray, "b f"],
    weight: Num[np.ndarray, " b"] | None = None,
) -> Float[np.ndarray, " f"]:
    """(F,) bits saved for each finding; labels (B, F) with -1 unknown, probability (B, F), weight (B,) how
    often a case counts."""
    known = (labels >= 0) * (1.0 if weight is None else weight[:, None])
    n = known.sum(0)
    y = np.maximum(labels, 0)
    base = (known * y).sum(0) / np.maximum(n, 1)
    p = np.clip(probability, 1e-6, 1 - 1e-6)
    unknown = -(xlogy(base, base) + xlogy(1 - base, 1 - base))
    left = -(known * (xlogy(y, p) + xlogy(1 - y, 1 - p))).sum(0) / np.maximum(n, 1)
    return np.maximum(unknown - left, 0.0) / np.log(2)


def split_bits(
    a: Float[np.ndarray, " f"], b: Float[np.ndarray, " f"], both: Float[np.ndarray, " f"]
) -> Float[np.ndarray, "4 f"]:
    """(4, F): redundancy, own of a, own of b, synergy. Where both together know less than the better one,
    synergy is negative."""
    shared = np.minimum(a, b)
    return np.stack([shared, a - shared, b - shared, both - np.maximum(a, b)])


def interactions(
    labels: np.ndarray,
    probability: dict[str, np.ndarray],
    there: dict[str, np.ndarray],
    findings: list[str],
    *,
    seed: int,
) -> dict[str, Interaction]:
    """{"US+CT": {"n", "redundancy", "own_US", "own_CT", "synergy": mean bits a finding, each with "ci95" by
    patient, "most_synergy"}}.

    probability: {"US": (B, F), "US+CT": …} for single modalities and pairs, over all cases; there: {"US":
        (B,) bool}.
    """
    out = {}
    rng = np.random.default_rng(seed)
    for a, b in combinations(there, 2):
        rows = np.flatnonzero(there[a] & there[b])
        pair = f"{a}+{b}"
        if not len(rows) or pair not in probability:
            continue
        y = labels[rows]
        p = [probability[k][rows] for k in (a, b, pair)]
        parts = split_bits(*(usable_bits(y, x) for x in p))
        draws = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), RESAMPLES)
        again = np.stack([split_bits(*(usable_bits(y, x, w) for x in p)).mean(1) for w in draws])
        low, high = np.quantile(again, [0.025, 0.975], axis=0)
        names = ("redundancy", f"own_{a}", f"own_{b}", "synergy")
        row: dict = {
            name: {"bits": round(float(m), 4), "ci95": [round(float(lo), 4), round(float(hi), 4)]}
            for name, m, lo, hi in zip(names, parts.mean(1), low, high, strict=True)
        }
        out[pair] = Interaction(n=len(rows), **row, most_synergy=findings[int(parts[3].argmax())])
    return out
