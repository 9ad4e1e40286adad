"""Dictated text → sentences in their sections, each held against the findings and measurements before it
enters a report; what does not agree is asked, never changed."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from ..knowledge import Graph, task_graph
from ..prediction import LesionRecord, Prediction
from ..report import Assertion
from ..task import Task
from .change import unproven
from .check import role_against
from .claims import claims_of
from .contradictions import contradictions
from .labeller import Claim, Lexicon, task_lexicon
from .mend import SIZE_TOLERANCE
from .priors import Prior
from .scale import DENIED, POSSIBLE
from .sections import parse_sections, split_sentences
from .spoken import written
from .statements import Statement, statements

SectionName = Literal["indication", "technique", "comparison", "findings", "impression"]
Kind = Literal["side", "size", "presence", "absence", "not_assessed", "contradiction", "change", "role"]
_TECHNIQUE = re.compile(
    r"\b(was|were) (performed|acquired|obtained)\b|\bwith(out)? (intravenous |iv )?contrast\b|"
    r"注射顯影劑|檢查方式",
    re.IGNORECASE,
)
_CONCLUDES = re.compile(
    r"\b(in summary|in conclusion|consistent with|compatible with|most likely represents?|recommend\w*|"
    r"follow[- ]?up)\b|總結|符合|建議|追蹤",
    re.IGNORECASE,
)
_COMPARES = re.compile(r"\bcompared (with|to)\b|\bprior (study|examination|ct|mri?)\b|與先前", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class DictatedSentence:
    """One sentence as it was spoken, and written down. section: by a spoken heading, else by what it says.
    finding: that it speaks of, the narrowest; "" for none of the task. source: always dictated."""

    text: str
    section: SectionName
    finding: str = ""
    assertion: Assertion = "notice"
    source: Literal["dictated"] = "dictated"


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked before a sentence enters the report. sentence: its number, from 0."""

    sentence: int
    kind: Kind
    asked: str


@dataclass(frozen=True, kw_only=True)
class Dictation:
    """text: as written down; sentences in the order they were spoken; questions on them."""

    text: str
    sentences: tuple[DictatedSentence, ...]
    questions: tuple[Question, ...]


def dictation(
    words: str, task: Task, prediction: Prediction | None = None, prior: Prior | None = None
) -> Dictation:
    """What a person said, written down, in sections and checked. ``prediction``: of the case, where there
    is one; without it only contradictions between sentences are asked. ``prior``: its earlier case, which a
    change that is spoken of is held against."""
    text = written(words)
    lexicon = task_lexicon(task) or Lexicon({})
    graph = task_graph(task)
    rows: list[DictatedSentence] = []
    questions: list[Question] = []
    headed = bool(re.search(r"^\w+:", text, re.MULTILINE))
    for section, part in parse_sections(text).items():
        for sentence in split_sentences(part):
            parts = [_narrowest(x, graph) for x in statements(sentence, lexicon)]
            told = list(dict.fromkeys(c for x in parts if not x.carried for c in x.claims))
            rows.append(_row(sentence, section if headed else "", told))
            if prediction is not None:
                questions += _checked(len(rows) - 1, parts, prediction, task)
                if section != "comparison":
                    questions += _change(len(rows) - 1, sentence, told, prediction, task, prior)
    if graph is not None:
        questions += _clashes(rows, graph)
    return Dictation(text=text, sentences=tuple(rows), questions=tuple(questions))


def _narrowest(part: Statement, graph: Graph | None) -> Statement:
    """A statement without the wider claims that a narrower one carries."""
    if graph is None:
        return part
    wide = {w for c in part.claims if c.finding in graph.concepts for w in graph.wider(c.finding)}
    return replace(part, claims=tuple(c for c in part.claims if c.finding not in wide))


def _checked(n: int, parts: list[Statement], prediction: Prediction, task: Task) -> list[Question]:
    """What the statements of one sentence do not agree with, claim by claim; each question once."""
    out: list[Question] = []
    ours = claims_of(prediction, task)
    for part in parts:
        for claim in part.claims:
            if not part.carried:
                out += _asked(n, claim, prediction, task)
            elif claim.said != "absent" and claim.finding in {f.id for f in prediction.findings}:
                lesions = _lesions(claim, prediction, task)
                out += _place(n, claim, task.finding(claim.finding).label("en"), lesions)
            why = role_against(claim, part.text, ours, task) if claim.said != "absent" else ""
            if why:
                out.append(Question(sentence=n, kind="role", asked=f"{why}. Is it seen there?"))
    return list(dict.fromkeys(out))


