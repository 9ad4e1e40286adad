"""Sentences on how far the sensors agree on one mass."""

from __future__ import annotations

from itertools import combinations

from ..prediction import LesionRecord, Prediction, Together
from ..report import Sentence
from .templates import Sentences

AGREE_MM = 10.0  # long axes of one mass in two modalities differ by so much at most,
AGREE = 0.15  # or by this share of the longer one, where the sensors are said to agree


def agreement(prediction: Prediction, s: Sentences, lesions: list[LesionRecord]) -> list[Sentence]:
    """Of a mass that every volume was cut out around: whether its long axis agrees between the modalities,
    which of them outline another place, which outline nothing, and which were not used."""
    if not lesions:
        return _unused(prediction, s)
    together = [_together(joint, s) for joint in prediction.together]
    apart = _apart(prediction, s, lesions)
    silent = [*_missing(prediction, s, lesions), *_unused(prediction, s)]
    return [*_of_sizes(s, lesions), *together, *apart, *silent]


def _of_sizes(s: Sentences, lesions: list[LesionRecord]) -> list[Sentence]:
    sized = [x for x in lesions if x.long_axis_mm is not None]
    if len(sized) < 2:
        return []
    long = [x.long_axis_mm or 0.0 for x in sized]
    spread = max(long) - min(long)
    text = s.render(
        "agreement.same" if spread <= max(AGREE_MM, AGREE * max(long)) else "agreement.differ",
        sizes=[f"{s.modality(x.modality)} {round(x.long_axis_mm or 0)}" for x in sized],
        spread=spread,
    )
    return [_agreement(text, sized)]


def _apart(prediction: Prediction, s: Sentences, lesions: list[LesionRecord]) -> list[Sentence]:
    """One sentence for each two outlines of different modalities that are not one lesion."""
    pairs = {frozenset(m.lesions) for m in prediction.matches}
    return [
        _agreement(
            s.render("agreement.apart", first=s.modality(a.modality), second=s.modality(b.modality)), [a, b]
        )
        for a, b in combinations(lesions, 2)
        if a.modality != b.modality and {a.id, b.id} not in pairs
    ]


def _missing(prediction: Prediction, s: Sentences, lesions: list[LesionRecord]) -> list[Sentence]:
    """One sentence for each modality that was read and outlines nothing."""
    shown = {x.modality for x in lesions}
    silent = dict.fromkeys(i.modality for i in prediction.images if i.in_domain and i.modality not in shown)
    return [
        Sentence(text=s.render("agreement.missing", modality=s.modality(m)), modality=[m], assertion="notice")
        for m in silent
    ]


def _unused(prediction: Prediction, s: Sentences) -> list[Sentence]:
    """One sentence for each modality all of whose images lie outside the validated domain, and why."""
    used = {i.modality for i in prediction.images if i.in_domain}
    why = {i.modality: i.code for i in reversed(prediction.images) if i.modality not in used}
    return [
        Sentence(
            text=s.render("agreement.unused", modality=s.modality(m), reason=s.get(f"outside.{code}")),
            modality=[m],
            assertion="notice",
        )
        for m, code in sorted(why.items())
    ]


def _together(joint: Together, s: Sentences) -> Sentence:
    """What the sensors outline together."""
    lesion = joint.lesion
    text = s.render(
        "agreement.together",
        modalities=[s.modality(m) for m in joint.modalities],
        long=lesion.long_axis_mm or 0,
        short=lesion.short_axis_mm or 0,
        ml=lesion.volume_ml or 0,
    )
    return Sentence(text=text, modality=joint.modalities, evidence=[lesion.place], assertion="notice")


def _agreement(text: str, lesions: list[LesionRecord]) -> Sentence:
    return Sentence(
        text=text,
        modality=[x.modality for x in lesions],
        evidence=[x.place for x in lesions],
        assertion="notice",
    )
