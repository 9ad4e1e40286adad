"""What a model was not shown it may not say: sentences on other modalities leave before the checker."""

from __future__ import annotations

import re

from ..modalities import MODALITIES
from ..prediction import Prediction
from ..report import Check
from ..task import Task
from .labeller import Lexicon, sentence_claims
from .sections import split_sentences


def _names(code: str) -> re.Pattern[str]:
    """The words by which a report names a modality: its code as written, its names, and stems of what else it
    is called."""
    record = MODALITIES[code]
    words = {*record.word.values(), *record.aliases}
    exact = "|".join(re.escape(w) for w in words if w.isascii())
    parts = [rf"\b{code}\b", rf"(?i:\b(?:{exact})\b)", *(re.escape(w) for w in words if not w.isascii())]
    parts += [rf"(?i:\b{re.escape(stem)}\w*)" for stem in record.said]
    return re.compile("|".join(parts))


def only_shown(
    written: dict[str, str], shown: tuple[str, ...], prediction: Prediction, task: Task, lexicon: Lexicon
) -> tuple[dict[str, str], list[Check]]:
    """The sentences of each section that speak of what was shown, and why the others left: they name another
    modality, or a finding that nothing shown can judge."""
    others = {code: _names(code) for code in MODALITIES if code not in shown}
    kept: dict[str, str] = {}
    dropped: list[Check] = []
    for section, text in written.items():
        stays = []
        for sentence in split_sentences(text):
            why = _unseen(sentence, shown, others, prediction, task, lexicon)
            if why:
                dropped.append(Check(written=sentence, action="dropped", why=why, section=section))
            else:
                stays.append(sentence)
        kept[section] = "\n".join(stays)
    return kept, dropped


def _unseen(
    sentence: str,
    shown: tuple[str, ...],
    others: dict[str, re.Pattern[str]],
    prediction: Prediction,
    task: Task,
    lexicon: Lexicon,
) -> str:
    for code, names in others.items():
        if names.search(sentence):
            return f"it speaks of {code}, which the model was not shown"
    known = {f.id for f in task.findings}
    for claim in sentence_claims(sentence, lexicon):
        judged = prediction.finding(claim.finding).assessed_by if claim.finding in known else []
        if judged and not set(judged) & set(shown):
            return f"{claim.finding} is judged by {', '.join(judged)}, which the model was not shown"
    return ""


def as_text(sections: dict[str, str]) -> str:
    """Sections as one text again, under their headings."""
    return "\n".join(f"{name.upper()}: {text}" for name, text in sections.items() if text)
