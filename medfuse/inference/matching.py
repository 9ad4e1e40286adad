"""Which lesions of two modalities are one and the same.

"same": the place agrees in one frame of reference, or through a registration in which no fault was found.
"probable": the place in the organ agrees, each modality measured from its own organ's centre (one patient's
organ is one organ, whatever the scanner's origin); or, where a place is not known (untracked ultrasound), it
is the only pair of compatible appearance and size. Everything else is unmatched. One lesion has at most one
partner a modality (assignment of least cost).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.optimize import linear_sum_assignment

from ..models.features import DenseOutput
from ..prediction import LesionMatch, LesionRecord
from ..preprocess.tensors import VolumeInput
from ..task import Task

SAME_MM = (
    12.0  # breathing moves the liver by about so much between two acquisitions of one frame of reference
)
NEAR_MM = 22.0  # and between two examinations, once their organs' centres lie on each other
SIZE = 2.2  # the larger diameter over the smaller, at most
LARGE = 0.25  # of the smaller diameter of a known mass: its centres in one frame of reference at most so far
OTHER_TYPE_MM = 8.0  # what a disagreement about the lesion's type costs, in mm of distance

# (frame of one, frame of the other) → (4, 4) RAS+ mm of the first to RAS+ mm of the second, of accepted
# registrations
Links = Mapping[tuple[str, str], np.ndarray]


@dataclass(frozen=True)
class Organ:
    """Where a modality shows the organ: its centre (3,) RAS+ mm in one frame of reference."""

    frame: str
    centre: np.ndarray


def organs_of(dense: list[DenseOutput], task: Task) -> dict[str, Organ]:
    """The organ's centre in each modality that shows enough of it; the largest field of view speaks."""
    found: dict[str, tuple[int, Organ]] = {}
    inside = task.organ_indices if task.organ else []
    for output in dense:
        source = output.source
        if not isinstance(source, VolumeInput) or not inside:
            continue
        at = np.argwhere(np.isin(output.label, inside))
        if len(at) < 200 or len(at) <= found.get(output.modality, (0,))[0]:
            continue
        centre = at.mean(0) @ source.affine[:3, :3].T + source.affine[:3, 3]
        found[output.modality] = len(at), Organ(source.frame_of_reference, centre)
    return {m: organ for m, (_, organ) in found.items()}


def placed_in_organs(lesions: list[LesionRecord], organs: Mapping[str, Organ]) -> list[LesionRecord]:
    """Lesions with their centre from that of their organ on the same modality, where both are known in one
    frame of reference."""
    out = []
    for x in lesions:
        organ = organs.get(x.modality)
        if organ is None or x.place.centre_mm is None or x.place.frame_of_reference != organ.frame:
            out.append(x)
            continue
        away = np.array(x.place.centre_mm) - organ.centre
        out.append(x.model_copy(update={"in_organ_mm": [round(float(v), 1) for v in away]}))
    return out


def match_lesions(
    lesions: list[LesionRecord], organs: Mapping[str, Organ], task: Task, links: Links | None = None
) -> list[LesionMatch]:
    """Pairs over every two modalities, sure ones first. Lesions that stand in no pair are unmatched."""
    by: dict[str, list[LesionRecord]] = {}
    for x in lesions:
        by.setdefault(x.modality, []).append(x)
    out: list[LesionMatch] = []
    for m, n in combinations(sorted(by), 2):
        placed = all(x.place.centre_mm is not None for x in (*by[m], *by[n]))
        out += (
            _by_place(by[m], by[n], organs, task, links or {})
            if placed
            else _by_appearance(by[m], by[n], task)
        )
    return sorted(out, key=lambda x: (x.certainty != "same", x.lesions))


def _by_place(
    ours: list[LesionRecord],
    theirs: list[LesionRecord],
    organs: Mapping[str, Organ],
    task: Task,
    links: Links,
) -> list[LesionMatch]:
    cost = np.full((len(ours), len(theirs)), 1e6)
    seen: dict[tuple[int, int], tuple[float, bool]] = {}
    for i, a in enumerate(ours):
        for j, b in enumerate(theirs):
            measured = _distance(a, b, organs, links)
            if measured is None or not _alike_in_size(a, b):
                continue
            distance, sure = measured
            if distance <= _reach(a, b, task) if sure else distance <= NEAR_MM:
                seen[i, j] = measured
                cost[i, j] = distance + (0.0 if _compatible(a, b, task) else OTHER_TYPE_MM)
    pairs = []
    for i, j in zip(*linear_sum_assignment(cost), strict=True):
        if (i, j) in seen:
            distance, sure = seen[i, j]
            pairs.append(
                LesionMatch(
                    lesions=[ours[i].id, theirs[j].id],
                    certainty="same" if sure else "probable",
                    distance_mm=round(distance, 1),
                    by="frame" if sure else "organ",
                )
            )
    return pairs


def _distance(
    a: LesionRecord, b: LesionRecord, organs: Mapping[str, Organ], links: Links
) -> tuple[float, bool] | None:
    """(mm between two lesions, whether their frames are one or linked); None where nothing relates them."""
    p = np.array(a.place.centre_mm)
    q = np.array(b.place.centre_mm)
    f = a.place.frame_of_reference
    g = b.place.frame_of_reference
    if f and f == g:
        return float(np.linalg.norm(p - q)), True
    for (one, other), m in links.items():
        if (one, other) == (f, g):
            return float(np.linalg.norm(m[:3, :3] @ p + m[:3, 3] - q)), True
        if (one, other) == (g, f):
            return float(np.linalg.norm(m[:3, :3] @ q + m[:3, 3] - p)), True
    home = organs.get(a.modality)
    away = organs.get(b.modality)
    if home is None or away is None or home.frame != f or away.frame != g:
        return None
    return float(np.linalg.norm((p - home.centre) - (q - away.centre))), False


def _by_appearance(ours: list[LesionRecord], theirs: list[LesionRecord], task: Task) -> list[LesionMatch]:
    """Without places only what cannot be mistaken: one lesion here fits one there, and no other fits
    either."""
    fits = np.array([[_compatible(a, b, task) and _alike_in_size(a, b) for b in theirs] for a in ours])
    return [
        LesionMatch(lesions=[ours[i].id, theirs[j].id], certainty="probable", by="appearance")
        for i, j in np.argwhere(fits)
        if fits[i].sum() == fits[:, j].sum() == 1
    ]


def _reach(a: LesionRecord, b: LesionRecord, task: Task) -> float:
    """How far apart in mm the centres of one lesion may lie in one frame: the centre of a large mass moves
    with its outline."""
    if not task.around or not a.long_axis_mm or not b.long_axis_mm:
        return SAME_MM
    return max(SAME_MM, LARGE * min(a.long_axis_mm, b.long_axis_mm))


def _alike_in_size(a: LesionRecord, b: LesionRecord) -> bool:
    """Nothing is said against where a size was not measured."""
    if not a.long_axis_mm or not b.long_axis_mm:
        return True
    return max(a.long_axis_mm, b.long_axis_mm) <= SIZE * min(a.long_axis_mm, b.long_axis_mm)


def _compatible(a: LesionRecord, b: LesionRecord, task: Task) -> bool:
    """The same finding, or one that holds whenever the other does."""
    if a.finding == b.finding:
        return True
    wider = {x.finding: {f.id for f in task.wider(x.finding)} for x in (a, b)}
    return a.finding in wider[b.finding] or b.finding in wider[a.finding]
