"""`medfuse bundle`: bundles of somebody else's, looked at and pinned before they are used."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..settings import settings
from .app import app, emit
from .options import Json

bundle_app = typer.Typer(no_args_is_help=True, help="Bundles that come from elsewhere: look, add, remove.")
app.add_typer(bundle_app, name="bundle")
Folder = Annotated[Path, typer.Argument(help="The folder of a bundle.")]


@bundle_app.command("show")
def bundle_show(folder: Folder, as_json: Json = False) -> None:
    """What a bundle asks and holds, and its SHA-256. Ends with 1 where it is none, or holds what no bundle
    does."""
    from ..workflows.bundles import show

    found = show(folder)
    emit(found.data, as_json, found.text)


@bundle_app.command("add")
def bundle_add(
    folder: Folder,
    name: Annotated[str, typer.Option(help="What it is called here; its folder's name without.")] = "",
    pin: Annotated[str, typer.Option(help="SHA-256 that its maker states; another bundle is refused.")] = "",
    as_json: Json = False,
) -> None:
    """Copy a bundle into the home and pin its SHA-256: one that is changed later is refused."""
    from ..workflows.bundles import add

    found = add(folder, settings().home, name=name, expected=pin)
    emit(found.data, as_json, found.text)


@bundle_app.command("list")
def bundle_list(as_json: Json = False) -> None:
    """Every bundle that a name finds, and the pins of those that were added."""
    from ..workflows.bundles import listed

    found = listed(settings().home)
    emit(found.data, as_json, found.text)


@bundle_app.command("remove")
def bundle_remove(
    name: Annotated[str, typer.Argument(help="Of a bundle that was added.")], as_json: Json = False
) -> None:
    """Take an added bundle out of the home."""
    from ..workflows.bundles import remove

    found = remove(name, settings().home)
    emit(found.data, as_json, found.text)
