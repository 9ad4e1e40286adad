"""Commands on one case: predict, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .app import Device, Json, Verbose, app, device_of, emit, talk, verbosity


@app.command()
def predict(
    path: Annotated[
        str | None, typer.Argument(help="A case of the library, or a folder, DICOMDIR, zip or file.")
    ] = None,
    us: Annotated[list[Path] | None, typer.Option(help="Ultrasound of the case.")] = None,
    ct: Annotated[list[Path] | None, typer.Option(help="CT of the case.")] = None,
    mr: Annotated[list[Path] | None, typer.Option(help="MR of the case.")] = None,
    out: Annotated[Path, typer.Option(help="OUT/<case_id>/ holds the result.")] = Path("medfuse-out"),
    bundle: Annotated[str | None, typer.Option(help="Folder or name of a bundle.")] = None,
    language: str = "en",
    device: Device = "auto",
    add: Annotated[bool, typer.Option(help="Also add the case and its result to the library.")] = False,
    outside_domain: Annotated[
        bool, typer.Option(help="Show uncalibrated scores for images outside the validated domain.")
    ] = False,
    window: int = 30,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """One case: findings with probabilities, lesions, a drafted report, and pictures that show where."""
    verbosity(verbose)
    from ..pipeline import predict_command

    result = predict_command(
        path, {"US": us or [], "CT": ct or [], "MR": mr or []}, out=out, bundle=bundle, language=language,
        device=device_of(device), add=add, outside_domain=outside_domain, window=window, log=talk,
    )  # fmt: skip
    emit(result.data, as_json, result.text)
    raise typer.Exit(result.exit_code)


@app.command()
def report(
    case: str,
    file_format: Annotated[str, typer.Option("--format", help="text or json.")] = "text",
    language: Annotated[str | None, typer.Option(help="Compose the draft in this language.")] = None,
    verbose: Verbose = 0,
) -> None:
    """The latest drafted report of a case in the library."""
    verbosity(verbose)
    from ..errors import WrongUse
    from ..pipeline import library_report

    if file_format not in ("text", "json"):
        raise WrongUse(f"--format {file_format}: give text or json")
    from ..reporting.text import report_text

    found = library_report(case, language)
    print(report_text(found) if file_format == "text" else found.model_dump_json(indent=1))
