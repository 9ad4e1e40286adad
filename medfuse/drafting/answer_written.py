"""Answers to questions on a case: from its prediction, and by the learned writer where that does not do."""

from __future__ import annotations

import torch

from ..bundles.bundle import Bundle
from ..inference.predictor import Predicted
from ..models.writer import END, question_prefix, token_id
from .answer import Answered, answer_from, cannot_tell, language_of
from .check import check_sentence
from .labeller import task_lexicon


def answer(predicted: Predicted, bundle: Bundle, question: str) -> Answered:
    """One question on one predicted case."""
    known = answer_from(predicted.prediction, bundle.task, question, writer=bundle.writer is not None)
    return _written(predicted, bundle, question) if known is None else known


def _written(predicted: Predicted, bundle: Bundle, question: str) -> Answered:
    """The writer answers, and what it claims is checked like a sentence of a report."""
    language = language_of(question)
    assert bundle.writer is not None
    writer, tokenizer = bundle.writer
    if predicted.logits is None or tokenizer.token_to_id(f"[{language}]") is None:
        return cannot_tell(language, "writer", "the writer never saw this language")
    prefix = torch.tensor([question_prefix(tokenizer, language, question)])
    with torch.inference_mode():
        memory = writer.memory(predicted.fused, predicted.logits)
        (ids,) = writer.generate(prefix, memory, end=token_id(tokenizer, END), length=48)
    words = tokenizer.decode(ids, skip_special_tokens=True).strip()
    lexicon = task_lexicon(bundle.task)
    if not words or lexicon is None:
        return cannot_tell(language, "writer", "nothing that can be checked was written")
    verdict = check_sentence(words, predicted.prediction, bundle.task, lexicon)
    if verdict.action not in ("kept", "mended"):
        why = f"what the writer said is not supported: {verdict.why}"
        return cannot_tell(language, "writer", why)
    record = predicted.prediction.finding(verdict.claims[0].finding)
    return Answered(verdict.text, record.probability, record.evidence, "writer", verdict.why)
