"""Commands that look things up: search."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .app import Json, Verbose, app, emit, verbosity


@app.command()
def search(
    words: Annotated[str | None, typer.Argument(help='Words, such as "simple cyst in the right lobe".')] = None,
    image: Annotated[Path | None, typer.Option(help="An image or folder to find similar cases for.")] = None,
    like: Annotated[str | None, typer.Option(help="A case of the library to find similar ones for.")] = None,
    query_modality: Annotated[str, typer.Option(help="Of --image or --like, take this modality alone.")] = "",
    modality: Annotated[str, typer.Option(help="Compare with this modality of each case alone (or joint).")] = "",
    finding: Annotated[str, typer.Option(help="Only cases where this finding was found.")] = "",
    top: Annotated[int, typer.Option(min=1)] = 10,
    bundle: str | None = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Predicted cases of the library by words, by an image, or like another case, in the shared space of a bundle."""
    verbosity(verbose)
    from ..search import Filters
    from ..search import search as run

    result = run(
        words, image, like, bundle=bundle, filters=Filters(modality, finding), query_modality=query_modality, top=top
    )
    text = [f"{r['score']:+.3f}  {r['case_id']}  ({r['modality']})" for r in result["results"]]
    text += [f"{t['probability']:.3f}  {t['text']}" for t in result.get("tags", [])]
    emit(result, as_json, "\n".join(text) or "No predicted case of this bundle in the library; see medfuse predict.")
