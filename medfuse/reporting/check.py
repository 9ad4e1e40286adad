"""The checker: no written sentence stays that the findings do not support.

Each sentence of a learned or local writer is read by the labeller and compared with the calibrated findings: presence and negation,
side, size, whether the acquisition can answer it at all, and words of change without a prior. It is kept, mended (a side or size
becomes the measured one), hedged (replaced by the composer's own sentence, with its probability), or dropped; what the findings
support and nobody wrote is added. What was done, and why, is in the report's provenance.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..case import Case
from ..prediction import FindingRecord, LesionRecord, Prediction
from ..report import Check, Report, Section, Sentence
from ..task import Task
from .compose import DENIED, LIKELY, POSSIBLE, compose, finding_sentence, notices, scope
from .labeller import SIZE, Claim, Lexicon, sentence_claims, size_in_mm, task_lexicon
from .priors import Prior
from .sections import parse_sections, split_sentences
from .templates import Sentences, sentences

CHANGE = re.compile(
    r"\b(new|newly|stable|unchanged|increased|decreased|larger|smaller|enlarging|progress\w*|regress\w*|interval|previous\w*|"
    r"again|prior)\b|穩定|增大|縮小|新出現|較前|先前|進展",
    re.IGNORECASE,
)
SIZE_TOLERANCE = 0.25  # a written size this close to the measured one stays
_SIDES = {"right": ("right", "右"), "left": ("left", "左")}


@dataclass
class Verdict:
    """text "" means dropped; ``claims`` are those of the text that stays."""

    text: str
    action: str
    why: str
    claims: list[Claim]


def unsupported(claim: Claim, record: FindingRecord, *, complete: bool) -> str:
    """Why a claim may not stand; "" where it may. ``complete``: some volume covers the whole organ."""
    p = record.probability
    if p is None or not record.assessed:
        return f"{claim.finding} is not assessed by what was acquired"
    if claim.said == "present" and p < POSSIBLE:
        return f"{claim.finding} has probability {p:.2f}"
    if claim.said == "possible" and p < DENIED:
        return f"{claim.finding} has probability {p:.2f}"
    if claim.said == "absent" and p >= POSSIBLE:
        return f"{claim.finding} is denied, its probability is {p:.2f}"
    if claim.said == "absent" and record.group == "focal" and not complete:
        return "absence of a focal lesion needs complete coverage"
    return ""


def check_sentence(text: str, prediction: Prediction, task: Task, lexicon: Lexicon, *, has_prior: bool) -> Verdict:
    """What becomes of one written sentence."""
    known = {f.id for f in task.findings}
    found = [c for c in sentence_claims(text, lexicon) if c.finding in known]
    if not found:
        return Verdict("", "dropped", "it says nothing about a finding of the task", [])
    if not has_prior and CHANGE.search(text):
        return Verdict("", "dropped", "it speaks of change, and no prior is available", [])
    complete = any(state == "present" and m != "US" for m, state in prediction.modalities.items())
    # a narrow claim carries the wider ones: "simple cyst" also names a focal lesion
    told = [c for c in found if not any(c.finding in _wider(o.finding, task) for o in found if o is not c)]
    for claim in told:
        why = unsupported(claim, prediction.finding(claim.finding), complete=complete)
        if why:
            p = prediction.finding(claim.finding).probability or 0.0
            soft = claim.said == "present" and p >= DENIED and prediction.finding(claim.finding).assessed
            return Verdict("", "hedged" if soft else "dropped", why, told)
    return _place_and_size(text, told, prediction, task)


def _wider(finding_id: str, task: Task) -> set[str]:
    return {f.id for f in task.wider(finding_id)}


def _lesions_of(claim: Claim, prediction: Prediction, task: Task) -> list[LesionRecord]:
    """Lesions that may be the one a claim speaks of: of that finding, or of one wider or narrower."""
    names = {claim.finding, *task.finding(claim.finding).derived_from, *_wider(claim.finding, task)}
    mine = [x for x in prediction.lesions if x.finding in names]
    return sorted(mine, key=lambda x: (x.finding != claim.finding, -x.probability))


def _place_and_size(text: str, told: list[Claim], prediction: Prediction, task: Task) -> Verdict:
    """Side and size against the lesion masks; without a measured lesion neither may be stated."""
    done: list[str] = []
    for claim in told:
        if claim.said == "absent" or prediction.finding(claim.finding).group != "focal":
            continue
        lesions = _lesions_of(claim, prediction, task)
        sides = {x.side for x in lesions} - {""}
        if claim.side and not sides:
            return Verdict("", "hedged", f"the side of {claim.finding} is not measured", told)
        if claim.side and claim.side not in sides:
            (other,) = sides
            text, done = _swap_side(text, claim.side, other), [*done, f"side {claim.side} → {other}, as measured"]
        here = [x for x in lesions if x.side in ("", claim.side or x.side) or claim.side not in sides]
        sizes = [x.long_axis_mm for x in here if x.long_axis_mm is not None]
        if claim.size_mm is not None and not sizes:
            return Verdict("", "hedged", f"the size of {claim.finding} is not measured", told)
        if claim.size_mm is not None:
            near = min(sizes, key=lambda v: abs(v - (claim.size_mm or 0.0)))
            if abs(near - claim.size_mm) > SIZE_TOLERANCE * near:
                text, done = _set_size(text, near), [*done, f"size {claim.size_mm:.0f} → {near:.0f} mm, as measured"]
    return Verdict(text, "mended" if done else "kept", "; ".join(done) or "supported by the findings", told)


def _swap_side(text: str, wrong: str, right: str) -> str:
    for old, new in zip(_SIDES[wrong], _SIDES[right], strict=True):
        text = text.replace(old, new).replace(old.capitalize(), new.capitalize())
    return text


def _set_size(text: str, mm: float) -> str:
    """Put the measured long axis in place of the largest stated size."""
    stated = max(SIZE.finditer(text), key=size_in_mm)
    return f"{text[: stated.start()]}{mm:.0f} mm{text[stated.end() :]}"


def checked_report(
    written: str, prediction: Prediction, case: Case, task: Task, language: str, *, writer: str, prior: Prior | None = None
) -> Report:  # fmt: skip
    """A report of ``written`` words, checked sentence by sentence, in the frame of the composer's (banner, technique, comparison).

    Without a lexicon, or outside the validated domain, nothing can be checked: the composer's own report is given.
    """
    report = compose(prediction, case, task, language, prior=prior)
    lexicon = task_lexicon(task)
    if not prediction.in_domain or lexicon is None:
        why = (
            "outside the validated domain"
            if not prediction.in_domain
            else "the task has no lexicon to check words with"
        )
        report.provenance = [Check(written="", action="dropped", why=f"nothing was written: {why}")]
        return report
    s = sentences(task, language)
    report.writer = writer  # type: ignore[assignment]
    parts = parse_sections(written)
    told: set[str] = set()
    for section_id in ("findings", "impression"):
        section = report.section(section_id)
        assert section is not None
        rows, provenance, mentioned = _section(
            parts.get(section_id, ""), section_id, prediction, task, lexicon, s, has_prior=prior is not None
        )
        told |= mentioned
        _complete(section, rows, provenance, prediction, task, s, mentioned, section_id)
        report.provenance += provenance
    return report


def _section(
    text: str, section_id: str, prediction: Prediction, task: Task, lexicon: Lexicon, s: Sentences, *, has_prior: bool
) -> tuple[list[Sentence], list[Check], set[str]]:  # fmt: skip
    rows: list[Sentence] = []
    provenance: list[Check] = []
    mentioned: set[str] = set()
    for written in dict.fromkeys(split_sentences(text)):  # a sentence said twice is said once
        verdict = check_sentence(written, prediction, task, lexicon, has_prior=has_prior)
        provenance.append(Check(written=written, action=verdict.action, why=verdict.why, section=section_id))  # type: ignore[arg-type]
        if verdict.action == "hedged":
            for claim in verdict.claims:
                record = prediction.finding(claim.finding)
                p = record.probability or 0.0
                if claim.finding not in mentioned and record.assessed and p >= DENIED:
                    rows.append(finding_sentence(record, task.finding(record.id), s))
                    mentioned.add(claim.finding)
        elif verdict.text:
            rows.append(_sentence(verdict, prediction, task))
            for claim in verdict.claims:
                mentioned |= {claim.finding, *_wider(claim.finding, task)}
    return rows, provenance, mentioned


def _sentence(verdict: Verdict, prediction: Prediction, task: Task) -> Sentence:
    claim = verdict.claims[0]
    record = prediction.finding(claim.finding)
    lesions = _lesions_of(claim, prediction, task) if record.group == "focal" and claim.said != "absent" else []
    if claim.side:
        lesions = [x for x in lesions if x.side == claim.side] or lesions
    evidence = [x.place for x in lesions[:3]] or (record.evidence if claim.said != "absent" else [])
    p = record.probability or 0.0
    assertion = claim.said if claim.said != "present" or p >= LIKELY else "possible"
    return Sentence(text=verdict.text, finding=claim.finding, probability=p, modality=record.assessed_by, evidence=evidence,
                    assertion=assertion)  # fmt: skip


def _complete(
    section: Section, rows: list[Sentence], provenance: list[Check], prediction: Prediction, task: Task, s: Sentences,
    mentioned: set[str], section_id: str,
) -> None:  # fmt: skip
    """Add what the composer says of supported findings that nobody wrote, and in the findings what every report must say."""
    composed = section.sentences
    added = [
        x for x in composed
        if x.finding and x.finding not in mentioned and x.assertion in ("present", "possible")
        and not (_narrower(x.finding, task) & mentioned)
    ]  # fmt: skip
    provenance += [
        Check(written="", action="added", why=f"{x.finding} is supported and was not written", section=section_id)
        for x in added
    ]
    if section_id == "findings":
        unassessed = [x for x in composed if x.finding and x.assertion == "not_assessed"]
        section.sentences = [*notices(prediction, s), *rows, *added, *unassessed, scope(task, s)]
    else:
        section.sentences = [*rows, *added] or composed


def _narrower(finding_id: str, task: Task) -> set[str]:
    return set(task.finding(finding_id).derived_from)
