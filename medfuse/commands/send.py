"""`medfuse send`: results to a research destination."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from .app import app, emit, verbosity
from .options import Json, Verbose, takes


@dataclass(frozen=True, kw_only=True)
class SendArguments:
    """What a user may give to `medfuse send`."""

    case: Annotated[str, typer.Argument(help="A case of the library.")]
    to: Annotated[str, typer.Option(help="AET@HOST:PORT or a STOW-RS address.")]
    research: Annotated[
        bool,
        typer.Option(
            "--research", help="Also send an unsigned draft, as UNVERIFIED, to this research system."
        ),
    ] = False
    aet: Annotated[str, typer.Option(help="Our AE title.")] = "MEDFUSE"
    tls_ca: Annotated[
        Path | None, typer.Option(help="PEM CA that the node's certificate is of: send with TLS.")
    ] = None
    tls_cert: Annotated[
        Path | None, typer.Option(help="Our own PEM certificate, for nodes that ask for one.")
    ] = None
    tls_key: Annotated[Path | None, typer.Option(help="PEM key of that certificate.")] = None
    as_json: Json = False
    verbose: Verbose = 0


@app.command()
@takes(SendArguments)
def send(given: SendArguments) -> None:
    """Send the report of a case as DICOM SR, encapsulated PDF and SEG. Unsigned drafts need --research."""
    verbosity(given.verbose)
    from ..errors import WrongUse
    from ..io.names import plain_name
    from ..io.temporary import temporary_folder
    from ..library import Library
    from ..library.audit import record
    from ..network.client import shown
    from ..network.service import Destination
    from ..network.tls import tls_of
    from ..workflows.report import export_report, library_report

    case = given.case
    to = given.to
    library = Library()
    destination = Destination.parse(to, tls_of(given.tls_ca, given.tls_cert, given.tls_key))
    report = library_report(case, None)
    signed = report.state in ("final", "amended")
    if not signed and not given.research:
        raise WrongUse(
            f"{case}: the report is {report.state}, not signed; sign it, or say --research for a "
            "research system"
        )
    with temporary_folder("send") as folder:
        made = export_report(case, ("sr", "seg", "kos", "encapsulated"), folder)
        files = [folder / plain_name(case) / n for n in made.names]
        if not files:
            raise WrongUse(f"{case}: nothing to send: {'; '.join(made.problems)}")
        destination.send(files, given.aet)
    record(library, "report sent", case_id=case, where=shown(to), objects=len(made.names), signed=signed)
    emit(
        {"case_id": case, "sent": list(made.names), "not_made": list(made.problems)},
        given.as_json,
        f"sent {', '.join(made.names)} to {to}",
    )