def _row(sentence: str, section: str, told: list[Claim]) -> DictatedSentence:
    named: SectionName = section or _section(sentence)  # type: ignore[assignment]
    if not told:
        return DictatedSentence(text=sentence, section=named)
    return DictatedSentence(text=sentence, section=named, finding=told[0].finding, assertion=told[0].said)


def _section(sentence: str) -> SectionName:
    """Where a sentence without a heading belongs."""
    if _TECHNIQUE.search(sentence):
        return "technique"
    if _COMPARES.search(sentence):
        return "comparison"
    return "impression" if _CONCLUDES.search(sentence) else "findings"


def _asked(n: int, claim: Claim, prediction: Prediction, task: Task) -> list[Question]:
    """What one claim of a sentence does not agree with."""
    known = {f.id: f for f in prediction.findings}
    record = known.get(claim.finding)
    if record is None:
        return []
    name = task.finding(claim.finding).label("en")
    if not record.assessed or record.probability is None:
        return [
            Question(
                sentence=n,
                kind="not_assessed",
                asked=f"The images that were read cannot show {name}. Was it seen elsewhere?",
            )
        ]
    p = record.probability
    if claim.said == "absent":
        if p < POSSIBLE:
            return []
        asked = f"{name.capitalize()} is denied; its probability is {p:.2f}. Is it absent?"
        return [Question(sentence=n, kind="absence", asked=asked)]
    out = []
    if p < DENIED:
        asked = f"{name.capitalize()} is said to be there; its probability is {p:.2f}. Is it?"
        out.append(Question(sentence=n, kind="presence", asked=asked))
    lesions = _lesions(claim, prediction, task) if record.group == "focal" else []
    return out + _place(n, claim, name, lesions)


def _change(
    n: int, sentence: str, told: list[Claim], prediction: Prediction, task: Task, prior: Prior | None
) -> list[Question]:
    """The question where a change is spoken of that no earlier case proves."""
    why = unproven(sentence, told, prediction, task, prior) if told else ""
    asked = f"{why[:1].upper()}{why[1:]}. Compared with what?"
    return [Question(sentence=n, kind="change", asked=asked)] if why else []


def _lesions(claim: Claim, prediction: Prediction, task: Task) -> list[LesionRecord]:
    """Lesions of that finding, or else of one wider or narrower."""
    own = [x for x in prediction.lesions if x.finding == claim.finding]
    near = {*task.finding(claim.finding).derived_from, *(f.id for f in task.wider(claim.finding))}
    return own or [x for x in prediction.lesions if x.finding in near]


def _place(n: int, claim: Claim, name: str, lesions: list[LesionRecord]) -> list[Question]:
    """Side and size against the lesions that were outlined; nothing where none was."""
    out = []
    if asked := _other_side(claim, name, lesions):
        out.append(Question(sentence=n, kind="side", asked=asked))
    if asked := _other_size(claim, name, lesions):
        out.append(Question(sentence=n, kind="size", asked=asked))
    return out


def _other_side(claim: Claim, name: str, lesions: list[LesionRecord]) -> str:
    """The question where a lesion was outlined on the other side alone, else ""."""
    sides = {x.side for x in lesions} - {""}
    if not claim.side or not sides or claim.side in sides:
        return ""
    return f'Spoken "{claim.side}"; {name} was outlined on the {" and ".join(sorted(sides))}. Which side?'


def _other_size(claim: Claim, name: str, lesions: list[LesionRecord]) -> str:
    """The question where the nearest measured size is another one, else ""."""
    here = [x for x in lesions if not claim.side or x.side in ("", claim.side)] or lesions
    sizes = [x.long_axis_mm for x in here if x.long_axis_mm is not None]
    spoken = claim.size_mm
    if spoken is None or not sizes:
        return ""
    near = min(sizes, key=lambda mm: abs(mm - spoken))
    if abs(near - spoken) <= SIZE_TOLERANCE * near:
        return ""
    return f"Spoken {spoken:g} mm; {name} measures {near:.0f} mm. Which size?"


def _clashes(rows: list[DictatedSentence], graph: Graph) -> list[Question]:
    """Contradictions along the knowledge graph, asked at the later sentence."""
    place = {row.text: n for n, row in enumerate(rows)}
    out = []
    for found in contradictions([r.text for r in rows], graph):
        n = max(place[s] for s in found.sentences)
        other = min(place[s] for s in found.sentences)
        asked = f'{found.why[0].upper()}{found.why[1:]} (also: "{rows[other].text}"). Which holds?'
        out.append(Question(sentence=n, kind="contradiction", asked=asked))
    return out
