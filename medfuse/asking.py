"""`medfuse ask`: a question about a case → an answer with its probability and place, or "cannot tell from these images".

Closed questions on a finding are answered by the calibrated findings, side and size by the lesion masks, other closed questions by the
writer's closed-question head and open ones by the writer, whose words are checked against the findings.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from .case import Case
from .errors import WrongUse
from .evaluation.vqa import load_answerer
from .io import picture
from .library import store
from .models.bundle import Bundle, choose_bundle, find_bundle, is_vqa, load_bundle
from .models.vqa import picture_features
from .models.writer import CLOSED, END, question_prefix, token_id
from .pipeline import read_case
from .predict import Predicted, predict_case
from .prediction import FindingRecord, LesionRecord, Place, Prediction
from .reporting.check import check_sentence
from .reporting.labeller import task_lexicon
from .reporting.templates import sentences
from .task import Finding, Task
from .training.questions import CANNOT_TELL, SIDES, YES_NO

_SIZE = re.compile(r"\b(how (large|big)|size|diameter|measure)\b|多大|大小|直徑", re.IGNORECASE)
_WHERE = re.compile(r"\b(where|which (side|lobe)|location|located)\b|哪|位置|位於", re.IGNORECASE)
_MANY = re.compile(r"\bhow many\b|幾(個|處)|多少", re.IGNORECASE)
_CLOSED = re.compile(r"^\s*(is|are|was|were|does|do|did|has|have|can|any)\b|嗎|是否|有無", re.IGNORECASE)
LEAST = 0.5  # chance of a writer's answer below which it is not given


@dataclass
class Answered:
    """probability: that the answer is right, null where nothing is claimed; source: what answered."""

    answer: str
    probability: float | None
    evidence: list[Place] = field(default_factory=list)
    source: str = ""
    why: str = ""

    def data(self) -> dict:
        return {**asdict(self), "evidence": [p.model_dump(exclude_none=True) for p in self.evidence]}


def language_of(question: str) -> str:
    return "zh-TW" if re.search(r"[\u4e00-\u9fff]", question) else "en"


def ask(target: str, question: str, *, bundle: str | None = None, device: str = "cpu") -> dict:
    """The answer as JSON data. ``target``: a case of the library, a path, or a picture for a vqa bundle."""
    if not question.strip():
        raise WrongUse('ask needs a question, such as "Is there ascites?"')
    path = Path(target)
    if bundle is not None and is_vqa(find_bundle(bundle)):
        return _ask_picture(path, question, find_bundle(bundle)).data()
    loaded = load_bundle(bundle)
    if not path.exists() and store.has_case(target):
        case = store.load_case(target)
    else:
        case = read_case(path, "US" if path.suffix.lower() in picture.SUFFIXES else "")
    loaded = loaded if bundle else choose_bundle(case, loaded)
    return answer(predict_case(case, loaded, device=device), case, loaded, question).data()


def _ask_picture(path: Path, question: str, folder: Path) -> Answered:
    if not path.is_file():
        raise WrongUse(f"{path}: no such picture; a vqa bundle answers on PNG and JPEG files")
    model = load_answerer(folder)
    found = model.answer(question, picture_features(path))
    if found.probability < model.task.least:
        return Answered(CANNOT_TELL[language_of(question)], None, [], "vqa", f"the likeliest answer, {found.answer!r}, has a chance of {found.probability:.2f}")  # fmt: skip
    return Answered(found.answer, found.probability, [Place(image=0)], "vqa", "where in the picture is not known: it is judged as a whole")  # fmt: skip


def answer(predicted: Predicted, case: Case, bundle: Bundle, question: str) -> Answered:
    """One question on one predicted case."""
    prediction, task, language = predicted.prediction, bundle.task, language_of(question)
    unknown = CANNOT_TELL[language]
    if not prediction.in_domain:
        why = "; ".join(dict.fromkeys(i.why for i in prediction.images if not i.in_domain))
        return Answered(unknown, None, [], "domain", f"outside the validated domain: {why}")
    finding = asked_about(question, task)
    if finding is not None:
        record = prediction.finding(finding.id)
        if _SIZE.search(question) or _WHERE.search(question) or _MANY.search(question):
            return _from_lesions(prediction, record, task, question, language)
        return _yes_no(record, prediction, bundle, language)
    if bundle.writer is None:
        return Answered(unknown, None, [], "task", f"the task {task.name} does not ask this")
    return _from_writer(predicted, bundle, question, language)


def asked_about(question: str, task: Task) -> Finding | None:
    """The narrowest finding that a question names, by the task's names and its lexicon."""
    lexicon = task_lexicon(task)
    named = []
    for finding in task.findings:
        by_name = any(name.lower() in question.lower() for name in finding.name.values())
        if by_name or (
            lexicon is not None and finding.id in lexicon.patterns and lexicon.patterns[finding.id].search(question)
        ):
            named.append((not by_name, len(finding.derived_from), finding))
    return min(named, key=lambda f: f[:2])[2] if named else None


