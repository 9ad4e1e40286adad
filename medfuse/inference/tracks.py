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
    for output in sorted(frames, key=lambda o: o.frame):
        here = [(output, n) for n in range(len(output.components))]
        going_on = [t for t in found if output.frame - t[-1][0].frame <= GAP + 1]
        taken = set()
        overlap = np.array([[_overlap(t[-1], x) for x in here] for t in going_on]).reshape(
            len(going_on), len(here)
        )
        for i, j in zip(*linear_sum_assignment(overlap, maximize=True), strict=True):
            if overlap[i, j] > 0:
                going_on[i].append(here[j])
                taken.add(j)
        found += [[x] for j, x in enumerate(here) if j not in taken]
    return found


def best_first(track: Track) -> Track:
    """A track's frames, the one where the network is surest of the whole component first; of equals the
    larger."""
    return sorted(track, key=_sureness, reverse=True)


def _sureness(seen: Seen) -> tuple[float, int]:
    output, n = seen
    mask, box = output.components[n]
    return round(float(output.lesion_probability[box][mask].mean()), 6), int(mask.sum())


def _overlap(before: Seen, after: Seen) -> float:
    """Dice of two components, each grown by MOVED pixels, on the grid of their frames."""
    a, b = (_grown(*x) for x in (before, after))
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


def _grown(output: DenseOutput, n: int) -> np.ndarray:
    mask, box = output.components[n]
    whole = np.zeros(output.lesion_probability.shape, bool)
    whole[box] = mask
    return ndimage.binary_dilation(whole, iterations=MOVED)
