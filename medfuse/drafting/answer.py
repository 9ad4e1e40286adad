"""Answers to questions on a case, from its prediction alone: without the network and its libraries."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from ..prediction import FindingRecord, LesionRecord, Place, Prediction
from ..task import Finding, Task
from .claims import claims_of, hidden, weight
from .findings import why_not_assessed
from .labeller import SIZE as LENGTH
from .labeller import size_in_mm
from .lesions import covering
from .phrases import CANNOT_TELL, CANNOT_TELL_MODEL, SIDES, YES_NO
from .questions import (
    CLOSED,
    FOUND,
    MANY,
    SIZE,
    compares,
    kind_of,
    modality_named,
    named,
    refusal,
    side_named,
)
from .spoken import measured
from .templates import sentences


@dataclass
class Answered:
    """probability: that the answer is right, None where nothing is claimed; source: what answered."""

    answer: str
    probability: float | None
    evidence: list[Place] = field(default_factory=list)
    source: str = ""
    why: str = ""
    bundle_hash: str = ""  # of the bundle that answered; a picture's answer has none

    def as_json(self) -> dict[str, object]:
        """As JSON data; without a hash where there is none."""
        data = {**asdict(self), "evidence": [p.model_dump(exclude_none=True) for p in self.evidence]}
        return data if self.bundle_hash else {k: v for k, v in data.items() if k != "bundle_hash"}


def language_of(question: str) -> str:
    """zh-TW where a question holds a Chinese character, else en."""
    return "zh-TW" if re.search(r"[\u4e00-\u9fff]", question) else "en"


def answer_from(prediction: Prediction, task: Task, question: str, *, writer: bool) -> Answered | None:
    """One question on one predicted case; None where a learned writer has to look at the images again, for an
    open question that names no finding. ``writer``: there is one."""
    language = language_of(question)
    question = measured(question)
    if not prediction.in_domain:
        why = "; ".join(dict.fromkeys(i.why for i in prediction.images if not i.in_domain))
        return cannot_tell(language, "domain", f"outside the validated domain: {why}")
    finding = asked_about(question, task)
    refused = refusal(question, finding, task, sized=bool(LENGTH.search(question)))
    if refused:
        return _not_from_here(language, "question", refused)
    if finding is not None:
        return _of_finding(question, finding, prediction, task, language)
    if FOUND.search(question):
        return _found(prediction, task, language)
    if writer and not CLOSED.search(question):
        return None
    return _not_from_here(language, "task", f"the task {task.name} does not ask this")


def _found(prediction: Prediction, task: Task, language: str) -> Answered:
    """All that is claimed, the surest first."""
    s = sentences(task, language)
    whole = {c.finding: c for c in claims_of(prediction, task) if not c.lesions}
    said = [c for c in whole.values() if c.claimed and not hidden(c, whole, task)]
    said.sort(key=lambda c: (weight(c), task.finding(c.finding).rank))
    told = [s.render(f"scale.{c.certainty}", name=s.name(task.finding(c.finding))) for c in said]
    if not told:
        return Answered(
            s.render("nothing"), None, [], "claims", "no finding of the task is at least possible"
        )
    places = [place for c in said for place in prediction.finding(c.finding).evidence]
    return Answered(s.get("list.then").join(told), None, places, "claims", "what is at least possible")


def _of_finding(
    question: str, finding: Finding, prediction: Prediction, task: Task, language: str
) -> Answered:
    """A question that names one finding: who shows it, how large, where, how many, how surely, or whether."""
    record = prediction.finding(finding.id)
    kind = kind_of(question, focal=record.group == "focal")
    if kind == "measured":
        return _from_lesions(prediction, record, task, question, language)
    told = _yes_no(record, prediction, task, language)
    if told.probability is None:
        return told
    if kind == "sure":
        told.answer = f"{record.probability:.0%}"
    if kind not in ("shown", "held") or told.answer != YES_NO[language][1]:
        return told
    if kind == "held":
        return _held_against(question, record, prediction, task, language)
    modality = modality_named(question) if CLOSED.search(question) else ""
    return _shown(told, record, prediction, task, modality, language)


def _held_against(
    question: str, record: FindingRecord, prediction: Prediction, task: Task, language: str
) -> Answered:
    """Whether a lesion is longer or shorter than is asked, or lies on a side, by those that were measured; of
    several, whether any does."""
    known, held = _held(question, _mine(prediction, record, task))
    if not known:
        return cannot_tell(language, "lesions", "no lesion of this kind was outlined and measured")
    chance = min(record.probability or 0.0, max(x.probability for x in held or known))
    why = "; ".join(f"{x.modality} {x.side} {x.long_axis_mm or '?'} mm" for x in known[:3])
    places = [x.place for x in held or known]
    return Answered(YES_NO[language][bool(held)], round(chance, 4), places, "lesions", f"outlined: {why}")


def _held(question: str, mine: list[LesionRecord]) -> tuple[list[LesionRecord], list[LesionRecord]]:
    """The lesions of which what is asked is known, and those of which it holds."""
    length = LENGTH.search(question)
    if length is None:
        known = [x for x in mine if x.side]
        return known, [x for x in known if x.side == side_named(question)]
    mm = size_in_mm(length)
    known = [x for x in mine if x.long_axis_mm is not None]
    return known, [x for x in known if ((x.long_axis_mm or 0.0) > mm) == compares(question)]


def _shown(
    told: Answered,
    record: FindingRecord,
    prediction: Prediction,
    task: Task,
    modality: str,
    language: str,
) -> Answered:
    """Which modalities show a finding that is there, or whether ``modality`` does, by what each says of it
    alone."""
    roles = _roles(record, prediction, task)
    shown = [m for m, role in roles.items() if role == "shows"]
    why = ", ".join(f"{m} {role.replace('_', ' ')}" for m, role in roles.items())
    if modality:
        if roles.get(modality) not in ("shows", "does_not_show"):
            return cannot_tell(language, "claims", why)
        said = YES_NO[language][modality in shown]
    elif shown:
        s = sentences(task, language)
        said = s.get("list.comma").join(s.modality(m) for m in shown)
    else:
        return cannot_tell(language, "claims", why)
    return Answered(said, told.probability, told.evidence, "claims", why)


def _roles(record: FindingRecord, prediction: Prediction, task: Task) -> dict[str, str]:
    """Modality → its role for a finding; it shows it too where it shows one of its lesions."""
    claims = [c for c in claims_of(prediction, task) if c.finding == record.id]
    roles: dict[str, str] = {}
    for claim in sorted(claims, key=lambda c: bool(c.lesions)):
        roles |= {w.modality: w.role for w in claim.witnesses if w.role == "shows" or not claim.lesions}
    return roles


def asked_about(question: str, task: Task) -> Finding | None:
    """The narrowest finding that a question names, by the task's names and its lexicon."""
    return next(iter(named(question, task)), None)


