"""Commands on files and the library: ingest, cases, deidentify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .app import Json, Verbose, app, emit, progress, verbosity


@app.command()
def ingest(
    paths: Annotated[
        list[str],
        typer.Argument(help="Folders, files, zips, dicomweb:URL?PatientID=… or dimse:AET@HOST:PORT?StudyInstanceUID=…"),
    ],
    export: Annotated[str | None, typer.Option(help="nifti: also write one NIfTI a readable image to --out.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where --export writes.")] = None,
    deidentify: Annotated[
        bool, typer.Option("--deidentify", help="De-identify first; only the changed copies are added.")
    ] = False,
    window: Annotated[int, typer.Option(help="Studies of one patient within so many days are one case.")] = 30,
    ledger: Annotated[Path | None, typer.Option(help="Write what became of every file to this CSV.")] = None,
    reread: Annotated[
        bool, typer.Option("--reread", help="Open files again that an earlier ingest saw unchanged.")
    ] = False,
    aet: Annotated[str, typer.Option(help="For dimse: our AE title, as the remote node knows it.")] = "MEDFUSE",
    port: Annotated[int, typer.Option(help="For dimse: the port where we receive what it sends.")] = 11112,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Add folders, files, zips or DICOMDIRs to the library. Every file is accounted for."""
    verbosity(verbose)
    from ..errors import WrongUse
    from ..intake import ingest_command

    if export not in (None, "nifti"):
        raise WrongUse(f"--export {export}: only nifti can be exported")
    if export and out is None:
        raise WrongUse("--export needs --out: the folder to write to")
    local = [Path(p) for p in paths if not p.startswith(("dicomweb:", "dimse:"))]
    remote = [p for p in paths if p.startswith(("dicomweb:", "dimse:"))]
    if remote:
        from ..network.service import ingest_remote

        if export or deidentify or local:
            raise WrongUse("remote sources are ingested by themselves, without --export, --deidentify or local paths")
        done = ingest_remote(remote, window=window, progress=progress, aet=aet, port=port)
        emit(done.data, as_json, done.text)
        raise typer.Exit(done.exit_code)
    result = ingest_command(
        local, window=window, export=out if export else None, deidentify=deidentify, progress=progress,
        reuse=not reread, ledger_file=ledger,
    )  # fmt: skip
    emit(result.data, as_json, result.text)
    raise typer.Exit(result.exit_code)


@app.command()
def cases(
    with_: Annotated[list[str] | None, typer.Option("--with", help="Only cases that have this modality.")] = None,
    without: Annotated[list[str] | None, typer.Option(help="Only cases that lack this modality.")] = None,
    set_role: Annotated[str | None, typer.Option(help="SERIES_UID=ROLE: correct the role of a series.")] = None,
    confirm: Annotated[
        str | None, typer.Option(help="CASE whose identifiers disagree: you have looked, use it as it is.")
    ] = None,
    set_risk: Annotated[
        str | None, typer.Option(help="CASE=STATUS: the documented risk status, such as cirrhosis.")
    ] = None,
    set_indication: Annotated[str | None, typer.Option(help="CASE=WORDS: why the patient was imaged.")] = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """What the library holds."""
    verbosity(verbose)
    from ..errors import WrongUse
    from ..library import store

    if set_role is not None:
        uid, _, role = set_role.partition("=")
        if not role:
            raise WrongUse(f"--set-role {set_role}: write SERIES_UID=ROLE")
        store.set_role(uid, role)
    for option, field, given in (("--set-risk", "risk", set_risk), ("--set-indication", "indication", set_indication)):
        if given is not None:
            name, _, value = given.partition("=")
            if not name or "=" not in given:
                raise WrongUse(f"{option} {given}: write CASE={field.upper()}")
            store.set_words(name, **{field: value})  # type: ignore[arg-type]
    if confirm is not None:
        store.confirm(confirm)
    rows = store.list_cases(tuple(with_ or ()), tuple(without or ()))
    text = [
        f"{r['case_id']:<44} {r['study_date']:<10} {'+'.join(r['modalities']):<10} {r['state']}{' simulated' if r['simulated'] else ''}"
        + (f" WAITS: {r['conflict']}" if r["conflict"] else "")
        for r in rows
    ]
    emit(
        {"cases": rows},
        as_json,
        "\n".join(text) or "The library is empty; add cases with medfuse ingest PATH.",
    )


@app.command()
def deidentify(
    path: Path,
    out: Annotated[Path, typer.Option()],
    key: Annotated[
        Path | None, typer.Option(help="Secret file; default MEDFUSE_HOME/deidentify.key, made when missing.")
    ] = None,
    retain_uids: Annotated[bool, typer.Option(help="Keep UIDs as they are.")] = False,
    dates: Annotated[str, typer.Option(help="shift (same days for all of a patient) or remove.")] = "shift",
    descriptors: Annotated[str, typer.Option(help="clean (radiological words only) or remove.")] = "clean",
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """DICOM without the person: PS3.15 Basic Profile, keyed UIDs, ultrasound banners blacked out on every frame."""
    verbosity(verbose)
    from ..errors import WrongUse
    from ..intake import deidentify_command

    if dates not in ("shift", "remove") or descriptors not in ("clean", "remove"):
        raise WrongUse("--dates takes shift or remove, --descriptors takes clean or remove")
    result = deidentify_command(
        path,
        out,
        key=key,
        retain_uids=retain_uids,
        shift=dates == "shift",
        clean=descriptors == "clean",
        progress=progress("de-identified"),
    )
    emit(result.data, as_json, result.text)
    raise typer.Exit(result.exit_code)
