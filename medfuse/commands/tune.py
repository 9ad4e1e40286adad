"""`medfuse tune`: a bundle on what people signed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .app import app, emit, talk, verbosity
from .options import Json, Verbose

if TYPE_CHECKING:
    from ..workflows.tune import TuneResult


@app.command()
def tune(
    bundle: Annotated[str, typer.Argument(help="Folder or name of the bundle that drafted the reports.")],
    records: Annotated[Path, typer.Option(help="What medfuse export training-records wrote.")],
    out: Annotated[Path, typer.Option(help="Folder of the tuned bundle; must be new.")],
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Tune a bundle's findings on the sentences that people accepted, edited, rejected and added in this
    library; a gate on patients and readers held out decides, and the old bundle stays."""
    verbosity(verbose)
    from ..workflows.tune import tune_bundle

    result = tune_bundle(bundle, records, out)
    if result.unknown:
        talk(f"{len(result.unknown)} cases have no prediction of this bundle here and were left out")
    emit(result.as_json(), as_json, _text(result))
    raise typer.Exit(0 if result.accepted else 1)


def _text(result: TuneResult) -> str:
    rows = [
        f"{'pass' if r.passed else 'FAIL'}  {r.what}: {'' if r.before is None else f'{r.before} → '}{r.after}"
        for r in result.gate
    ]
    said = (
        f"accepted: {result.bundle}"
        if result.accepted
        else "refused: nothing was written, the old bundle stays"
    )
    return "\n".join([*rows, said])
