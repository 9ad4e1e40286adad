"""`medfuse evaluate-text`: metrics of words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .app import app, emit, verbosity
from .options import Json, Verbose


@app.command("evaluate-text")
def evaluate_text(
    hypothesis: Annotated[Path, typer.Argument(help="Texts: one a line, or JSON {id: text}.")],
    references: Annotated[
        list[Path], typer.Argument(help="One or several files with the same lines or ids.")
    ],
    tokenizer: Annotated[str, typer.Option(help="ptb (as COCO) or whitespace (as R2Gen).")] = "ptb",
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """BLEU-1..4, METEOR, ROUGE-L and CIDEr of texts against references, with the signature of how they were
    scored."""
    verbosity(verbose)
    from ..evaluation.text_metrics import METRICS, evaluate_files

    scores = evaluate_files(hypothesis, references, tokenizer=tokenizer)
    numbers = scores.model_dump(include=set(METRICS))
    text = "\n".join([f"{k:8} {numbers[k]:.4f}" for k in METRICS] + [scores.signature])
    emit(scores.as_json(), as_json, text)
