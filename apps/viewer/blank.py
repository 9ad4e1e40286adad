"""A report by hand: every section is there to be written in, whether or not the model drafted it."""

from __future__ import annotations

from typing import get_args

from apps.viewer.words import LANGUAGES, names
from medfuse.report import Report, Section, SectionId

ORDER: tuple[SectionId, ...] = ("indication", "technique", "comparison", "findings", "impression", "notice")
assert set(ORDER) == set(get_args(SectionId))


def blank_report(case_id: str, language: str, *, simulated: bool) -> Report:
    """An empty report of a case that no model has drafted one for."""
    empty = Report(
        case_id=case_id,
        language=language if language in LANGUAGES else "en",
        simulated=simulated,
        in_domain=False,
        banner=[names("report", language)["research_banner"]],
        sections=[],
        bundle="",
        bundle_hash="",
    )
    return with_every_section(empty)


def with_every_section(report: Report) -> Report:
    """The report, and an empty section for each that it lacks (but a notice, which only a model gives)."""
    titles = names("report.titles", report.language if report.language in LANGUAGES else "")
    have = {s.id: s for s in report.sections}
    sections = [
        have.get(id_) or Section(id=id_, title=titles[id_], sentences=[])
        for id_ in ORDER
        if id_ in have or id_ != "notice"
    ]
    return report.model_copy(update={"sections": sections})


def without_empty_sections(report: Report) -> Report:
    """What is kept: a section that nobody wrote in is no part of the report."""
    return report.model_copy(update={"sections": [s for s in report.sections if s.sentences]})
