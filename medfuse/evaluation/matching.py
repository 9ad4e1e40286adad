"""Were lesions of two modalities matched rightly? Scored where a manifest says where each true lesion lies in
each modality."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, product

import numpy as np

from ..inference.lesions import FoundLesion
from ..inference.matching import match_lesions, organs_of
from ..io.manifest import ManifestRow, TrueLesion
from ..models.features import DenseOutput
from ..prediction import LesionRecord
from ..task import Task
from .results import MatchRow

REACH_MM = 12.0  # breathing and the grid: a found lesion this near to a true one's surface is that one


@dataclass
class MatchScores:
    """possible: true lesions that both modalities found. said: pairs that were called one. right: those that
    are."""

    possible: int = 0
    said: int = 0
    right: int = 0

    def summary(self) -> MatchRow:
        """Precision and recall; None where there was nothing to be right about."""
        return MatchRow(
            precision=round(self.right / self.said, 4) if self.said else None,
            recall=round(self.right / self.possible, 4) if self.possible else None,
            pairs_said=self.said,
            pairs_possible=self.possible,
        )


def score_matches(
    scores: dict[str, MatchScores],
    found: list[FoundLesion],
    dense: list[DenseOutput],
    row: ManifestRow,
    task: Task,
) -> None:
    """Add one case, whose lesions ``found`` are; pairs of modalities of which the manifest knows no places
    are left out."""
    placed = [x.record for x in found if x.record.place.centre_mm is not None]
    own = {x.id: _true_number(x, row.lesions) for x in placed}
    said = [set(m.lesions) for m in match_lesions(placed, organs_of(dense, task), task)]
    modalities = sorted({m for lesion in row.lesions for m in lesion.centre_mm})
    for a, b in combinations(modalities, 2):
        into = scores.setdefault(f"{a}-{b}", MatchScores())
        first, second = ([x.id for x in placed if x.modality == m] for m in (a, b))
        into.possible += len({own[x] for x in first} & {own[y] for y in second} - {None})
        called_one = [(x, y) for x, y in product(first, second) if {x, y} in said]
        into.said += len(called_one)
        into.right += sum(own[x] is not None and own[x] == own[y] for x, y in called_one)


def _true_number(lesion: LesionRecord, true: list[TrueLesion]) -> int | None:
    """Which true lesion a found one is: the nearest in whose reach its centre lies."""
    centre = np.array(lesion.place.centre_mm)
    distance = {
        n: float(np.linalg.norm(centre - np.array(t.centre_mm[lesion.modality]))) - t.diameter_mm / 2
        for n, t in enumerate(true)
        if lesion.modality in t.centre_mm
    }
    nearest = min(distance, key=lambda n: distance[n], default=None)
    return nearest if nearest is not None and distance[nearest] <= REACH_MM else None
