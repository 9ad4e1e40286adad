"""One draft from one prediction: by the composer, by the bundle's own writer, or by a user's local language model; the last two checked."""

from __future__ import annotations

from pathlib import Path

import torch

from .case import Case
from .errors import UserError, WrongUse
from .models.bundle import Bundle
from .models.writer import END, TEXT, report_prefix, token_id
from .predict import Predicted
from .report import Report
from .reporting.check import checked_report
from .reporting.compose import compose
from .reporting.priors import Prior
from .reporting.templates import sentences

WRITERS = ("structured", "learned", "local-llm")


def check_writer(bundle: Bundle, writer: str, language: str, llm: Path | None) -> None:
    """Refuse what cannot work before any image is read."""
    sentences(bundle.task, language)
    if writer not in WRITERS:
        raise WrongUse(f"--writer {writer}: give one of {', '.join(WRITERS)}")
    if writer == "local-llm" and llm is None:
        raise WrongUse("--writer local-llm needs --llm: the folder of a causal language model")
    if writer == "learned":
        found = bundle.writer
        if found is None:
            raise WrongUse(
                f"bundle {bundle.name} has no learned writer; train one with medfuse train TASK --stage report --bundle {bundle.name}"
            )
        if found[1].token_to_id(f"[{language}]") is None:
            raise WrongUse(
                f"--language {language}: the writer of bundle {bundle.name} never saw it; use --writer structured"
            )


def written_words(bundle: Bundle, predicted: Predicted, language: str, *, beams: int = 3) -> str:
    """What the learned writer says, unchecked: sections under their headings. Needs a prediction inside the domain."""
    if bundle.writer is None or predicted.logits is None:
        raise UserError(f"bundle {bundle.name}: nothing to write from")
    writer, tokenizer = bundle.writer
    with torch.inference_mode():
        memory = writer.memory(predicted.fused, predicted.logits)
    prefix = torch.tensor([report_prefix(tokenizer, language)])
    (ids,) = writer.generate(prefix, memory, end=token_id(tokenizer, END), length=writer.config.length, beams=beams)
    start = token_id(tokenizer, TEXT)
    words = ids[ids.index(start) + 1 :] if start in ids else ids
    return tokenizer.decode(words, skip_special_tokens=True).strip()


def draft(
    predicted: Predicted, case: Case, bundle: Bundle, language: str = "en", *, writer: str = "structured", llm: Path | None = None,
    prior: Prior | None = None, device: str = "cpu",
) -> Report:  # fmt: skip
    """The report of a prediction. Outside the validated domain every writer leaves the word to the composer, which drafts nothing."""
    prediction = predicted.prediction
    if writer == "structured" or not prediction.in_domain:
        return compose(prediction, case, bundle.task, language, prior=prior)
    if writer == "learned":
        words = written_words(bundle, predicted, language)
    else:
        from .models.local_llm import HEADING, PROMPT, facts, write_locally

        assert llm is not None
        prompt = PROMPT.get(language, PROMPT["en"]).format(facts=facts(prediction, bundle.task, language))
        words = HEADING.get(language, HEADING["en"]) + " " + write_locally(llm, prompt, device=device)
    return checked_report(words, prediction, case, bundle.task, language, writer=writer, prior=prior)
