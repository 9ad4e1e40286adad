"""Reports of a case → labels by finding, each with the words that gave it.

The labeller's claims become values in [0, 1]. What no report mentions is unknown, never absent. A sentence of
comparison labels nothing. What an addendum says of a finding stands above the report's own words. Two reports
that say present and absent of one finding leave it unknown.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from ..drafting.labeller import Claim, Lexicon, sentence_claims
from ..drafting.sections import parse_sections, split_sentences
from ..io.manifest import LabelSource
from ..task import Task
from .history import Report
from .words import is_comparison

Possible = Literal["ignore", "half", "present"]
VALUES: dict[Possible, float | None] = {"ignore": None, "half": 0.5, "present": 1.0}
WEIGHT = {"absent": 0, "possible": 1, "present": 2}
SPOKEN = ("findings", "impression")


def training_text(report: Report) -> tuple[str, list[str]]:
    """The words that describe this examination, and the sentences of comparison that were kept out."""
    kept: list[str] = []
    tagged: list[str] = []
    for part in (report.text, *report.addenda):
        for section, words in parse_sections(part).items():
            if section == "comparison":
                tagged += split_sentences(words)
                continue
            if section not in SPOKEN:
                continue
            sentences = split_sentences(words)
            tagged += [s for s in sentences if is_comparison(s)]
            own = [s for s in sentences if not is_comparison(s)]
            if own:
                kept.append(f"{section.upper()}: {' '.join(own)}")
    return "\n".join(kept), tagged


def report_claims(report: Report, lexicon: Lexicon) -> dict[str, Claim]:
    """The strongest claim of each finding; of addenda, the last that speaks of it."""
    out: dict[str, Claim] = {}
    for part in (report.text, *report.addenda):
        said: dict[str, Claim] = {}
        for section, words in parse_sections(part).items():
            if section not in SPOKEN:
                continue
            for sentence in split_sentences(words):
                if is_comparison(sentence):
                    continue
                for claim in sentence_claims(sentence, lexicon):
                    before = said.get(claim.finding)
                    if before is None or WEIGHT[claim.said] > WEIGHT[before.said]:
                        said[claim.finding] = claim
        out |= said
    return out


def label_case(
    reports: Iterable[tuple[Report, frozenset[str]]],
    task: Task,
    lexicon: Lexicon | None,
    possible: Possible,
) -> tuple[dict[str, float | None], dict[str, LabelSource]]:
    """Labels and sources by finding. reports: each with the modalities of its studies; a report labels only
    what one of its modalities can show."""
    labels: dict[str, float | None] = {}
    sources: dict[str, LabelSource] = {}
    for report, modalities in reports:
        for source in _sources(report, lexicon, possible):
            finding = next((f for f in task.findings if f.id == source.finding), None)
            if finding is None or not modalities & set(finding.modalities):
                continue
            before = sources.get(source.finding)
            if before is not None and before.value != source.value:
                stronger = _decided(before, source)
                labels[source.finding], sources[source.finding] = stronger.value, stronger
                continue
            labels[source.finding], sources[source.finding] = source.value, source
    _follow(task, labels, sources)
    return labels, sources


def _follow(task: Task, labels: dict[str, float | None], sources: dict[str, LabelSource]) -> None:
    """What follows from the task: a wider finding holds where a narrower one does; where it is absent, so are
    the narrower ones that nothing was said of."""
    for finding in task.findings:
        parts = finding.derived_from
        present = next((p for p in parts if labels.get(p) == 1), None)
        if present is not None and labels.get(finding.id) != 1:
            labels[finding.id] = 1.0
            sources[finding.id] = sources[present].model_copy(update={"finding": finding.id})
        elif labels.get(finding.id) == 0:
            for part in parts:
                if part not in sources:
                    labels[part] = 0.0
                    sources[part] = sources[finding.id].model_copy(update={"finding": part})


def _decided(a: LabelSource, b: LabelSource) -> LabelSource:
    """Of two reports that differ: the one that is sure; where both are, neither."""
    known = [s for s in (a, b) if s.said != "possible"]
    if len(known) == 1:
        return known[0]
    words = f"{a.report}: {a.sentence} | {b.report}: {b.sentence}"
    return a.model_copy(update={"value": None, "said": "reports differ", "sentence": words})


def _sources(report: Report, lexicon: Lexicon | None, possible: Possible) -> list[LabelSource]:
    if report.row.labels:
        return [
            LabelSource(finding=f, value=v, said="table", sentence="", report=report.id)
            for f, v in report.row.labels.items()
        ]
    if lexicon is None:
        return []
    return [
        LabelSource(
            finding=c.finding,
            value={"absent": 0.0, "present": 1.0}.get(c.said, VALUES[possible]),
            said=c.said,
            sentence=c.sentence,
            report=report.id,
        )
        for c in report_claims(report, lexicon).values()
    ]
