"""Sentences on LI-RADS beside those of lesions: the visualisation score, or why no category applies."""

from __future__ import annotations

from ..modalities import is_cine
from ..report import Sentence
from .lesions import possible_lesions
from .lirads import Category, applies, visualisation
from .telling import Telling

UNASKED = ("no_risk", "none_known")  # reasons for which nobody asks for a category


def categories(t: Telling) -> list[Sentence]:
    """The visualisation score of ultrasound, and why lesions of CT and MR have no category; nothing where the
    task has no such rule."""
    if "lirads" not in t.task.rules:
        return []
    rows = []
    barred: dict[str, list[str]] = {}
    lesions = possible_lesions(t.prediction, t.task)
    for modality, state in t.prediction.modalities.items():
        if state not in ("present", "limited"):
            continue
        if is_cine(modality):
            rows += _score(modality, t)
            continue
        rule = applies(t.prediction, t.case, t.task, modality)
        if rule.reason in UNASKED:
            continue  # see `unasked`
        if not rule.category and any(x.modality == modality for x in lesions):
            barred.setdefault(_reason(rule, t), []).append(modality)
    return rows + [_not_applicable(reason, named, t) for reason, named in barred.items()]


def unasked(t: Telling) -> list[str]:
    """That no category was asked for, where no risk is documented or none is known: for the footer."""
    lesions = {x.modality for x in possible_lesions(t.prediction, t.task) if not is_cine(x.modality)}
    if "lirads" not in t.task.rules or not lesions:
        return []
    rules = {m: applies(t.prediction, t.case, t.task, m) for m in t.prediction.modalities if m in lesions}
    named: dict[str, list[str]] = {}
    for m, rule in rules.items():
        if rule.reason in UNASKED:
            named.setdefault(rule.reason, []).append(m)
    return [_not_applicable(t.s.get(f"lirads.{why}"), found, t).text for why, found in named.items()]


def _score(modality: str, t: Telling) -> list[Sentence]:
    found = visualisation(t.prediction, t.case)
    if not found.category:
        return []
    return [Sentence(text=t.s.render("lirads.us", category=found.category), modality=[modality])]


def _reason(rule: Category, t: Telling) -> str:
    detail = [t.s.role(r) for r in rule.detail.split()] if rule.reason == "phases" else [rule.detail]
    return t.s.render(f"lirads.{rule.reason}", detail=detail)


def _not_applicable(reason: str, modalities: list[str], t: Telling) -> Sentence:
    words = t.s.joined([t.s.modality(m) for m in modalities])
    text = t.s.render("lirads.not_applicable", modality=words, reason=reason)
    return Sentence(text=text, modality=modalities)
