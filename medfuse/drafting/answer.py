"""Answers to questions on a case, from its prediction."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import torch

from ..bundles.bundle import Bundle
from ..case import Case
from ..inference.predictor import Predicted
from ..models.writer import END, question_prefix, token_id
from ..prediction import FindingRecord, LesionRecord, Place, Prediction
from ..task import Finding, Task
from .check import check_sentence
from .findings import why_not_assessed
from .labeller import task_lexicon
from .lesions import covering
from .organs import organ_outside
from .phrases import CANNOT_TELL, SIDES, YES_NO
from .templates import sentences

_SIZE = re.compile(r"\b(how (large|big)|size|diameter|measure)\b|多大|大小|直徑", re.IGNORECASE)
_WHERE = re.compile(r"\b(where|which (side|lobe)|location|located)\b|哪|位置|位於", re.IGNORECASE)
_MANY = re.compile(r"\bhow many\b|幾(個|處)|多少", re.IGNORECASE)
_CLOSED = re.compile(r"^\s*(is|are|was|were|does|do|did|has|have|can|any)\b|嗎|是否|有無", re.IGNORECASE)
_ADVICE = re.compile(
    r"\b(should|recommend\w*|advi[cs]e|treat(ment|ed)?|therapy|next steps?|follow[- ]?up|biopsy|surgery|"
    r"prognosis|management)\b|建議|治療|下一步|怎麼辦|該如何|追蹤|切片|手術|預後|處置",
    re.IGNORECASE,
)
_COMPOUND = re.compile(
    r"\b(and|or)\s+(what|where|which|how|why|when|is|are|does|do|has|have|can)\b|[?？;；]\s*\S|"
    r"(以及|並且|而且|還有).*(嗎|是否|有無|多大|多少|哪|什麼|幾)",
    re.IGNORECASE,
)
_NATURE = re.compile(r"\b(malignan\w*|benign|cancer\w*)|惡性|良性|癌", re.IGNORECASE)


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


def answer(predicted: Predicted, case: Case, bundle: Bundle, question: str) -> Answered:
    """One question on one predicted case."""
    prediction = predicted.prediction
    task = bundle.task
    language = language_of(question)
    if not prediction.in_domain:
        why = "; ".join(dict.fromkeys(i.why for i in prediction.images if not i.in_domain))
        return _cannot_tell(language, "domain", f"outside the validated domain: {why}")
    finding = asked_about(question, task)
    refused = _refusal(question, finding, task)
    if refused:
        return _cannot_tell(language, "question", refused)
    if finding is not None:
        record = prediction.finding(finding.id)
        if _SIZE.search(question) or _WHERE.search(question) or _MANY.search(question):
            return _from_lesions(prediction, record, task, question, language)
        return _yes_no(record, prediction, bundle, language)
    if not for_the_writer(question, bundle):
        return _cannot_tell(language, "task", f"the task {task.name} does not ask this")
    return _from_writer(predicted, bundle, question, language)


def for_the_writer(question: str, bundle: Bundle) -> bool:
    """Whether only the writer could answer, which looks at the images: an open question that names no
    finding, and is not refused whatever they show."""
    finding = asked_about(question, bundle.task)
    if bundle.writer is None or finding is not None or _CLOSED.search(question):
        return False
    return not _refusal(question, finding, bundle.task)


def _refusal(question: str, finding: Finding | None, task: Task) -> str:
    """Why a question is not answered whatever the images show; "" where it may be."""
    if _ADVICE.search(question):
        return "the question asks for advice; findings are answered here, what to do is for a physician"
    if _COMPOUND.search(question):
        return "these are several questions in one; ask one at a time"
    elsewhere = organ_outside(question, finding, task) if finding is not None else ""
    if elsewhere:
        return f"the task {task.name} does not look at the {elsewhere}"
    if finding is not None and _NATURE.search(question):
        bare = asked_about(_NATURE.sub(" ", question), task)
        if bare is not None and bare.id == finding.id:
            return f"benign or malignant is no finding of the task {task.name}"
    return ""


def asked_about(question: str, task: Task) -> Finding | None:
    """The narrowest finding that a question names, by the task's names and its lexicon."""
    lexicon = task_lexicon(task)
    named = []
    for finding in task.findings:
        by_name = any(name.lower() in question.lower() for name in finding.name.values())
        if by_name or (
            lexicon is not None
            and finding.id in lexicon.patterns
            and lexicon.patterns[finding.id].search(question)
        ):
            named.append((not by_name, len(finding.derived_from), finding))
    return min(named, key=lambda f: f[:2])[2] if named else None


