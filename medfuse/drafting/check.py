"""The checker: no written sentence stays that the findings do not support.

Each sentence of a learned or local writer is read by the labeller and compared with the claims: presence and
certainty, the organ, which modality shows it, side, size, whether the images can answer it at all, and words
of change without a prior. It is kept, mended (a side or size becomes the measured one), hedged (replaced by
the composer's own sentence), or dropped; what the findings support and nobody wrote is added. What was done,
and why, is in the report's provenance.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from ..case import Case
from ..claim import Claim as OurClaim
from ..knowledge import Graph, task_graph
from ..prediction import FindingRecord, LesionRecord, Place, Prediction
from ..report import Action, Check, Report, Section, Sentence
from ..task import Task
from .change import unproven
from .claims import claims_of
from .claims import complete as complete_cover
from .compose import ANY, Wish, compose, telling
from .contradictions import against
from .findings import finding_sentence, notices
from .labeller import SIZE, Claim, Lexicon, doubted, sentence_claims, size_in_mm, task_lexicon
from .organs import organ_outside
from .priors import Prior
from .roles_said import without_dissent, wrong_role
from .scale import DENIED, LIKELY, POSSIBLE
from .sections import parse_sections, split_sentences
from .telling import Telling

UNASSESSED = re.compile(  # of the finding itself, not of what stands in brackets behind it
    r"^\W*not (assessed|evaluated)\b|\b(is|are|was|were) not (assessed|evaluated)\b|\bcannot be assessed\b|"
    r"^\W*未評估|：未評估|無法評估",
    re.IGNORECASE,
)
SIZE_TOLERANCE = 0.25  # a written size this close to the measured one stays
_SIDES = {"right": ("right", "右"), "left": ("left", "左")}


@dataclass
class Verdict:
    """text "" means dropped; ``claims`` are those of the text that stays."""

    text: str
    action: Action
    why: str
    claims: list[Claim]


def unsupported(claim: Claim, ours: OurClaim, record: FindingRecord, *, complete: bool) -> str:
    """Why a claim may not stand beside ours of the same finding; "" where it may. ``complete``: some volume
    covers the whole organ."""
    p = record.probability
    if p is None or not record.assessed:
        return f"{claim.finding} is not assessed by what was acquired"
    if claim.said == "absent":
        if p >= POSSIBLE:
            return f"{claim.finding} is denied, its probability is {p:.2f}"
        if record.group == "focal" and not complete:
            return "absence of a focal lesion needs complete coverage"
        return ""
    if claim.said == "present" and ours.certainty not in ("certain", "likely"):
        return f"{claim.finding} has probability {p:.2f}: it may be said as {ours.certainty} only"
    return f"{claim.finding} has probability {p:.2f}" if p < DENIED else ""


def check_sentence(
    text: str, prediction: Prediction, task: Task, lexicon: Lexicon, *, prior: Prior | None = None
) -> Verdict:
    """What becomes of one written sentence, claim by claim: change since ``prior``, presence and certainty,
    the organ, which modality shows it, then side and size."""
    known = {f.id for f in task.findings}
    plain = without_dissent(text)
    found = [c for c in sentence_claims(plain, lexicon) if c.finding in known]
    if not found:
        return Verdict("", "dropped", "it says nothing about a finding of the task", [])
    told = _as_doubted(_narrowest(found, task), plain, lexicon)
    change = unproven(text, told, prediction, task, prior)
    if change:
        return Verdict("", "dropped", change, [])
    if UNASSESSED.search(text):
        assessed = [c.finding for c in told if prediction.finding(c.finding).assessed]
        if assessed:
            return Verdict("", "dropped", f"{assessed[0]} is assessed", told)
        return Verdict(text, "kept", "it was not assessed", told)
    return _refuted(text, told, prediction, task) or _place_and_size(text, told, prediction, task)


def _refuted(text: str, told: list[Claim], prediction: Prediction, task: Task) -> Verdict | None:
    """What becomes of a sentence that our own claims do not support; None where they do."""
    ours = claims_of(prediction, task)
    whole = {c.finding: c for c in ours if not c.lesions}
    for claim in told:
        record = prediction.finding(claim.finding)
        if claim.finding not in whole:
            return Verdict("", "dropped", f"{claim.finding} is outside the validated domain", told)
        why = unsupported(claim, whole[claim.finding], record, complete=complete_cover(prediction, task))
        why = why or _denied_below(claim, whole, task)
        why = why or _elsewhere(claim, text, task) or _wrong_role(claim, text, ours, task)
        if why:
            soft = claim.said == "present" and _may_be_hedged(record)
            return Verdict("", "hedged" if soft else "dropped", why, told)
    return None


def _denied_below(claim: Claim, whole: dict[str, OurClaim], task: Task) -> str:
    """Why a finding may not be denied: a narrower one, which it would deny too, is claimed."""
    if claim.said != "absent":
        return ""
    narrower = (c for c in whole.values() if c.claimed and claim.finding in _wider(c.finding, task))
    return next((f"{claim.finding} is denied, and {c.finding} is {c.certainty}" for c in narrower), "")


def _as_doubted(told: list[Claim], text: str, lexicon: Lexicon) -> list[Claim]:
    """What a sentence names with a doubt is doubted, whatever it says that is seen of it."""
    soft = doubted(text, lexicon)
    return [replace(c, said="possible") if c.said == "present" and c.finding in soft else c for c in told]


def _elsewhere(claim: Claim, text: str, task: Task) -> str:
    """Why a finding may not be said where it is said to be: in an organ that is not its own."""
    if claim.said == "absent":
        return ""
    organ = organ_outside(text, task.finding(claim.finding), task)
    return f"{claim.finding} is not looked for in the {organ}" if organ else ""


def _wrong_role(claim: Claim, text: str, ours: list[OurClaim], task: Task) -> str:
    """Why what is said of a modality may not stand; lesions of a wider or narrower name may be meant."""
    if claim.said == "absent":
        return ""
    names = {claim.finding, *task.finding(claim.finding).derived_from, *_wider(claim.finding, task)}
    own = [c for c in ours if c.finding == claim.finding]
    return wrong_role(text, own + [c for c in ours if c.lesions and c.finding in names and c not in own])


def _narrowest(found: list[Claim], task: Task) -> list[Claim]:
    """A narrow claim carries the wider ones: "simple cyst" also names a focal lesion."""
    return [c for c in found if not any(c.finding in _wider(o.finding, task) for o in found if o is not c)]


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
        for mend in (_mend_side, _mend_size):
            mended = mend(text, claim, lesions)
            if mended is None:
                what = "side" if mend is _mend_side else "size"
                return Verdict("", "hedged", f"the {what} of {claim.finding} is not measured", told)
            text, note = mended
            done += [note] if note else []
    return Verdict(text, "mended" if done else "kept", "; ".join(done) or "supported by the findings", told)


def _mend_side(text: str, claim: Claim, lesions: list[LesionRecord]) -> tuple[str, str] | None:
    """The text with the measured side, and what was changed; None where no side was measured."""
    sides = {x.side for x in lesions} - {""}
    if not claim.side or claim.side in sides:
        return text, ""
    if not sides:
        return None
    (other,) = sides
    return _swap_side(text, claim.side, other), f"side {claim.side} → {other}, as measured"


def _mend_size(text: str, claim: Claim, lesions: list[LesionRecord]) -> tuple[str, str] | None:
    """The text with the nearest measured size, and what was changed; None where no size was measured."""
    if claim.size_mm is None:
        return text, ""
    stated = claim.size_mm
    sides = {x.side for x in lesions}
    here = [x for x in lesions if x.side in ("", claim.side or x.side) or claim.side not in sides]
    sizes = [x.long_axis_mm for x in here if x.long_axis_mm is not None]
    if not sizes:
        return None
    near = min(sizes, key=lambda v: abs(v - stated))
    if abs(near - stated) <= SIZE_TOLERANCE * near:
        return text, ""
    return _set_size(text, near), f"size {stated:.0f} → {near:.0f} mm, as measured"


def _swap_side(text: str, wrong: str, right: str) -> str:
    for old, new in zip(_SIDES[wrong], _SIDES[right], strict=True):
        text = text.replace(old, new).replace(old.capitalize(), new.capitalize())
    return text


def _set_size(text: str, mm: float) -> str:
    """Put the measured long axis in place of the largest stated size."""
    stated = max(SIZE.finditer(text), key=size_in_mm)
    return f"{text[: stated.start()]}{mm:.0f} mm{text[stated.end() :]}"


def checked_report(
    written: str,
    prediction: Prediction,
    case: Case,
    task: Task,
    language: str,
    *,
    writer: str,
    prior: Prior | None = None,
    wish: Wish = ANY,
) -> Report:
    """A report of ``written`` words, checked sentence by sentence, in the frame of the composer's (banner,
    technique, comparison).

    Without a lexicon, or outside the validated domain, nothing can be checked: the composer's own report is
        given.
    """
    report = compose(prediction, case, task, language, prior=prior, wish=wish)
    lexicon = task_lexicon(task)
    if not prediction.in_domain or lexicon is None:
        why = (
            "outside the validated domain"
            if not prediction.in_domain
            else "the task has no lexicon to check words with"
        )
        report.provenance = [Check(written="", action="dropped", why=f"nothing was written: {why}")]
        return report
    t = telling(prediction, case, task, language, wish)
    report.writer = writer  # type: ignore[assignment]
    parts = parse_sections(written)
    for section_id in ("findings", "impression"):
        section = report.section(section_id)
        assert section is not None
        rows, provenance, mentioned = _section(parts.get(section_id, ""), section_id, t, lexicon, prior=prior)
        _complete(section, rows, provenance, t, mentioned)
        report.provenance += provenance
    return report


def _section(
    text: str,
    section_id: str,
    t: Telling,
    lexicon: Lexicon,
    *,
    prior: Prior | None,
) -> tuple[list[Sentence], list[Check], set[str]]:
    rows: list[Sentence] = []
    provenance: list[Check] = []
    mentioned: set[str] = set()
    graph = task_graph(t.task)
    for written in dict.fromkeys(split_sentences(text)):  # a sentence said twice is said once
        verdict = check_sentence(written, t.prediction, t.task, lexicon, prior=prior)
        verdict = _beside(rows, verdict, graph)
        provenance.append(Check(written=written, action=verdict.action, why=verdict.why, section=section_id))
        if verdict.action == "hedged":
            for finding in dict.fromkeys(c.finding for c in verdict.claims):
                if finding not in mentioned and _may_be_hedged(t.prediction.finding(finding)):
                    rows.append(finding_sentence(t.findings[finding], t))
                    mentioned.add(finding)
        elif verdict.text:
            rows.append(_sentence(verdict, t))
            for claim in verdict.claims:
                mentioned |= {claim.finding, *_wider(claim.finding, t.task)}
    return rows, provenance, mentioned


def _beside(rows: list[Sentence], verdict: Verdict, graph: Graph | None) -> Verdict:
    """The verdict on a sentence beside those that stay already: what was said first holds."""
    clash = against(verdict.text, [x.text for x in rows], graph) if graph and verdict.text else ""
    return Verdict("", "dropped", clash, []) if clash else verdict


def _may_be_hedged(record: FindingRecord) -> bool:
    """Whether a finding that was said too surely may be said in the composer's words."""
    return record.assessed and (record.probability or 0.0) >= DENIED


