"""`medfuse fuse`: two images as one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .app import app, emit, verbosity
from .options import Json, Verbose


@app.command()
def fuse(
    images: Annotated[
        list[Path], typer.Argument(help="Two or three registered pictures, NIfTI files or DICOM folders.")
    ],
    out: Annotated[Path, typer.Option(help="FILE.png, .nii.gz or .dcm.")],
    method: Annotated[str, typer.Option(help="learned, max, average, laplacian or guided.")] = "learned",
    weights: Annotated[Path | None, typer.Option(help="Other weights than those shipped.")] = None,
    registration: Annotated[
        Path | None, typer.Option(help="Folder of medfuse register: brings the second onto the first.")
    ] = None,
    role: Annotated[list[str] | None, typer.Option(help="Which series of each image, in order.")] = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """One picture from registered images. Its values are for looking, never for measuring."""
    verbosity(verbose)
    from ..workflows.fuse import FuseRequest, fuse_command

    request = FuseRequest(
        sources=images,
        out=out,
        method=method,
        weights=weights,
        registration=registration,
        roles=role or [],
    )
    result = fuse_command(request)
    emit(result.data, as_json, result.text)
    raise typer.Exit(result.exit_code)
