"""`medfuse demo`: simulated patients, or real ones of a public set, through the whole road."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from .app import app, emit, talk, verbosity
from .options import Json, Language, Port, Seed, Verbose, takes


@dataclass(frozen=True, kw_only=True)
class DemoArguments:
    """What a user may give to `medfuse demo`."""

    out: Annotated[Path, typer.Option(help="Where everything goes; the library is OUT/home.")] = Path("demo")
    real: Annotated[
        Path | None,
        typer.Option(
            help="A copy of the public soft-tissue sarcoma set (docs/real.md): its patients, not simulated "
            "ones."
        ),
    ] = None
    cases: Annotated[int, typer.Option(min=1, help="Patients.")] = 3
    seed: Seed = 7
    language: Language = "en"
    viewer: Annotated[bool, typer.Option("--viewer/--no-viewer", help="Open the viewer at the end.")] = True
    port: Port = 8501
    as_json: Json = False
    verbose: Verbose = 0


@app.command()
@takes(DemoArguments)
def demo(given: DemoArguments) -> None:
    """Simulate patients, write them as DICOM, then go the user's way: ingest, predict, report, library,
    viewer. With --real, patients of a public set that you have take their place."""
    verbosity(given.verbose)
    if given.real is not None:
        from ..workflows.demo_real import run_real_demo

        result = run_real_demo(given.real, given.out, cases=given.cases, language=given.language, log=talk)
    else:
        from ..workflows.demo import run_demo

        result = run_demo(given.out, cases=given.cases, seed=given.seed, language=given.language, log=talk)
    lines = [f"{c.case_id}: {', '.join(c.modalities)}, {c.seconds:.1f} s, {c.folder}" for c in result.cases]
    emit(result.as_json(), given.as_json, "\n".join(lines))
    if given.viewer:
        from ..workflows.view import serve

        serve(port=given.port, home=given.out / "home", log=talk)
