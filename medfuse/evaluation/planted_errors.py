"""Errors of ten kinds planted into the words of one case, and whether the checker lets them stand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ..case import Case
from ..claim import Claim
from ..drafting.check import check_sentence, checked_report
from ..drafting.compose import compose
from ..drafting.labeller import Lexicon, label
from ..drafting.sections import split_sentences
from ..drafting.templates import languages
from ..prediction import Prediction
from ..report import Report
from ..task import Task

KINDS = (
    *("presence", "certainty", "side", "size", "modality role", "invented prior", "invented finding"),
    *("contradiction", "wrong organ", "missing"),
)
HEADINGS = {"en": ("FINDINGS", "IMPRESSION"), "zh-TW": ("影像發現", "診斷意見")}


@dataclass
class Planted:
    """By kind: how many were caught, and how many were planted; and true sentences, those touched and all."""

    caught: dict[str, list[int]] = field(default_factory=lambda: {k: [0, 0] for k in KINDS})
    touched: int = 0
    true: int = 0

    def add(self, kind: str, *, caught: bool) -> None:
        """One planted error."""
        self.caught[kind][0] += caught
        self.caught[kind][1] += 1


@cache
def _words() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(
        (Path(__file__).parent / "planted.yaml").read_text(encoding="utf-8")
    )
    return loaded


def plant(into: Planted, prediction: Prediction, case: Case, task: Task, lexicon: Lexicon) -> None:
    """Plant every kind of error into the words of one case in each language, and check its true sentences."""
    for language in languages(task):
        if language not in _words():
            continue
        report = compose(prediction, case, task, language)
        for kind, text in _errors(report, prediction, task, language):
            verdict = check_sentence(text, prediction, task, lexicon)
            into.add(kind, caught=verdict.text != text)
        for text in _true(report):
            if any(label(text, lexicon).values()):
                into.true += 1
                into.touched += check_sentence(text, prediction, task, lexicon).action != "kept"
        _missing(into, report, prediction, case, task)


def _true(report: Report) -> Iterator[str]:
    for section_id in ("findings", "impression"):
        section = report.section(section_id)
        for x in section.sentences if section else []:
            if x.claims:
                yield from split_sentences(x.text)


def _errors(report: Report, prediction: Prediction, task: Task, language: str) -> Iterator[tuple[str, str]]:
    """(kind, sentence) of what the claims of a case do not support, at most one a finding and kind."""
    words = _words()[language]
    yield from (("invented finding", x) for x in words["elsewhere"])
    for claim in (c for c in report.claims if not c.lesions and c.certainty != "not_assessed"):
        name = task.finding(claim.finding).label(language)
        wider = [f for f in task.wider(claim.finding) if f.group == "focal"]
        yield "invented prior", words["prior"].format(name=name)
        if claim.certainty == "absent":
            yield "presence", words["affirm"].format(name=name)
        elif claim.certainty in ("possible", "unlikely"):
            yield "certainty", words["affirm"].format(name=name)
        if (claim.probability or 0.0) >= 0.4:
            yield "presence", words["deny"].format(name=name)
            if wider:
                yield "contradiction", words["deny"].format(name=wider[0].label(language))
            if task.finding(claim.finding).group == "focal":
                yield "wrong organ", words["organ"].format(name=name)
        yield from (("modality role", x) for x in _roles(claim, report, name, words, task))
        yield from _measures(claim, prediction, name, words, task)


def _roles(claim: Claim, report: Report, name: str, words: dict[str, Any], task: Task) -> Iterator[str]:
    """A modality named as showing what it does not, or as not showing what it does."""
    if claim.certainty not in ("certain", "likely"):
        return
    about = [claim, *(c for c in report.claims if c.lesions and _related(c.finding, claim.finding, task))]
    for modality, word in words["modalities"].items():
        roles = [w.role for c in about for w in c.witnesses if w.modality == modality]
        if roles and set(roles) <= {"does_not_show", "cannot_show", "not_acquired"}:
            yield words["role"].format(name=name, modality=word)
        elif roles and set(roles) == {"shows"}:
            yield words["not_role"].format(name=name, modality=word)


def _related(one: str, other: str, task: Task) -> bool:
    above = {f.id for f in task.wider(one)}
    below = {f.id for f in task.wider(other)}
    return one == other or other in above or one in below


def _measures(
    claim: Claim, prediction: Prediction, name: str, words: dict[str, Any], task: Task
) -> Iterator[tuple[str, str]]:
    """A size that nothing measured, and the side on which nothing lies."""
    lesions = [x for x in prediction.lesions if _related(x.finding, claim.finding, task)]
    if claim.certainty not in ("certain", "likely") or not lesions:
        return
    sizes = [x.long_axis_mm for x in lesions if x.long_axis_mm is not None]
    if sizes:
        yield "size", words["size"].format(name=name, mm=round(max(sizes) * 1.6 + 10))
    sides = {x.side for x in lesions} - {""}
    if len(sides) == 1:
        other = "left" if "right" in sides else "right"
        yield "side", words["side"].format(name=name, side=words["sides"][other])


def _missing(into: Planted, report: Report, prediction: Prediction, case: Case, task: Task) -> None:
    """All but what says the surest problem is written: the checker must add it."""
    impression = report.section("impression")
    findings = report.section("findings")
    if impression is None or findings is None or not impression.sentences[0].finding:
        return
    left_out = impression.sentences[0].finding
    names = {left_out, *task.finding(left_out).derived_from, *(f.id for f in task.wider(left_out))}
    parts = [
        " ".join(x.text for x in s.sentences if x.claims and x.finding not in names)
        for s in (findings, impression)
    ]
    titles = HEADINGS[report.language]
    words = "\n".join(f"{title}: {text}" for title, text in zip(titles, parts, strict=True))
    done = checked_report(words, prediction, case, task, report.language, writer="learned")
    said = done.said().get(left_out)
    into.add("missing", caught=said is not None and said.assertion in ("present", "possible"))
