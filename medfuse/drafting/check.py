"""The checker: no written sentence stays that the findings do not support.

Each sentence of a learned or local writer is cut into statements, read by the labeller and compared with the
claims: presence and certainty, the organ, which modality shows it, side, size, whether the images can answer
it at all, findings that the task does not ask of, and words of change without a prior. It is kept, mended (a
side or size becomes the measured one), hedged (replaced by the composer's own sentence), or dropped; what the
findings support and nobody wrote is added. What was done, and why, is in the report's provenance.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from ..case import Case
from ..claim import Claim as OurClaim
from ..knowledge import Graph, task_graph
from ..prediction import FindingRecord, Place, Prediction
from ..report import Action, Check, Report, Section, Sentence
from ..task import Task
from .change import unproven
from .claims import claims_of
from .claims import complete as complete_cover
from .compose import ANY, Wish, compose, telling
from .contradictions import against
from .doubts import degree_of
from .findings import finding_sentence, notices
from .labeller import Claim, Lexicon, task_lexicon
from .mend import lesions_of, mend_side, mend_size, wider_ids
from .organs import organ_outside
from .priors import Prior
from .roles_said import wrong_role
from .scale import DENIED, LIKELY, POSSIBLE
from .sections import parse_sections, split_sentences
from .statements import Statement, as_claims, gone, named_elsewhere, of_its_own, statements
from .telling import Telling

UNASSESSED = re.compile(  # of the finding itself, not of what stands in brackets behind it
    r"^\W*not (assessed|evaluated)\b|\b(is|are|was|were) not (assessed|evaluated)\b|"
    r"\b(cannot|could not) be (assessed|evaluated)\b|"
    r"^\W*未評估|：未評估|無法評估",
    re.IGNORECASE,
)


@dataclass
class Verdict:
    """text "" means dropped; ``claims`` are those of the text that stays."""

    text: str
    action: Action
    why: str
    claims: list[Claim]


def unsupported(
    claim: Claim, ours: OurClaim, record: FindingRecord, *, complete: bool, degree: str = ""
) -> str:
    """Why a claim may not stand beside ours of the same finding; "" where it may. ``complete``: some volume
    covers the whole organ. ``degree``: of its doubt (`degree_of`)."""
    p = record.probability
    if p is None or not record.assessed:
        return f"{claim.finding} is not assessed by what was acquired"
    if claim.said == "absent":
        return _undeniable(claim, record, p, complete=complete)
    sure = ours.certainty in ("certain", "likely")
    if p < DENIED:
        return f"{claim.finding} has probability {p:.2f}"
    if not sure and (claim.said == "present" or degree == "likely"):
        return f"{claim.finding} has probability {p:.2f}: it may be said as {ours.certainty} only"
    if degree == "weak" and ours.certainty == "certain" and record.group != "focal":
        return f"{claim.finding} has probability {p:.2f}, and is called possible"
    return ""


def _undeniable(claim: Claim, record: FindingRecord, p: float, *, complete: bool) -> str:
    if p >= POSSIBLE:
        return f"{claim.finding} is denied, its probability is {p:.2f}"
    uncovered = record.group == "focal" and not complete
    return "absence of a focal lesion needs complete coverage" if uncovered else ""


def check_sentence(
    text: str, prediction: Prediction, task: Task, lexicon: Lexicon, *, prior: Prior | None = None
) -> Verdict:
    """What becomes of one written sentence, statement by statement: change since ``prior``, findings that
    the task does not ask of, presence and certainty, the organ, which modality shows it, then side and
    size."""
    whole = UNASSESSED.match(text) is not None  # a list of what was not assessed is one statement
    parts = [Statement(text, as_claims(text, lexicon))] if whole else statements(text, lexicon)
    parts = _of_the_task(parts, task)
    told = list(dict.fromkeys(c for x in parts if not x.carried for c in x.claims))
    told.sort(key=lambda c: c.said == "absent")
    if not told:
        return Verdict("", "dropped", "it says nothing about a finding of the task", [])
    other = named_elsewhere(text, lexicon)
    strange = f"it speaks of {other}, which the task does not ask" if other else ""
    strange = strange or unproven(text, told, prediction, task, prior)
    if strange:
        return Verdict("", "dropped", strange, [])
    why = next((w for x in parts if (w := _refuted(x, prediction, task, lexicon))), None)
    if why:
        soft = why.claim is not None and _may_be_hedged(prediction.finding(why.claim.finding))
        return Verdict("", "hedged" if soft else "dropped", why.text, told)
    if whole:
        return Verdict(text, "kept", "it was not assessed", told)
    return _place_and_size(parts, told, prediction, task)


@dataclass(frozen=True)
class _Fault:
    """Why a sentence may not stand; claim: that the composer may say in its own words instead."""

    text: str
    claim: Claim | None = None


def _of_the_task(parts: list[Statement], task: Task) -> list[Statement]:
    """The statements with the narrowest claims on findings of the task; what one of them names with a
    doubt is doubted in all."""
    known = {f.id for f in task.findings}
    focal = {f.id for f in task.findings if f.group == "focal"}
    out: list[Statement] = []
    for x in parts:
        own = x.claims if x.carried else of_its_own(x, focal, out[-1] if out else None)
        out.append(replace(x, claims=tuple(_narrowest([c for c in own if c.finding in known], task))))
    soft = {c.finding for x in out for c in x.claims if c.said == "possible"}
    return [replace(x, claims=tuple(_as_doubted(c, soft) for c in x.claims)) for x in out]


def _refuted(part: Statement, prediction: Prediction, task: Task, lexicon: Lexicon) -> _Fault | None:
    """Why a statement may not stand beside our own claims; None where it may."""
    ours = claims_of(prediction, task)
    whole = {c.finding: c for c in ours if not c.lesions}
    if UNASSESSED.search(part.text):
        assessed = [c.finding for c in part.claims if prediction.finding(c.finding).assessed]
        return _Fault(f"{assessed[0]} is assessed") if assessed else None
    for claim in part.claims:
        why = _refuted_claim(claim, part, ours, prediction, task, lexicon)
        if why and not (part.carried and claim.said == "absent" and not gone(part.text)):
            return _Fault(why, None if claim.said == "absent" or claim.finding not in whole else claim)
    return None


def _refuted_claim(
    claim: Claim,
    part: Statement,
    ours: list[OurClaim],
    prediction: Prediction,
    task: Task,
    lexicon: Lexicon,
) -> str:
    """Why one claim of a statement may not stand; "" where it may."""
    whole = {c.finding: c for c in ours if not c.lesions}
    if claim.finding not in whole:
        return f"{claim.finding} is outside the validated domain"
    record = prediction.finding(claim.finding)
    degree = "" if part.carried else degree_of(part.text, claim.finding, lexicon)
    covered = complete_cover(prediction, task)
    why = unsupported(claim, whole[claim.finding], record, complete=covered, degree=degree)
    why = why or _denied_below(claim, whole, task)
    return why or _elsewhere(claim, part.text, task) or role_against(claim, part.text, ours, task)


def _denied_below(claim: Claim, whole: dict[str, OurClaim], task: Task) -> str:
    """Why a finding may not be denied: a narrower one, which it would deny too, is claimed."""
    if claim.said != "absent":
        return ""
    narrower = (c for c in whole.values() if c.claimed and claim.finding in wider_ids(c.finding, task))
    return next((f"{claim.finding} is denied, and {c.finding} is {c.certainty}" for c in narrower), "")


def _as_doubted(claim: Claim, soft: set[str]) -> Claim:
    """What a sentence names with a doubt is doubted, whatever it says that is seen of it."""
    return replace(claim, said="possible") if claim.said == "present" and claim.finding in soft else claim


def _elsewhere(claim: Claim, text: str, task: Task) -> str:
    """Why a finding may not be said where it is said to be: in an organ that is not its own."""
    if claim.said == "absent":
        return ""
    organ = organ_outside(text, task.finding(claim.finding), task)
    return f"{claim.finding} is not looked for in the {organ}" if organ else ""


def role_against(claim: Claim, text: str, ours: list[OurClaim], task: Task) -> str:
    """Why what is said of a modality may not stand beside our own claims; "" where it may. Lesions of a wider
    or narrower name may be meant."""
    if claim.said == "absent":
        return ""
    names = {claim.finding, *task.finding(claim.finding).derived_from, *wider_ids(claim.finding, task)}
    own = [c for c in ours if c.finding == claim.finding]
    return wrong_role(text, own + [c for c in ours if c.lesions and c.finding in names and c not in own])


def _narrowest(found: list[Claim], task: Task) -> list[Claim]:
    """A narrow claim carries the wider ones: "simple cyst" also names a focal lesion; not those denied."""
    return [
        c
        for c in found
        if not any(c.finding in wider_ids(o.finding, task) and _alike(c, o) for o in found if o is not c)
    ]


def _alike(one: Claim, other: Claim) -> bool:
    return (one.said == "absent") == (other.said == "absent")


def _place_and_size(parts: list[Statement], told: list[Claim], prediction: Prediction, task: Task) -> Verdict:
    """Side and size against the lesion masks; without a measured lesion neither may be stated."""
    done: list[str] = []
    text = ""
    for part in parts:
        placed, why = _placed(part, prediction, task, done)
        if why:
            return Verdict("", "hedged", why, told)
        text += placed
    return Verdict(text, "mended" if done else "kept", "; ".join(done) or "supported by the findings", told)


def _placed(part: Statement, prediction: Prediction, task: Task, done: list[str]) -> tuple[str, str]:
    """A statement with the measured side and size, or why it cannot stand; what was mended is added to
    ``done``."""
    text = part.text
    for claim in part.claims:
        if claim.said == "absent" or prediction.finding(claim.finding).group != "focal":
            continue
        lesions = lesions_of(claim, prediction, task)
        for mend in (mend_side, mend_size):
            mended = mend(text, claim, lesions)
            if mended is None:
                what = "side" if mend is mend_side else "size"
                return "", f"the {what} of {claim.finding} is not measured"
            text, note = mended
            done += [note] if note else []
    return text, ""


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
    t = telling(prediction, case, task, language, wish, prior)
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
                mentioned |= {claim.finding, *wider_ids(claim.finding, t.task)}
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
    lesions = lesions_of(claim, prediction, task)
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
