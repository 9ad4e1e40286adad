"""Commands on words and those who read them: evaluate-text, evaluate-readers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .app import Json, Verbose, app, emit, verbosity


@app.command("evaluate-text")
def evaluate_text(
    hypothesis: Annotated[Path, typer.Argument(help="Texts: one a line, or JSON {id: text}.")],
    references: Annotated[list[Path], typer.Argument(help="One or several files with the same lines or ids.")],
    tokenizer: Annotated[str, typer.Option(help="ptb (as COCO) or whitespace (as R2Gen).")] = "ptb",
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """BLEU-1..4, METEOR, ROUGE-L and CIDEr of texts against references, with the signature of how they were scored."""
    verbosity(verbose)
    from ..evaluation.text import METRICS, evaluate_files

    scores = evaluate_files(hypothesis, references, tokenizer=tokenizer)
    emit(scores, as_json, "\n".join([f"{k:8} {scores[k]:.4f}" for k in METRICS] + [scores["signature"]]))


@app.command("evaluate-readers")
def evaluate_readers(
    ratings: Annotated[Path, typer.Argument(help="The CSV of medfuse export ratings, or of the viewer.")],
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """What readers said of reports: means by version, Krippendorff's alpha, and which automatic metric follows them."""
    verbosity(verbose)
    from ..evaluation.readers import read_ratings, reader_table, readers_markdown

    table = reader_table(read_ratings(ratings))
    emit(table, as_json, readers_markdown(table))
