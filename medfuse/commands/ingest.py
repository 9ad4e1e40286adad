"""`medfuse ingest`: files, archives and PACS into the library."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .app import app, emit, progress, verbosity
from .options import Json, Verbose, Window, takes

if TYPE_CHECKING:
    from ..workflows.result import CommandResult

REMOTE = ("dicomweb:", "dimse:")


@dataclass(frozen=True, kw_only=True)
class IngestArguments:
    """What a user may give to `medfuse ingest`."""

    paths: Annotated[
        list[str],
        typer.Argument(
            help="Folders, files, zips, dicomweb:URL?PatientID=… or dimse:AET@HOST:PORT?StudyInstanceUID=…"
        ),
    ]
    export: Annotated[
        str | None, typer.Option(help="nifti: also write one NIfTI a readable image to --out.")
    ] = None
    out: Annotated[Path | None, typer.Option(help="Where --export writes.")] = None
    modality: Annotated[
        str, typer.Option(help="US: take Secondary Captures as ultrasound; they do not say what they are.")
    ] = ""
    deidentify: Annotated[
        bool, typer.Option("--deidentify", help="De-identify first; only the changed copies are added.")
    ] = False
    window: Window = 30
    ledger: Annotated[Path | None, typer.Option(help="Write what became of every file to this CSV.")] = None
    reread: Annotated[
        bool, typer.Option("--reread", help="Open files again that an earlier ingest saw unchanged.")
    ] = False
    aet: Annotated[str, typer.Option(help="For dimse: our AE title, as the remote node knows it.")] = (
        "MEDFUSE"
    )
    port: Annotated[int, typer.Option(help="For dimse: the port where we receive what it sends.")] = 11112
    tls_ca: Annotated[
        Path | None, typer.Option(help="For dimse: PEM CA that the node's certificate is of: fetch with TLS.")
    ] = None
    tls_cert: Annotated[
        Path | None, typer.Option(help="For dimse: our own PEM certificate; we receive with TLS then.")
    ] = None
    tls_key: Annotated[Path | None, typer.Option(help="PEM key of that certificate.")] = None
    as_json: Json = False
    verbose: Verbose = 0


@app.command()
@takes(IngestArguments)
def ingest(given: IngestArguments) -> None:
    """Add folders, files, zips or DICOMDIRs to the library. Every file is accounted for."""
    verbosity(given.verbose)
    from ..errors import WrongUse

    if given.export not in (None, "nifti"):
        raise WrongUse(f"--export {given.export}: only nifti can be exported")
    if given.export and given.out is None:
        raise WrongUse("--export needs --out: the folder to write to")
    remote = [p for p in given.paths if p.startswith(REMOTE)]
    result = _from_network(remote, given) if remote else _from_disk(given)
    emit(result.data, given.as_json, result.text)
    raise typer.Exit(result.exit_code)


def _from_network(sources: list[str], given: IngestArguments) -> CommandResult:
    """Fetch from DICOMweb addresses and DICOM nodes. Raises WrongUse where paths on disk are given too."""
    from ..errors import WrongUse
    from ..network.service import ingest_remote
    from ..network.tls import tls_of

    if given.export or given.deidentify or len(sources) < len(given.paths):
        raise WrongUse(
            "remote sources are ingested by themselves, without --export, --deidentify or local paths"
        )
    tls = tls_of(given.tls_ca, given.tls_cert, given.tls_key)
    return ingest_remote(
        sources, window=given.window, progress=progress, aet=given.aet, port=given.port, tls=tls
    )


def _from_disk(given: IngestArguments) -> CommandResult:
    """Folders, files, zips and DICOMDIRs."""
    from ..io.captures import checked
    from ..workflows.ingest import IngestRequest, ingest_command

    request = IngestRequest(
        paths=[Path(p) for p in given.paths],
        window=given.window,
        export=given.out if given.export else None,
        deidentify=given.deidentify,
        reuse=not given.reread,
        ledger=given.ledger,
        captures=checked(given.modality),
    )
    return ingest_command(request, progress=progress)
