"""What an earlier case of the same patient measured, for the comparison section."""

from __future__ import annotations

from dataclasses import dataclass

from ..prediction import LesionRecord, Prediction


@dataclass(frozen=True)
class Prior:
    """An earlier case: its prediction, and the date of each of its modalities (YYYYMMDD)."""

    prediction: Prediction
    dates: dict[str, str]


@dataclass(frozen=True)
class Pair:
    """A lesion now and the one that may be the same then: same modality, same or wider finding, same side,
    nearest in size."""

    now: LesionRecord
    then: LesionRecord
    date: str


def compare(prediction: Prediction, prior: Prior) -> list[Pair]:
    """Measured lesions with a plausible partner, each partner once. Positions are not compared: the scanner's
    origin moved."""
    left = [x for x in prior.prediction.lesions if x.long_axis_mm is not None]
    pairs = []
    for lesion in sorted(prediction.lesions, key=lambda x: -(x.long_axis_mm or 0.0)):
        if lesion.long_axis_mm is None:
            continue
        size = lesion.long_axis_mm
        there = [
            x
            for x in left
            if (x.modality, x.finding, x.side) == (lesion.modality, lesion.finding, lesion.side)
        ]
        if there:
            then = min(there, key=lambda x: abs((x.long_axis_mm or 0.0) - size))
            left.remove(then)
            pairs.append(Pair(lesion, then, prior.dates.get(lesion.modality, "")))
    return pairs
