"""What earlier cases of the same patient show, for the comparison: which lesion is which by its place in the
organ, and what of them was never read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..prediction import LesionRecord, Prediction
from ..task import Task

NEAR_MM = 22.0  # between two examinations, once the centres of their organs lie on each other
SIZE = 3.0  # the larger diameter over the smaller, at most
NEVER = 1e6  # mm
OTHER_TYPE_MM = 8.0  # what another name of the lesion costs, in mm of distance
PROVEN_MM, PROVEN = 5.0, 0.20  # a change of the long axis of at least so much, and of such a share
Trend = Literal["larger", "smaller", "stable"]


@dataclass(frozen=True, kw_only=True)
class Prior:
    """An earlier case.

    dates: of each of its modalities, YYYYMMDD. prediction: None where no model read its images. now: it was
    read for this comparison alone. signed: the impression of its signed report. measured: a line for each
    measurement that readers drew on it. before: cases older than this one, the newest first.
    """

    dates: dict[str, str]
    prediction: Prediction | None = None
    now: bool = False
    signed: str = ""
    measured: tuple[str, ...] = ()
    before: tuple[Prior, ...] = ()

    @property
    def chain(self) -> tuple[Prior, ...]:
        """This one and those before it, the newest first."""
        return self, *self.before

    @property
    def read(self) -> list[Prior]:
        """Those whose images a model read inside its domain: only these can be compared with."""
        return [p for p in self.chain if p.prediction is not None and p.prediction.in_domain]


def compared(prior: Prior | None) -> Prior | None:
    """The newest earlier case that was measured; None where nothing may be said of change."""
    return next(iter(prior.read), None) if prior is not None else None


@dataclass(frozen=True)
class Pair:
    """A lesion now and the one it is taken for then. ``placed``: by its place in the organ; else nothing but
    finding, side and size speak for it."""

    now: LesionRecord
    then: LesionRecord
    date: str
    placed: bool

    @property
    def change_mm(self) -> float:
        """How much longer the long axis is now."""
        return (self.now.long_axis_mm or 0.0) - (self.then.long_axis_mm or 0.0)

    @property
    def share(self) -> float:
        """The change over the length then."""
        return self.change_mm / (self.then.long_axis_mm or 1.0)

    @property
    def trend(self) -> Trend:
        """Larger or smaller only where the change is beyond what two measurements of one thing differ by."""
        if abs(self.change_mm) < PROVEN_MM or abs(self.share) < PROVEN:
            return "stable"
        return "larger" if self.change_mm > 0 else "smaller"


def compare(prediction: Prediction, prior: Prior, task: Task) -> list[Pair]:
    """Measured lesions with their partner in an earlier case that was read, the largest first: of the same
    modality and at the same place in the organ, each measured from the organ's own centre, for the scanner's
    origin moved. Where a place is not known (untracked ultrasound), the nearest in size of the same finding
    and side."""
    then = prior.prediction
    assert then is not None
    pairs: list[Pair] = []
    for modality in dict.fromkeys(x.modality for x in prediction.lesions):
        ours = _measured(prediction, modality)
        theirs = _measured(then, modality)
        date = prior.dates.get(modality, "")
        if all(x.in_organ_mm is not None for x in (*ours, *theirs)):
            pairs += [Pair(a, b, date, True) for a, b in _by_place(ours, theirs, task)]
        else:
            pairs += [Pair(a, b, date, False) for a, b in _by_size(ours, theirs)]
    return sorted(pairs, key=lambda p: (-(p.now.long_axis_mm or 0.0), p.now.id))


def unmatched(prediction: Prediction, prior: Prior, pairs: Sequence[Pair]) -> tuple[int, int]:
    """How many lesions whose place is known have no partner: now, and then."""
    assert prior.prediction is not None
    both = {x.modality for x in prediction.lesions} | {x.modality for x in prior.prediction.lesions}
    both &= {m for m in prior.dates if prediction.modalities.get(m) in ("present", "limited")}
    known = {p.now.id for p in pairs}, {p.then.id for p in pairs}
    now, then = (
        sum(x.modality in both and x.in_organ_mm is not None and x.id not in told for x in p.lesions)
        for p, told in zip((prediction, prior.prediction), known, strict=True)
    )
    return now, then


def _measured(prediction: Prediction, modality: str) -> list[LesionRecord]:
    return [x for x in prediction.lesions if x.modality == modality and x.long_axis_mm is not None]


def _by_place(
    ours: list[LesionRecord], theirs: list[LesionRecord], task: Task
) -> Iterator[tuple[LesionRecord, LesionRecord]]:
    """The assignment of least distance; each has at most one partner."""
    from scipy.optimize import linear_sum_assignment  # slow to load, and few cases have a prior

    cost = np.array([[_apart(a, b, task) for b in theirs] for a in ours]).reshape(len(ours), len(theirs))
    for i, j in zip(*linear_sum_assignment(cost), strict=True):
        if cost[i, j] < NEVER:
            yield ours[i], theirs[j]


def _apart(a: LesionRecord, b: LesionRecord, task: Task) -> float:
    """What it costs to take two lesions for one, in mm."""
    distance = float(np.linalg.norm(np.subtract(a.in_organ_mm or [], b.in_organ_mm or [])))
    small, large = sorted((a.long_axis_mm or 0.0, b.long_axis_mm or 0.0))
    if distance > NEAR_MM or large > SIZE * small:
        return NEVER
    return distance + (0.0 if _alike(a, b, task) else OTHER_TYPE_MM)


def _alike(a: LesionRecord, b: LesionRecord, task: Task) -> bool:
    """Whether two lesions have one name, or one of them a wider one."""
    wider = {x.finding: {x.finding, *(f.id for f in task.wider(x.finding))} for x in (a, b)}
    return a.finding in wider[b.finding] or b.finding in wider[a.finding]


def _by_size(
    ours: list[LesionRecord], theirs: list[LesionRecord]
) -> Iterator[tuple[LesionRecord, LesionRecord]]:
    left = list(theirs)
    for lesion in sorted(ours, key=lambda x: -(x.long_axis_mm or 0.0)):
        there = [x for x in left if (x.finding, x.side) == (lesion.finding, lesion.side)]
        if there:
            size = lesion.long_axis_mm or 0.0
            then = min(there, key=lambda x: abs((x.long_axis_mm or 0.0) - size))
            left.remove(then)
            yield lesion, then