def _sentence(verdict: Verdict, t: Telling) -> Sentence:
    prediction = t.prediction
    task = t.task
    claim = verdict.claims[0]
    record = prediction.finding(claim.finding)
    evidence: list[Place] = []
    if claim.said != "absent":
        evidence = _places(claim, prediction, task) or record.evidence
    p = record.probability or 0.0
    return Sentence(
        text=verdict.text,
        finding=claim.finding,
        probability=p,
        modality=t.findings[claim.finding].shown_by(),
        evidence=evidence,
        assertion=claim.said if claim.said != "present" or p >= LIKELY else "possible",
    )


def _places(claim: Claim, prediction: Prediction, task: Task) -> list[Place]:
    """Where the lesions are that a claim may speak of, those of its side first."""
    if prediction.finding(claim.finding).group != "focal":
        return []
    lesions = _lesions_of(claim, prediction, task)
    of_that_side = [x for x in lesions if x.side == claim.side] if claim.side else []
    return [x.place for x in (of_that_side or lesions)[:3]]


def _complete(
    section: Section, rows: list[Sentence], provenance: list[Check], t: Telling, mentioned: set[str]
) -> None:
    """Add what the composer says of supported findings that nobody wrote, and in the findings what every
    report must say."""
    composed = section.sentences
    added = [
        x for x in composed if x.assertion in ("present", "possible") and _unwritten(x, section, t, mentioned)
    ]
    provenance += [
        Check(
            written="",
            action="added",
            why=f"{x.finding} is supported and was not written",
            section=section.id,
        )
        for x in added
    ]
    if section.id == "findings":
        unassessed = [x for x in composed if x.finding and x.assertion == "not_assessed"]
        section.sentences = [*rows, *added, *unassessed, *notices(t.prediction, t.s)]
    else:
        section.sentences = [*rows, *added] or composed


def _unwritten(composed: Sentence, section: Section, t: Telling, mentioned: set[str]) -> bool:
    """Whether nobody wrote what a composed sentence says of its finding, or a line of the impression of what
    that may be."""
    if not composed.finding or _narrower(composed.finding, t.task) & mentioned:
        return False
    said = {composed.finding}
    if section.id == "impression":
        said |= {c.finding for c in t.findings.values() if c.id in composed.claims}
    return bool(said - mentioned)


def _narrower(finding_id: str, task: Task) -> set[str]:
    return set(task.finding(finding_id).derived_from)
