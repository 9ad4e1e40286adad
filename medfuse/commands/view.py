"""`medfuse view`: the viewer."""

from __future__ import annotations

from pathlib import Path
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
    tls_cert: Annotated[
        Path | None, typer.Option(help="PEM certificate, with those up to its CA: serve HTTPS alone.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM key of that certificate, no password.")] = None,
    verbose: Verbose = 0,
) -> None:
    """Open the viewer on the library."""
    verbosity(verbose)
    from ..errors import WrongUse
    from ..settings import settings
    from ..workflows.view import ServerTls, serve

    if (tls_cert is None) != (tls_key is None):
        raise WrongUse("--tls-cert and --tls-key belong together; give both, or neither behind a proxy")
    tls = ServerTls(tls_cert, tls_key) if tls_cert is not None and tls_key is not None else None
    serve(port=port, home=settings().home, address=address, tls=tls, log=talk)
