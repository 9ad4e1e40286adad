"""`medfuse deidentify`: a copy without identity."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .app import app, emit, progress, verbosity
from .options import Json, Verbose


@app.command()
def deidentify(
    path: Annotated[Path, typer.Argument(help="A DICOM file or a folder of them.")],
    out: Annotated[Path, typer.Option(help="An empty folder for the copies and report.json.")],
    key: Annotated[
        Path | None, typer.Option(help="Secret file; default MEDFUSE_HOME/deidentify.key, made when missing.")
    ] = None,
    retain_uids: Annotated[bool, typer.Option(help="Keep UIDs as they are.")] = False,
    dates: Annotated[str, typer.Option(help="shift (same days for all of a patient) or remove.")] = "shift",
    descriptors: Annotated[str, typer.Option(help="clean (radiological words only) or remove.")] = "clean",
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """DICOM without the person: PS3.15 Basic Profile, keyed UIDs, ultrasound banners blacked out on every
    frame."""
    verbosity(verbose)
    from ..errors import WrongUse
    from ..settings import settings
    from ..workflows.deidentify import deidentify_command

    if dates not in ("shift", "remove") or descriptors not in ("clean", "remove"):
        raise WrongUse("--dates takes shift or remove, --descriptors takes clean or remove")
    result = deidentify_command(
        path,
        out,
        key=key or settings().home / "deidentify.key",
        retain_uids=retain_uids,
        shift=dates == "shift",
        clean=descriptors == "clean",
        progress=progress("de-identified"),
    )
    emit(result.data, as_json, result.text)
    raise typer.Exit(result.exit_code)
