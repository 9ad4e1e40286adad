"""Sentences on lesions that two modalities show: one lesion, or probably one."""

from __future__ import annotations

from ..prediction import LesionRecord, Prediction
from ..report import Sentence
from .templates import Sentences


def matched(prediction: Prediction, s: Sentences, drafted: set[str]) -> list[Sentence]:
    """One sentence a pair of which both lesions are drafted; none where a task's templates have no words for it."""
    if "match" not in s.data:
        return []
    by = {x.id: x for x in prediction.lesions}
    rows = []
    for match in prediction.matches:
        if not set(match.lesions) <= drafted:
            continue
        a, b = (by[i] for i in match.lesions)
        text = s.render(
            f"match.{match.certainty}", first=_where(a, prediction, s), second=_where(b, prediction, s),
            reason=s.render(f"match.{match.by}", mm=match.distance_mm),
        )  # fmt: skip
        rows.append(
            Sentence(text=text, modality=[a.modality, b.modality], evidence=[a.place, b.place], assertion="notice")
        )
    return rows


def _where(lesion: LesionRecord, prediction: Prediction, s: Sentences) -> str:
    if lesion.place.frame is not None:
        place = s.render("place_frame", n=lesion.place.frame + 1)
    else:
        series = s.role(prediction.images[lesion.place.image].role)
        place = s.render("place_slice", series=series, n=(lesion.place.slice or 0) + 1)
    return s.render("match.where", modality=s.modality(lesion.modality), place=place)