def _yes_no(record: FindingRecord, prediction: Prediction, bundle: Bundle, language: str) -> Answered:
    unknown = CANNOT_TELL[language]
    if not record.assessed or record.probability is None:
        s = sentences(bundle.task, language)
        reasons = [s.render(f"reasons.{why.split()[0]}", modality=s.modality(m), roles=[s.role(r) for r in why.split()[1:]]) for m, why in record.why_not.items()]  # fmt: skip
        return Answered(unknown, None, [], "findings", "; ".join(reasons) or s.get("reasons.none"))
    p = record.probability
    if record.cannot_tell:
        return Answered(
            unknown, None, record.evidence, "findings", f"probability {p:.2f}: at 90 % neither answer can be excluded"
        )
    complete = any(state == "present" and m != "US" for m, state in prediction.modalities.items())
    if p < 0.5 and record.group == "focal" and not complete:
        return Answered(unknown, None, [], "findings", "absence of a focal lesion needs complete coverage")
    no, yes = YES_NO[language]
    return Answered(yes if p >= 0.5 else no, round(max(p, 1 - p), 4), record.evidence if p >= 0.5 else [], "findings", f"calibrated probability of {record.name}: {p:.2f}")  # fmt: skip


def _from_lesions(prediction: Prediction, record: FindingRecord, task: Task, question: str, language: str) -> Answered:
    names = {
        record.id,
        *task.finding(record.id).derived_from,
        *(f.id for f in task.findings if record.id in f.derived_from),
    }
    mine = sorted(
        (x for x in prediction.lesions if x.finding in names), key=lambda x: (x.finding != record.id, -x.probability)
    )
    if not mine or (record.probability or 0.0) < 0.4:
        return Answered(CANNOT_TELL[language], None, [], "lesions", f"no lesion of this kind was found and measured ({record.name}: {record.probability})")  # fmt: skip
    chance = round(min(record.probability or 0.0, mine[0].probability), 4)
    if _MANY.search(question):
        by_modality: dict[str, list[LesionRecord]] = {}
        for x in mine:
            by_modality.setdefault(x.modality, []).append(x)
        most = max(by_modality.values(), key=len)
        return Answered(str(len(most)), chance, [x.place for x in most], "lesions", f"counted on {most[0].modality}")
    if _SIZE.search(question):
        sized = [x for x in mine if x.long_axis_mm is not None]
        if not sized:
            return Answered(
                CANNOT_TELL[language], None, [mine[0].place], "lesions", "size not measured: the pixel size is unknown"
            )
        one = sized[0]
        return Answered(
            f"{one.long_axis_mm:.0f} × {one.short_axis_mm:.0f} mm",
            chance,
            [one.place],
            "lesions",
            f"measured on {one.modality}",
        )
    sided = [x for x in mine if x.side]
    if not sided:
        return Answered(
            CANNOT_TELL[language], None, [mine[0].place], "lesions", "the side cannot be told from where it was seen"
        )
    return Answered(
        SIDES[language][sided[0].side], chance, [sided[0].place], "lesions", f"measured on {sided[0].modality}"
    )


def _from_writer(predicted: Predicted, bundle: Bundle, question: str, language: str) -> Answered:
    """A question that names no finding: the writer answers, and what it claims is checked like a sentence of a report."""
    assert bundle.writer is not None
    writer, tokenizer = bundle.writer
    unknown = CANNOT_TELL[language]
    if predicted.logits is None or tokenizer.token_to_id(f"[{language}]") is None:
        return Answered(unknown, None, [], "writer", "the writer never saw this language")
    prefix = torch.tensor([question_prefix(tokenizer, language, question)])
    with torch.inference_mode():
        memory = writer.memory(predicted.fused, predicted.logits)
        if _CLOSED.search(question):
            _, states = writer(prefix, memory)
            shares = writer.closed(states[:, -1]).softmax(-1)[0]
            best = int(shares.argmax())
            if CLOSED[best] == "cannot tell" or float(shares[best]) < LEAST:
                return Answered(
                    unknown, None, [], "closed-question head", "no finding of the task is named, and the head is unsure"
                )
            return Answered(YES_NO[language][best], round(float(shares[best]), 4), [], "closed-question head", "uncalibrated: the question names no finding of the task")  # fmt: skip
        (ids,) = writer.generate(prefix, memory, end=token_id(tokenizer, END), length=48)
    words = tokenizer.decode(ids, skip_special_tokens=True).strip()
    lexicon = task_lexicon(bundle.task)
    if not words or lexicon is None:
        return Answered(unknown, None, [], "writer", "nothing that can be checked was written")
    verdict = check_sentence(words, predicted.prediction, bundle.task, lexicon, has_prior=False)
    if verdict.action not in ("kept", "mended"):
        return Answered(unknown, None, [], "writer", f"what the writer said is not supported: {verdict.why}")
    record = predicted.prediction.finding(verdict.claims[0].finding)
    return Answered(verdict.text, record.probability, record.evidence, "writer", verdict.why)
