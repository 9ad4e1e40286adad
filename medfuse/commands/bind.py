"""`medfuse bind`: one more sense for a bundle, through claims."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .app import app, emit, progress
from .options import Json, LabelledManifest, Seed


@app.command()
def bind(
    bundle: Annotated[str, typer.Argument(help="Folder or name of a bundle.")],
    sense: Annotated[str, typer.Option(help="The sense to add: LABS, TEXT or AUDIO.")],
    manifest: LabelledManifest,
    out: Annotated[Path, typer.Option(help="Folder of the new bundle; must be new.")],
    minutes: Annotated[float, typer.Option(min=0.1, help="Time for the training, at most.")] = 10.0,
    seed: Seed = 1,
    as_json: Json = False,
) -> None:
    """Bind a further sense to a bundle through claims; all other weights stay as they are. Prints how well it
    finds every other sense of a patient, and is found by it."""
    from ..evaluation.markdown import space_rows
    from ..workflows.bind import bind as run

    result = run(bundle, sense, manifest, out, seed=seed, minutes=minutes, progress=progress("encoded"))
    emit(result.as_json(), as_json, "\n".join([result.bundle, *space_rows(result.space)]))
    raise typer.Exit(3 if result.refused else 0)
