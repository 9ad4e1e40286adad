"""Questions and answers from reports: closed ones on presence, open ones on side and size. Works on any
manifest with reports."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...drafting.labeller import Lexicon, claims
from ...drafting.phrases import CANNOT_TELL, SIDES, YES_NO
from ...task import Task

CLOSED = {
    "en": ["Is there {name}?", "Is {name} present?", "Does the study show {name}?", "Any sign of {name}?"],
    "zh-TW": ["有{name}嗎？", "是否有{name}？", "影像是否顯示{name}？"],
}
SIDE = {
    "en": ["Which side is the {name} on?", "Where is the {name}?", "In which lobe is the {name}?"],
    "zh-TW": ["{name}位於哪一側？", "{name}在哪裡？"],
}
SIZE = {
    "en": ["How large is the {name}?", "What is the size of the {name}?", "How big is the {name}?"],
    "zh-TW": ["{name}多大？", "{name}的大小為何？"],
}


@dataclass(frozen=True)
class Question:
    question: str
    answer: str
    closed: int = -1  # class of the closed-question head, -1 for open questions


def questions_of(
    rng: np.random.Generator,
    report: str,
    labels: np.ndarray,
    task: Task,
    lexicon: Lexicon | None,
    language: str,
    most: int = 6,
) -> list[Question]:
    """A few questions that a report answers; ``labels`` (F,) of 0, 1, -1 (unknown: cannot tell)."""
    out: list[Question] = []
    order = rng.permutation(len(task.findings))
    # as many yes as no, where there are any
    chosen = sorted(order, key=lambda f: labels[f] != 1)[:2] + [int(f) for f in order[:2]]
    for f in dict.fromkeys(chosen):
        name = task.findings[f].label(language)
        answer = CANNOT_TELL[language] if labels[f] < 0 else YES_NO[language][labels[f]]
        text = str(rng.choice(CLOSED[language])).format(name=name)
        out.append(Question(text, answer, 2 if labels[f] < 0 else int(labels[f])))
    for claim in claims(report, lexicon) if lexicon else []:
        if claim.said == "absent" or claim.finding not in {f.id for f in task.findings}:
            continue
        name = task.finding(claim.finding).label(language)
        if claim.side:
            out.append(
                Question(str(rng.choice(SIDE[language])).format(name=name), SIDES[language][claim.side])
            )
        if claim.size_mm:
            out.append(Question(str(rng.choice(SIZE[language])).format(name=name), f"{claim.size_mm:.0f} mm"))
    return out if len(out) <= most else [out[i] for i in rng.permutation(len(out))[:most]]
