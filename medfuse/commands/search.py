"""`medfuse search`: words, an image or a case against the library."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .app import app, emit, verbosity
from .options import Bundle, Json, Verbose, takes

if TYPE_CHECKING:
    from ..workflows.search_request import Meant


@dataclass(frozen=True, kw_only=True)
class SearchArguments:
    """What a user may give to `medfuse search`."""

    words: Annotated[str | None, typer.Argument(help='Words, such as "simple cyst in the right lobe".')] = (
        None
    )
    image: Annotated[Path | None, typer.Option(help="An image or folder to find similar cases for.")] = None
    like: Annotated[str | None, typer.Option(help="A case of the library to find similar ones for.")] = None
    query_modality: Annotated[str, typer.Option(help="Of --image or --like, take this modality alone.")] = ""
    modality: Annotated[
        str, typer.Option(help="Compare with this modality of each case alone (or joint).")
    ] = ""
    finding: Annotated[str, typer.Option(help="Only cases where this finding was found.")] = ""
    by: Annotated[
        Literal["claims", "space"],
        typer.Option(help="Rank words by what they claim where they name it (claims), or as words (space)."),
    ] = "claims"
    top: Annotated[int, typer.Option(min=1, help="So many cases, the nearest first.")] = 10
    bundle: Bundle = None
    as_json: Json = False
    verbose: Verbose = 0


@app.command()
@takes(SearchArguments)
def search(given: SearchArguments) -> None:
    """Predicted cases of the library by words, by an image, or like another case, in the shared space of a
    bundle."""
    verbosity(given.verbose)
    from ..workflows.search import search as run
    from ..workflows.search_request import SearchRequest

    request = SearchRequest(
        words=given.words,
        image=given.image,
        like=given.like,
        query_modality=given.query_modality,
        modality=given.modality,
        finding=given.finding,
        by=given.by,
        top=given.top,
        bundle=given.bundle,
    )
    result = run(request)
    text = [f"# {_said(m)}" for m in result.meant or ()]
    for r in result.results:
        claim = "" if r.claims is None else f"{r.claims:.3f}  "
        text.append(f"{claim}{r.score:+.3f}  {r.case_id}  ({r.modality}{', ' * bool(r.finding)}{r.finding})")
    text += [f"{t.probability:.3f}  {t.text}" for t in result.tags or ()]
    if not result.results:
        text.append("No predicted case of this bundle in the library; see medfuse predict.")
    emit(result.as_json(), given.as_json, "\n".join(text))


def _said(meant: Meant) -> str:
    """One line: what the words were taken to ask for."""
    which = " or ".join(meant.findings)
    side = f" on the {meant.side}" if meant.side else ""
    return f"{'without ' if meant.absent else ''}{which}{side}, shown by {', '.join(meant.shown_by)}"