def _not_from_here(language: str, source: str, why: str) -> Answered:
    """Whatever the images show, this model does not answer it."""
    return Answered(CANNOT_TELL_MODEL[language], None, [], source, why)


def cannot_tell(language: str, source: str, why: str, evidence: Sequence[Place] = ()) -> Answered:
    """The images, or what was made of them, do not answer it."""
    return Answered(CANNOT_TELL[language], None, list(evidence), source, why)


def _yes_no(record: FindingRecord, prediction: Prediction, task: Task, language: str) -> Answered:
    if not record.assessed or record.probability is None:
        return cannot_tell(language, "findings", why_not_assessed(record, sentences(task, language)))
    p = record.probability
    if record.cannot_tell:
        why = f"probability {p:.2f}: at 90 % neither answer can be excluded"
        return cannot_tell(language, "findings", why, record.evidence)
    if p < 0.5 and record.group == "focal" and not covering(prediction):
        return cannot_tell(language, "findings", "absence of a focal lesion needs complete coverage")
    no, yes = YES_NO[language]
    return Answered(
        yes if p >= 0.5 else no,
        round(max(p, 1 - p), 4),
        record.evidence if p >= 0.5 else [],
        "findings",
        f"calibrated probability of {record.name}: {p:.2f}",
    )


def _mine(prediction: Prediction, record: FindingRecord, task: Task) -> list[LesionRecord]:
    """Lesions of a finding, or of one wider or narrower, its own and the surest first."""
    names = {
        record.id,
        *task.finding(record.id).derived_from,
        *(f.id for f in task.findings if record.id in f.derived_from),
        *(f.id for f in task.findings if record.id in {w.id for w in task.wider(f.id)}),
    }
    return sorted(
        (x for x in prediction.lesions if x.finding in names),
        key=lambda x: (x.finding != record.id, -x.probability),
    )


