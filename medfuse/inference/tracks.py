"""Lesions through a cine: what one frame shows and the next one shows again is one lesion, seen best in one
frame."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from ..models.features import DenseOutput

Seen = tuple[DenseOutput, int]  # a frame, and which of its components
Track = list[Seen]  # a lesion through a clip

GAP = 2  # frames of the network in which a lesion may be lost
MOVED = 2  # network pixels that a lesion's edge moves between two frames


def tracks(frames: list[DenseOutput]) -> list[Track]:
    """Components of a clip's frames joined over time: each goes on in the component that overlaps it most,
    one to one, and may be lost for GAP frames."""
    found: list[Track] = []
    ends: list[np.ndarray] = []  # of each track, its last component, grown
    for output in sorted(frames, key=lambda o: o.frame):
        here = [_grown(output, n) for n in range(len(output.components))]
        going_on = [k for k, t in enumerate(found) if output.frame - t[-1][0].frame <= GAP + 1]
        taken = set()
        if here and going_on:
            overlap = _dice(np.stack([ends[k] for k in going_on]), np.stack(here))
            for i, j in zip(*linear_sum_assignment(overlap, maximize=True), strict=True):
                if overlap[i, j] > 0:
                    found[going_on[i]].append((output, int(j)))
                    ends[going_on[i]] = here[j]
                    taken.add(j)
        new = [j for j in range(len(here)) if j not in taken]
        found += [[(output, j)] for j in new]
        ends += [here[j] for j in new]
    return found


def best_first(track: Track) -> Track:
    """A track's frames, the one where the network is surest of the whole component first; of equals the
    larger."""
    return sorted(track, key=_sureness, reverse=True)


def _sureness(seen: Seen) -> tuple[float, int]:
    output, n = seen
    mask, box = output.components[n]
    return round(float(output.lesion_probability[box][mask].mean()), 6), int(mask.sum())


def _dice(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """(N, M): Dice of each of N masks (N, H, W) with each of M on the same grid."""
    a, b = (masks.reshape(len(masks), -1).astype(np.float32) for masks in (before, after))
    return 2 * (a @ b.T).astype(float) / (a.sum(1)[:, None] + b.sum(1)[None]).astype(float)


def _grown(output: DenseOutput, n: int) -> np.ndarray:
    """(H, W) bool: a component on the grid of its frame, grown by MOVED pixels."""
    mask, box = output.components[n]
    whole = np.zeros(output.lesion_probability.shape, bool)
    whole[box] = mask
    return ndimage.binary_dilation(whole, iterations=MOVED)
