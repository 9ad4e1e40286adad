"""One draft from one prediction: by the composer, by the bundle's own writer, or by a user's local language
model; the last two checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from ..bundles.bundle import Bundle
from ..case import Case
from ..errors import UserError, WrongUse
from ..inference.predictor import Predicted
from ..models.writer import END, report_prefix, token_id
from ..prediction import Prediction
from ..report import Check, Report, WrittenBy
from ..task import Task
from .check import checked_report
from .claims import claims_of
from .compose import ANY, Wish, compose
from .labeller import task_lexicon
from .priors import Prior
from .report_model import is_report_model, read_report_model
from .sections import parse_sections
from .shown import as_text, only_shown
from .templates import sentences


@dataclass(frozen=True)
class LocalModel:
    """The folder of a causal language model, and the device that it writes on."""

    folder: Path | None
    device: str = "cpu"


WRITERS = ("structured", "learned", "local-llm")


def check_writer(bundle: Bundle, writer: str, language: str, llm: Path | None) -> None:
    """Refuse what cannot work before any image is read."""
    sentences(bundle.task, language)
    if writer not in WRITERS:
        raise WrongUse(f"--writer {writer}: give one of {', '.join(WRITERS)}")
    if writer == "local-llm" and llm is None:
        raise WrongUse("--writer local-llm needs --llm: the folder of a causal language model")
    if writer == "local-llm" and llm is not None and is_report_model(llm):
        read_report_model(llm)
    if writer == "learned":
        found = bundle.writer
        if found is None:
            raise WrongUse(
                f"bundle {bundle.name} has no learned writer; train one with medfuse train TASK "
                f"--stage report --bundle {bundle.name}"
            )
        if found[1].token_to_id(f"[{language}]") is None:
            raise WrongUse(
                f"--language {language}: the writer of bundle {bundle.name} never saw it; use --writer "
                "structured"
            )


def written_words(bundle: Bundle, predicted: Predicted, language: str, *, beams: int = 3) -> str:
    """What the learned writer says of the claims, unchecked: sections under their headings. It reads the
    fused tokens too. Needs a prediction inside the domain."""
    if bundle.writer is None or predicted.logits is None:
        raise UserError(f"bundle {bundle.name}: nothing to write from")
    writer, tokenizer = bundle.writer
    with torch.inference_mode():
        memory = writer.memory(predicted.fused, predicted.logits)
    prefix = torch.tensor([report_prefix(tokenizer, language, _claimed(predicted.prediction, bundle.task))])
    (ids,) = writer.generate(
        prefix, memory, end=token_id(tokenizer, END), length=writer.config.length, beams=beams
    )
    return tokenizer.decode(ids, skip_special_tokens=True).strip()


def _claimed(prediction: Prediction, task: Task) -> list[str] | None:
    """The findings that are claimed, in the task's order; None where none was looked for."""
    if not prediction.findings:
        return None
    claimed = {c.finding for c in claims_of(prediction, task) if c.claimed and not c.lesions}
    return [f.id for f in task.findings if f.id in claimed]


def _from_images(
    local: LocalModel,
    prediction: Prediction,
    case: Case,
    task: Task,
    language: str,
    *,
    prior: Prior | None,
    wish: Wish,
) -> Report:
    """What a model writes that is shown the images: first what it was not shown leaves, then all is
    checked."""
    from .image_llm import draft_from_images

    assert local.folder is not None
    lexicon = task_lexicon(task)
    words = ""
    dropped: list[Check] = []
    by: WrittenBy | None = None
    if lexicon is not None:  # else nothing could be checked, so nothing is asked
        made = draft_from_images(local.folder, prediction, case, task, language, device=local.device)
        by = made.by
        kept, dropped = only_shown(parse_sections(made.words), tuple(by.shown), prediction, task, lexicon)
        words = as_text(kept)
    report = checked_report(
        words, prediction, case, task, language, writer="local-llm", prior=prior, wish=wish
    )
    report.written_by = by
    report.provenance = [*dropped, *report.provenance]
    return report


def draft(
    predicted: Predicted | Prediction,
    case: Case,
    bundle: Bundle,
    language: str = "en",
    *,
    writer: str = "structured",
    llm: LocalModel | Path | None = None,
    prior: Prior | None = None,
    wish: Wish = ANY,
) -> Report:
    """The report of a prediction. Outside the validated domain every writer leaves the word to the composer,
    which drafts nothing.

    predicted: a `Prediction`, or for writer learned all of `Predictor.details`. llm: the folder of a causal
    language model, for writer local-llm. wish: style and probabilities. Raises UserError where a
    writer has nothing to write from.
    """
    if isinstance(predicted, Prediction):
        predicted = Predicted(predicted, [])
    prediction = predicted.prediction
    if writer == "structured" or not prediction.in_domain:
        return compose(prediction, case, bundle.task, language, prior=prior, wish=wish)
    if writer == "learned":
        words = written_words(bundle, predicted, language)
    else:
        from .local_llm import HEADING, PROMPT, facts, write_locally

        local = llm if isinstance(llm, LocalModel) else LocalModel(llm)
        assert local.folder is not None
        if is_report_model(local.folder):
            return _from_images(local, prediction, case, bundle.task, language, prior=prior, wish=wish)
        prompt = PROMPT.get(language, PROMPT["en"]).format(facts=facts(prediction, bundle.task, language))
        words = (
            HEADING.get(language, HEADING["en"])
            + " "
            + write_locally(local.folder, prompt, device=local.device)
        )
    return checked_report(
        words, prediction, case, bundle.task, language, writer=writer, prior=prior, wish=wish
    )
