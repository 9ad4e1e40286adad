"""`medfuse view`: the viewer."""

from __future__ import annotations

from typing import Annotated

import typer

from .app import app, talk, verbosity
from .options import Port, Verbose


@app.command()
def view(
    port: Port = 8501,
    address: Annotated[
        str, typer.Option(help="On another address than this machine's own, everybody signs in.")
    ] = "127.0.0.1",
    verbose: Verbose = 0,
) -> None:
    """Open the viewer on the library."""
    verbosity(verbose)
    from ..settings import settings
    from ..workflows.view import serve

    serve(port=port, home=settings().home, address=address, log=talk)
