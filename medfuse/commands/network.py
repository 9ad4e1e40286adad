"""Commands on the network: node, send."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .app import Json, Verbose, app, emit, talk, verbosity


@app.command()
def node(
    aet: Annotated[str, typer.Option(help="Our AE title.")] = "MEDFUSE",
    port: int = 11112,
    address: Annotated[str, typer.Option(help="127.0.0.1, or an open address with an allow-list.")] = "127.0.0.1",
    allow_aet: Annotated[list[str] | None, typer.Option(help="Calling AE titles that may connect.")] = None,
    allow_address: Annotated[
        list[str] | None, typer.Option(help="Networks that may connect, such as 10.1.0.0/16.")
    ] = None,
    peer: Annotated[
        list[str] | None, typer.Option(help="AET@HOST:PORT that C-MOVE and commitment results may go to.")
    ] = None,
    predict: Annotated[bool, typer.Option("--predict", help="Predict cases that have gone quiet.")] = False,
    research: Annotated[
        list[str] | None,
        typer.Option(help="AET@HOST:PORT or a STOW-RS address that UNVERIFIED results may be sent to."),
    ] = None,
    out: Annotated[Path, typer.Option(help="With --predict: where results go.")] = Path("medfuse-out"),
    quiet: Annotated[
        float, typer.Option(min=0.1, help="Seconds without a new object after which a patient is filed.")
    ] = 30.0,
    bundle: Annotated[str | None, typer.Option(help="Folder or name of a bundle.")] = None,
    language: str = "en",
    tls_cert: Annotated[Path | None, typer.Option(help="PEM certificate: listen with TLS.")] = None,
    tls_key: Path | None = None,
    tls_ca: Annotated[Path | None, typer.Option(help="PEM CA: clients must show a certificate of it.")] = None,
    associations: Annotated[int, typer.Option(min=1, help="At most so many at a time.")] = 40,
    verbose: Verbose = 0,
) -> None:
    """Receive from scanners and PACS: DICOM storage, query, retrieve, commitment. Runs until it is stopped."""
    verbosity(verbose)
    import signal
    import threading

    from ..network.node import Node, NodeOptions, Peer
    from ..network.service import Destination, Service
    from ..pipeline import PredictOptions

    options = NodeOptions(
        aet, port, address, tuple(allow_aet or ()), tuple(allow_address or ()), tuple(Peer.parse(p) for p in peer or ()),
        tls_cert, tls_key, tls_ca, associations,
    )  # fmt: skip
    service = Service(
        quiet, predict=predict, out=out, bundle=bundle, options=PredictOptions(language), aet=aet, talk=talk,
        destinations=tuple(Destination.parse(d) for d in research or ()),
    )  # fmt: skip
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    running = Node(options)
    try:
        running.start()
        talk(f"ready: {aet} on {address}:{port}")
        service.run(stop)
    finally:
        running.stop()


@app.command()
def send(
    case: str,
    to: Annotated[str, typer.Option(help="AET@HOST:PORT or a STOW-RS address.")],
    research: Annotated[
        bool, typer.Option("--research", help="Also send an unsigned draft, as UNVERIFIED, to this research system.")
    ] = False,
    aet: str = "MEDFUSE",
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Send the report of a case as DICOM SR, encapsulated PDF and SEG. Unsigned drafts need --research."""
    verbosity(verbose)
    import tempfile

    from ..errors import WrongUse
    from ..library.audit import record
    from ..network.service import Destination
    from ..pipeline import export_report, library_report

    report = library_report(case, None)
    signed = report.state in ("final", "amended")
    if not signed and not research:
        raise WrongUse(
            f"{case}: the report is {report.state}, not signed; sign it, or say --research for a research system"
        )
    with tempfile.TemporaryDirectory(prefix="medfuse-send-") as folder:
        names, problems = export_report(case, ("sr", "seg", "encapsulated"), Path(folder))
        files = [Path(folder) / case / n for n in names]
        if not files:
            raise WrongUse(f"{case}: nothing to send: {'; '.join(problems)}")
        Destination.parse(to).send(files, aet)
    record("report sent", case_id=case, where=to, objects=len(names), signed=signed)
    emit({"case_id": case, "sent": names, "not_made": problems}, as_json, f"sent {', '.join(names)} to {to}")
