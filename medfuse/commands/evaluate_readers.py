"""`medfuse evaluate-readers`: agreement of readers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .app import app, emit, verbosity
from .options import Json, Verbose


@app.command("evaluate-readers")
def evaluate_readers(
    ratings: Annotated[Path, typer.Argument(help="The CSV of medfuse export ratings, or of the viewer.")],
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """What readers said of reports: means by version, Krippendorff's alpha, and which automatic metric
    follows them."""
    verbosity(verbose)
    from ..evaluation.readers import read_ratings, reader_table, readers_markdown

    table = reader_table(read_ratings(ratings))
    emit(table.as_json(), as_json, readers_markdown(table))
