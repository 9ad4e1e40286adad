"""`medfuse generate`: synthetic images from claims or from other images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from .app import app, emit, verbosity
from .options import Json, Seed, Verbose, takes


@dataclass(frozen=True, kw_only=True)
class GenerateArguments:
    """What a user may give to `medfuse generate`."""

    bundle: Annotated[str, typer.Argument(help="Folder or name of a bundle with a generator.")]
    out: Annotated[Path, typer.Option(help="Folder for the images and provenance.json.")]
    claims: Annotated[str, typer.Option(help='What the images are to show: "simple cyst, no ascites".')] = ""
    given: Annotated[
        Path | None, typer.Option("--from", help="A case whose images are given: folder, zip or file.")
    ] = None
    to: Annotated[list[str] | None, typer.Option(help="Modality to make; may be given again.")] = None
    seed: Seed = 1
    file_format: Annotated[str, typer.Option("--format", help="nifti or dicom.")] = "nifti"
    as_json: Json = False
    verbose: Verbose = 0


@app.command()
@takes(GenerateArguments)
def generate(given: GenerateArguments) -> None:
    """Make synthetic images from claims, or a modality from those that a case has. They are marked SYNTHETIC:
    never evidence, never a measurement."""
    verbosity(given.verbose)
    from ..workflows.generate import GenerateRequest
    from ..workflows.generate import generate as run

    request = GenerateRequest(
        bundle=given.bundle,
        out=given.out,
        claims=given.claims,
        given=given.given,
        to=tuple(given.to or ()),
        seed=given.seed,
        file_format=given.file_format,
    )
    result = run(request)
    emit(result.as_json(), given.as_json, "\n".join(result.files))