def _cannot_tell(language: str, source: str, why: str, evidence: Sequence[Place] = ()) -> Answered:
    return Answered(CANNOT_TELL[language], None, list(evidence), source, why)


def _yes_no(record: FindingRecord, prediction: Prediction, bundle: Bundle, language: str) -> Answered:
    if not record.assessed or record.probability is None:
        return _cannot_tell(language, "findings", why_not_assessed(record, sentences(bundle.task, language)))
    p = record.probability
    if record.cannot_tell:
        why = f"probability {p:.2f}: at 90 % neither answer can be excluded"
        return _cannot_tell(language, "findings", why, record.evidence)
    if p < 0.5 and record.group == "focal" and not covering(prediction):
        return _cannot_tell(language, "findings", "absence of a focal lesion needs complete coverage")
    no, yes = YES_NO[language]
    return Answered(
        yes if p >= 0.5 else no,
        round(max(p, 1 - p), 4),
        record.evidence if p >= 0.5 else [],
        "findings",
        f"calibrated probability of {record.name}: {p:.2f}",
    )


def _from_lesions(
    prediction: Prediction, record: FindingRecord, task: Task, question: str, language: str
) -> Answered:
    """How many, how large or where, by the measured lesions of a finding."""
    names = {
        record.id,
        *task.finding(record.id).derived_from,
        *(f.id for f in task.findings if record.id in f.derived_from),
    }
    mine = sorted(
        (x for x in prediction.lesions if x.finding in names),
        key=lambda x: (x.finding != record.id, -x.probability),
    )
    if not mine or (record.probability or 0.0) < 0.4:
        why = f"no lesion of this kind was found and measured ({record.name}: {record.probability})"
        return _cannot_tell(language, "lesions", why)
    chance = round(min(record.probability or 0.0, mine[0].probability), 4)
    asked = _how_many if _MANY.search(question) else _how_large if _SIZE.search(question) else _which_side
    return asked(mine, chance, language)


def _how_many(mine: list[LesionRecord], chance: float, language: str) -> Answered:
    """By the modality that shows most."""
    by_modality: dict[str, list[LesionRecord]] = {}
    for x in mine:
        by_modality.setdefault(x.modality, []).append(x)
    most = max(by_modality.values(), key=len)
    places = [x.place for x in most]
    return Answered(str(len(most)), chance, places, "lesions", f"counted on {most[0].modality}")


def _how_large(mine: list[LesionRecord], chance: float, language: str) -> Answered:
    sized = [x for x in mine if x.long_axis_mm is not None]
    if not sized:
        why = "size not measured: the pixel size is unknown"
        return _cannot_tell(language, "lesions", why, [mine[0].place])
    one = sized[0]
    size = f"{one.long_axis_mm:.0f} × {one.short_axis_mm:.0f} mm"
    return Answered(size, chance, [one.place], "lesions", f"measured on {one.modality}")


def _which_side(mine: list[LesionRecord], chance: float, language: str) -> Answered:
    sided = [x for x in mine if x.side]
    if not sided:
        why = "the side cannot be told from where it was seen"
        return _cannot_tell(language, "lesions", why, [mine[0].place])
    one = sided[0]
    side = SIDES[language][one.side]
    return Answered(side, chance, [one.place], "lesions", f"measured on {one.modality}")


def _from_writer(predicted: Predicted, bundle: Bundle, question: str, language: str) -> Answered:
    """A question that names no finding: the writer answers, and what it claims is checked like a sentence of
    a report."""
    assert bundle.writer is not None
    writer, tokenizer = bundle.writer
    if predicted.logits is None or tokenizer.token_to_id(f"[{language}]") is None:
        return _cannot_tell(language, "writer", "the writer never saw this language")
    prefix = torch.tensor([question_prefix(tokenizer, language, question)])
    with torch.inference_mode():
        memory = writer.memory(predicted.fused, predicted.logits)
        (ids,) = writer.generate(prefix, memory, end=token_id(tokenizer, END), length=48)
    words = tokenizer.decode(ids, skip_special_tokens=True).strip()
    lexicon = task_lexicon(bundle.task)
    if not words or lexicon is None:
        return _cannot_tell(language, "writer", "nothing that can be checked was written")
    verdict = check_sentence(words, predicted.prediction, bundle.task, lexicon)
    if verdict.action not in ("kept", "mended"):
        why = f"what the writer said is not supported: {verdict.why}"
        return _cannot_tell(language, "writer", why)
    record = predicted.prediction.finding(verdict.claims[0].finding)
    return Answered(verdict.text, record.probability, record.evidence, "writer", verdict.why)