def _from_lesions(
    prediction: Prediction, record: FindingRecord, task: Task, question: str, language: str
) -> Answered:
    """How many, how large or where, by the measured lesions of a finding."""
    mine = _mine(prediction, record, task)
    if not mine or (record.probability or 0.0) < 0.4:
        why = f"no lesion of this kind was found and measured ({record.name}: {record.probability})"
        return cannot_tell(language, "lesions", why)
    mine = _where_asked(mine, question)
    if not mine:
        return cannot_tell(language, "lesions", "no lesion of this kind was outlined there")
    chance = round(min(record.probability or 0.0, mine[0].probability), 4)
    asked = _how_many if MANY.search(question) else _how_large if SIZE.search(question) else _which_side
    return asked(mine, chance, language)


def _where_asked(mine: list[LesionRecord], question: str) -> list[LesionRecord]:
    """The lesions on the side and the modality that a question names, if any."""
    side = side_named(question)
    modality = modality_named(question)
    return [x for x in mine if side in ("", x.side) and modality in ("", x.modality)]


def _how_many(mine: list[LesionRecord], chance: float, language: str) -> Answered:
    """By the modality that shows most."""
    by_modality: dict[str, list[LesionRecord]] = {}
    for x in mine:
        by_modality.setdefault(x.modality, []).append(x)
    most = max(by_modality.values(), key=len)
    places = [x.place for x in most]
    return Answered(str(len(most)), chance, places, "lesions", f"counted on {most[0].modality}")


def _how_large(mine: list[LesionRecord], chance: float, language: str) -> Answered:
    """The largest, where there are several."""
    sized = sorted((x for x in mine if x.long_axis_mm is not None), key=lambda x: -(x.long_axis_mm or 0.0))
    if not sized:
        why = "size not measured: the pixel size is unknown"
        return cannot_tell(language, "lesions", why, [mine[0].place])
    one = sized[0]
    size = f"{one.long_axis_mm:.0f} × {one.short_axis_mm:.0f} mm"
    why = f"measured on {one.modality}" + (f", the largest of {len(sized)}" if len(sized) > 1 else "")
    return Answered(size, min(chance, one.probability), [one.place], "lesions", why)


def _which_side(mine: list[LesionRecord], chance: float, language: str) -> Answered:
    sided = [x for x in mine if x.side]
    if not sided:
        why = "the side cannot be told from where it was seen"
        return cannot_tell(language, "lesions", why, [mine[0].place])
    sides = list(dict.fromkeys(x.side for x in sided))
    first = [next(x for x in sided if x.side == side) for side in sides]
    said = {"en": " and ", "zh-TW": "、"}.get(language, ", ").join(SIDES[language][side] for side in sides)
    why = ", ".join(f"{x.side} on {x.modality}" for x in first)
    return Answered(said, chance, [x.place for x in first], "lesions", f"outlined: {why}")
