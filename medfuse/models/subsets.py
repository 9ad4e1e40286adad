"""All subsets of the modalities, in one order everywhere."""

from __future__ import annotations

from itertools import combinations

import torch
from jaxtyping import Bool
from torch import Tensor


def subsets(modalities: tuple[str, ...], *, empty: bool = False) -> list[tuple[str, ...]]:
    """The 2^M − 1 non-empty subsets (with the empty one first if asked), small ones first."""
    return [s for n in range(0 if empty else 1, len(modalities) + 1) for s in combinations(modalities, n)]


def name(subset: tuple[str, ...]) -> str:
    """CT+MR, or none."""
    return "+".join(subset) if subset else "none"


def use_only(
    subset: tuple[str, ...], modalities: tuple[str, ...], batch: int
) -> dict[str, Bool[Tensor, " b"]]:
    """(B,) bool by modality: True for those of the subset, as `FusionModel.forward` takes it."""
    return {m: torch.full((batch,), m in subset) for m in modalities}


def shapley(values: dict[frozenset, float], players: tuple[str, ...]) -> dict[str, float]:
    """Exact Shapley value of each player for a game given on all subsets (Shapley 1953)."""
    from math import factorial

    n = len(players)
    out = {}
    for p in players:
        rest = [q for q in players if q != p]
        total = 0.0
        for s in subsets(tuple(rest), empty=True):
            weight = factorial(len(s)) * factorial(n - len(s) - 1) / factorial(n)
            total += weight * (values[frozenset((*s, p))] - values[frozenset(s)])
        out[p] = total
    return out
