"""Commands to begin with: demo, simulate, view, info."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .app import Json, Verbose, app, emit, progress, talk, verbosity


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where everything goes; the library is OUT/home.")] = Path("demo"),
    cases: Annotated[int, typer.Option(min=1, help="Simulated patients.")] = 3,
    seed: int = 7,
    language: str = "en",
    viewer: Annotated[bool, typer.Option("--viewer/--no-viewer", help="Open the viewer at the end.")] = True,
    port: int = 8501,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Simulate patients, write them as DICOM, then go the user's way: ingest, predict, report, library, viewer."""
    verbosity(verbose)
    from ..demo import run_demo

    result = run_demo(out, cases=cases, seed=seed, language=language, log=talk)
    lines = [
        f"{c['case_id']}: {', '.join(c['modalities'])}, {c['seconds']:.1f} s, {c['folder']}" for c in result["cases"]
    ]
    emit(result, as_json, "\n".join(lines))
    if viewer:
        from ..viewer import serve

        serve(port=port, home=out / "home", log=talk)


@app.command()
def simulate(
    cases: Annotated[int, typer.Option(min=1)],
    out: Annotated[Path, typer.Option()],
    seed: int = 1,
    file_format: Annotated[
        str, typer.Option("--format", help="dicom or nifti (with label maps, for training).")
    ] = "dicom",
    missing: Annotated[float, typer.Option(min=0.0, max=1.0, help="Chance that each modality was not acquired.")] = 0.0,
    shifted: Annotated[
        bool, typer.Option(help="Another scanner park: 3 T, sharper kernel, more noise, another probe.")
    ] = False,
    control: Annotated[
        bool, typer.Option(help="A population where MR alone is enough: fusion should gain nothing.")
    ] = False,
    held_out_wording: Annotated[
        bool, typer.Option(help="Word the reference reports in phrasings that are kept back from training.")
    ] = False,
    split: Annotated[
        str | None,
        typer.Option(help="Write this split for every case (default: five of six train, one val)."),
    ] = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Simulated patients on disk, with a manifest. Not patients: every header says SIMULATED."""
    verbosity(verbose)
    from ..errors import WrongUse

    if file_format not in ("dicom", "nifti"):
        raise WrongUse(f"--format {file_format}: give dicom or nifti")
    import os

    from ..simulation.population import write_population

    manifest = write_population(
        out, cases=cases, seed=seed, file_format=file_format, missing=missing, shifted=shifted, control=control, split=split, held_out=held_out_wording,
        workers=min(os.cpu_count() or 1, cases) if cases > 3 else 1, progress=progress("simulated"),
    )  # fmt: skip
    emit({"manifest": str(manifest)}, as_json, str(manifest))


@app.command()
def view(
    port: int = 8501,
    address: Annotated[
        str, typer.Option(help="On another address than this machine's own, everybody signs in.")
    ] = "127.0.0.1",
    verbose: Verbose = 0,
) -> None:
    """Open the viewer on the library."""
    verbosity(verbose)
    from ..settings import settings
    from ..viewer import serve

    serve(port=port, home=settings().home, address=address, log=talk)


@app.command()
def info(as_json: Json = False, verbose: Verbose = 0) -> None:
    """Versions, devices, bundles, transfer syntaxes."""
    verbosity(verbose)
    from ..info import collect

    data = collect()
    text = [f"{k} {v}" for k, v in data["versions"].items()] + [f"device {d}" for d in data["devices"]]
    text += [f"bundle {b['name']} {b['hash'][:12]} {b['path']}" for b in data["bundles"]]
    text += [f"decodes {c['name']} ({c['uid']}) by {c['decoder']}" for c in data["codecs"]]
    emit(data, as_json, "\n".join(text))
