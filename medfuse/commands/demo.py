"""`medfuse demo`: simulated patients through the whole road."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .app import app, emit, talk, verbosity
from .options import Json, Language, Port, Seed, Verbose


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where everything goes; the library is OUT/home.")] = Path("demo"),
    cases: Annotated[int, typer.Option(min=1, help="Simulated patients.")] = 3,
    seed: Seed = 7,
    language: Language = "en",
    viewer: Annotated[bool, typer.Option("--viewer/--no-viewer", help="Open the viewer at the end.")] = True,
    port: Port = 8501,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Simulate patients, write them as DICOM, then go the user's way: ingest, predict, report, library,
    viewer."""
    verbosity(verbose)
    from ..workflows.demo import run_demo

    result = run_demo(out, cases=cases, seed=seed, language=language, log=talk)
    lines = [f"{c.case_id}: {', '.join(c.modalities)}, {c.seconds:.1f} s, {c.folder}" for c in result.cases]
    emit(result.as_json(), as_json, "\n".join(lines))
    if viewer:
        from ..workflows.view import serve

        serve(port=port, home=out / "home", log=talk)
