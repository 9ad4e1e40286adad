"""`medfuse node`: a DICOM node."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .app import app, talk, verbosity
from .options import Bundle, Language, Port, Verbose, takes

if TYPE_CHECKING:
    from ..network.node import NodeOptions
    from ..network.tls import Tls


@dataclass(frozen=True, kw_only=True)
class NodeArguments:
    """What a user may give to `medfuse node`."""

    aet: Annotated[str, typer.Option(help="Our AE title.")] = "MEDFUSE"
    port: Port = 11112
    address: Annotated[str, typer.Option(help="127.0.0.1, or an open address with an allow-list.")] = (
        "127.0.0.1"
    )
    allow_aet: Annotated[
        list[str] | None,
        typer.Option(help="Calling AE titles that may connect; proves nothing by itself, name networks too."),
    ] = None
    any_called_aet: Annotated[
        bool, typer.Option("--any-called-aet", help="Also answer to other AE titles than ours.")
    ] = False
    allow_address: Annotated[
        list[str] | None, typer.Option(help="Networks that may connect, such as 10.1.0.0/16.")
    ] = None
    peer: Annotated[
        list[str] | None, typer.Option(help="AET@HOST:PORT that C-MOVE and commitment results may go to.")
    ] = None
    predict: Annotated[bool, typer.Option("--predict", help="Predict cases that have gone quiet.")] = False
    research: Annotated[
        list[str] | None,
        typer.Option(help="AET@HOST:PORT or a STOW-RS address that UNVERIFIED results may be sent to."),
    ] = None
    out: Annotated[Path, typer.Option(help="With --predict: where results go.")] = Path("medfuse-out")
    quiet: Annotated[
        float, typer.Option(min=0.1, help="Seconds without a new object after which a patient is filed.")
    ] = 30.0
    bundle: Bundle = None
    language: Language = "en"
    project: Annotated[
        list[str] | None,
        typer.Option(help="Projects whose cases peers may query and fetch; the default one without."),
    ] = None
    tls_cert: Annotated[Path | None, typer.Option(help="PEM certificate: listen with TLS.")] = None
    tls_key: Annotated[Path | None, typer.Option(help="PEM key of that certificate.")] = None
    tls_ca: Annotated[Path | None, typer.Option(help="PEM CA: clients must show a certificate of it.")] = None
    peer_tls: Annotated[
        bool,
        typer.Option(
            "--peer-tls", help="Call peers and research nodes with TLS too, by the same three files."
        ),
    ] = False
    associations: Annotated[int, typer.Option(min=1, help="At most so many at a time.")] = 40
    health_port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Also serve /healthz and Prometheus' /metrics on 127.0.0.1."),
    ] = None
    verbose: Verbose = 0


@app.command()
@takes(NodeArguments)
def node(given: NodeArguments) -> None:
    """Receive from scanners and PACS: DICOM storage, query, retrieve, commitment. Runs until it is
    stopped."""
    verbosity(given.verbose)
    import signal
    import threading
    from contextlib import ExitStack

    from ..errors import WrongUse
    from ..network.node import Node
    from ..network.probes import probes
    from ..network.service import Destination, Service
    from ..network.tls import tls_of

    tls = tls_of(given.tls_ca, given.tls_cert, given.tls_key) if given.peer_tls else None
    if given.peer_tls and tls is None:
        raise WrongUse("--peer-tls needs --tls-ca: the CA that the peers' certificates are of")
    options = _options(given, tls)
    if given.predict:
        _check_outputs(given)
    service = Service(
        quiet_s=given.quiet,
        predict=given.predict,
        out=given.out,
        bundle=given.bundle,
        language=given.language,
        aet=given.aet,
        talk=talk,
        destinations=tuple(Destination.parse(d, tls) for d in given.research or ()),
    )
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    running = Node(options)
    try:
        with ExitStack() as beside:
            if given.health_port is not None:
                beside.enter_context(probes(service.library, given.health_port))
            running.start()
            talk(f"ready: {given.aet} on {given.address}:{given.port}")
            service.run(stop)
    finally:
        running.stop()


def _options(given: NodeArguments, tls: Tls | None) -> NodeOptions:
    """How the node listens, and where it may send to."""
    from ..network.node import NodeOptions, Peer

    return NodeOptions(
        aet=given.aet,
        port=given.port,
        address=given.address,
        allow_aets=tuple(given.allow_aet or ()),
        allow_addresses=tuple(given.allow_address or ()),
        destinations=tuple(Peer.parse(p, tls) for p in given.peer or ()),
        certificate=given.tls_cert,
        key=given.tls_key,
        authority=given.tls_ca,
        associations=given.associations,
        any_called_aet=given.any_called_aet,
        projects=tuple(given.project or ("default",)),
    )


def _check_outputs(given: NodeArguments) -> None:
    """A wrong bundle, language or folder is refused now, not when the first study has come."""
    from ..bundles.bundle import load_bundle
    from ..drafting.draft import check_writer
    from ..workflows.outputs import check_folder

    check_writer(load_bundle(given.bundle), "structured", given.language, None)
    check_folder(given.out)
