"""`medfuse predict`: one case, from files or the library."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from .app import app, device_of, emit, talk, verbosity
from .options import (
    Bundle,
    Device,
    Json,
    Language,
    OutsideDomain,
    Probabilities,
    Style,
    Verbose,
    Window,
    takes,
)


@dataclass(frozen=True, kw_only=True)
class PredictArguments:
    """What a user may give to `medfuse predict`."""

    path: Annotated[
        str | None, typer.Argument(help="A case of the library, or a folder, DICOMDIR, zip or file.")
    ] = None
    us: Annotated[list[Path] | None, typer.Option(help="Ultrasound of the case.")] = None
    ct: Annotated[list[Path] | None, typer.Option(help="CT of the case.")] = None
    mr: Annotated[list[Path] | None, typer.Option(help="MR of the case.")] = None
    pt: Annotated[list[Path] | None, typer.Option(help="PET of the case.")] = None
    out: Annotated[Path, typer.Option(help="OUT/<case_id>/ holds the result.")] = Path("medfuse-out")
    bundle: Bundle = None
    language: Language = "en"
    style: Style = ""
    probabilities: Probabilities = ""
    device: Device = "auto"
    writer: Annotated[str, typer.Option(help="structured, learned or local-llm.")] = "structured"
    llm: Annotated[
        Path | None,
        typer.Option(
            help="With local-llm: the folder of a causal language model, or of an image-text model with "
            "report_model.yaml."
        ),
    ] = None
    backend: Annotated[str, typer.Option(help="torch, or openvino (extra) on a CPU.")] = "torch"
    indication: Annotated[str, typer.Option(help="Why the patient was imaged.")] = ""
    risk: Annotated[str, typer.Option(help="Documented risk status, such as cirrhosis.")] = ""
    labs: Annotated[
        Path | None, typer.Option(help="CSV of laboratory values: loinc, value, unit (UCUM), date, name.")
    ] = None
    add: Annotated[bool, typer.Option(help="Also add the case and its result to the library.")] = False
    outside_domain: OutsideDomain = False
    window: Window = 30
    as_json: Json = False
    verbose: Verbose = 0


@app.command()
@takes(PredictArguments)
def predict(given: PredictArguments) -> None:
    """One case: findings with probabilities, lesions, a drafted report, and pictures that show where."""
    verbosity(given.verbose)
    from ..drafting.compose import Wish
    from ..modalities import stated
    from ..workflows.predict import PredictOptions, PredictRequest, predict_command

    parts = {"us": given.us, "ct": given.ct, "mr": given.mr, "pt": given.pt}
    options = PredictOptions(
        language=given.language,
        wish=Wish(style=given.style, probabilities=given.probabilities),
        device=device_of(given.device),
        outside_domain=given.outside_domain,
        writer=given.writer,
        llm=given.llm,
        backend=given.backend,
    )
    request = PredictRequest(
        path=given.path,
        parts={stated(name): paths or [] for name, paths in parts.items()},
        out=given.out,
        bundle=given.bundle,
        options=options,
        add=given.add,
        window=given.window,
        indication=given.indication,
        risk=given.risk,
        labs=given.labs,
    )
    result = predict_command(request, log=talk)
    emit(result.data, given.as_json, result.text)
    raise typer.Exit(result.exit_code)
