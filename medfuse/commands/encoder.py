"""`medfuse encoder`: encoders that a user has on disk, checked before they are used."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..settings import settings
from .app import app, device_of, emit, verbosity
from .options import Device, Json, Verbose

encoder_app = typer.Typer(no_args_is_help=True, help="Pretrained encoders from a local folder.")
app.add_typer(encoder_app, name="encoder")
Name = Annotated[str, typer.Argument(help="The encoder's id.")]


@encoder_app.command("add")
def encoder_add(
    folder: Annotated[Path, typer.Argument(help="Holds encoder.yaml and the weights, which stay there.")],
    device: Device = "auto",
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Check an encoder (tensors, width, known vector, axes, unit) and make it known by its id. Ends with 1
    where a check fails."""
    verbosity(verbose)
    from ..workflows.encoders import add

    found = add(folder, settings().home, device=device_of(device))
    emit(found.data, as_json, found.text)


@encoder_app.command("check")
def encoder_check(
    name: Name,
    record: Annotated[
        bool, typer.Option("--record", help="First write the file of the known answer beside the weights.")
    ] = False,
    device: Device = "auto",
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """All checks of an encoder again; its weights must be those that were added."""
    verbosity(verbose)
    from ..workflows.encoders import check

    found = check(name, settings().home, device=device_of(device), keep=record)
    emit(found.data, as_json, found.text)


@encoder_app.command("list")
def encoder_list(as_json: Json = False) -> None:
    """Every encoder with its modality, loader, width, licence and folder."""
    from ..workflows.encoders import listed

    found = listed(settings().home)
    emit(found.data, as_json, found.text)


@encoder_app.command("remove")
def encoder_remove(name: Name, as_json: Json = False) -> None:
    """Forget an encoder; its folder stays as it is."""
    from ..workflows.encoders import remove

    found = remove(name, settings().home)
    emit(found.data, as_json, found.text)


@encoder_app.command("embed")
def encoder_embed(
    name: Name,
    path: Annotated[Path, typer.Argument(help="A case: DICOM folder, NIfTI file or picture.")],
    device: Device = "auto",
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Tokens of a case's series: their shape, and with --json the mean token."""
    verbosity(verbose)
    from ..workflows.encoders import embed

    found = embed(name, path, settings().home, device=device_of(device))
    emit(found.data, as_json, found.text)


@encoder_app.command("template")
def encoder_template(
    name: Annotated[str, typer.Argument(help="Of a known model; without it, all names.")] = "",
    as_json: Json = False,
) -> None:
    """Print the encoder.yaml of a known model, to be saved beside its weights."""
    from ..workflows.encoders import template

    found = template(name)
    emit(found.data, as_json, found.text)
