"""`medfuse report`: a report of the library in another form or language."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..exports.registry import FORMATS, formats_named
from .app import app, emit, talk, verbosity
from .options import Json, Probabilities, Style, Verbose


@app.command()
def report(
    case: Annotated[str, typer.Argument(help="A case of the library.")],
    file_format: Annotated[str, typer.Option("--format", help=f"{', '.join(FORMATS)} or all.")] = "text",
    out: Annotated[
        Path | None, typer.Option(help="Folder for the files; text and JSON go to stdout without it.")
    ] = None,
    language: Annotated[str | None, typer.Option(help="Compose the draft in this language.")] = None,
    style: Style = "",
    probabilities: Probabilities = "",
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """The newest report of a case in the library, in any format."""
    verbosity(verbose)
    from ..drafting.styles import Wish
    from ..exports.text import report_text
    from ..io.names import plain_name
    from ..library import Library
    from ..library.audit import record
    from ..workflows.report import export_report, library_report, signed_off

    formats = formats_named(file_format)
    if as_json and out is None and formats == ("text",):
        formats = ("json",)
    wish = Wish(style=style, probabilities=probabilities)
    if out is None and formats in (("text",), ("json",)):
        library = Library()
        found = library_report(case, language, library=library, wish=wish)
        record(library, "report printed", case_id=case, state=found.state, version=found.version)
        if formats == ("text",):
            print(report_text(found, signed_off(found, library)))
        else:
            print(found.model_dump_json(indent=1))
        return
    folder = out or Path("medfuse-out")
    made = export_report(case, formats, folder, language, wish=wish)
    for problem in made.problems:
        talk(f"medfuse: {problem}")
    files = [str(folder / plain_name(case) / n) for n in made.names]
    emit({"files": files, "not_made": list(made.problems)}, as_json, "\n".join(files))
    raise typer.Exit(0 if not made.problems else 3 if made.names else 1)
