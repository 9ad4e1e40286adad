"""Sets of slices that lie between one another: what looks like several volumes and is one, or is none.

A label that changes from slice to slice (an echo time written as 2.30 and 2.31, a spacing rounded in half of
the files) would part one volume into combs, each with twice the true step and nothing to show it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LARGEST_GAP = 4.05  # steps: places farther apart are no comb of one volume
OFF_GRID = 0.1  # of the step: places farther off are those of another acquisition
BESIDE = 0.1  # of the step: repeats that were moved by less lie at one place


def combs(heights: Sequence[np.ndarray], within: float) -> tuple[int, int] | None:
    """Two sets of ``heights`` (N,) mm along one normal that share no place (within so many mm) and lie
    between one another on one even grid; None where there are none."""
    every = np.unique(np.concatenate([np.asarray(h, float) for h in heights])) if heights else np.zeros(0)
    places = every[np.concatenate([[True], np.diff(every) > within])] if len(every) else every
    if len(places) < 3 or not _on_a_grid(places):
        return None
    taken = [frozenset(np.abs(places[None] - h[:, None]).argmin(1).tolist()) for h in heights]
    if len(taken) > 2 and all(len(t) == 1 for t in taken) and len(set(taken)) == len(places):
        return 0, 1
    partial = [i for i, t in enumerate(taken) if 1 < len(t) < len(places)]
    for n, i in enumerate(partial):
        for j in partial[n + 1 :]:
            if not taken[i] & taken[j] and _between(taken[i], taken[j]):
                return i, j
    return None


def _between(a: frozenset[int], b: frozenset[int]) -> bool:
    return any(min(a) < k < max(a) for k in b) or any(min(b) < k < max(b) for k in a)


def _on_a_grid(places: np.ndarray) -> bool:
    """Whether heights, in order, are whole multiples of one step apart, and never many of them."""
    gaps = np.diff(places)
    ratios = gaps / gaps.min()
    return bool(ratios.max() <= LARGEST_GAP and np.abs(ratios - np.round(ratios)).max() <= OFF_GRID)


def moved_repeats(heights: np.ndarray, within: float) -> float:
    """How far apart (mm) the repeats of one place lie, where a series was acquired several times and moved a
    little between: heights (N,) fall into equal bunches far from one another. 0 where they do not."""
    ordered = np.sort(np.asarray(heights, float))
    gaps = np.sort(np.diff(ordered))
    if len(gaps) < 3 or gaps[-1] <= 0:
        return 0.0
    small = gaps <= BESIDE * float(np.median(gaps[gaps > 2 * BESIDE * gaps[-1]]))
    if small.all() or not small.any() or gaps[small].max() <= within:
        return 0.0
    bunches = np.split(ordered, np.flatnonzero(np.diff(ordered) > gaps[small].max()) + 1)
    sizes = {len(b) for b in bunches}
    wide = max(float(np.ptp(b)) for b in bunches)
    return wide if len(sizes) == 1 and sizes != {1} and wide < 2 * BESIDE * gaps[~small].min() else 0.0
