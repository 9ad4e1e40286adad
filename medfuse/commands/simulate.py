"""`medfuse simulate`: simulated patients as DICOM or NIfTI."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from .app import app, emit, progress, verbosity
from .options import Json, Seed, Verbose, takes


@dataclass(frozen=True, kw_only=True)
class SimulateArguments:
    """What a user may give to `medfuse simulate`."""

    cases: Annotated[int, typer.Option(min=1, help="Simulated patients.")]
    out: Annotated[Path, typer.Option(help="Folder for the images and manifest.jsonl.")]
    seed: Seed = 1
    file_format: Annotated[
        str,
        typer.Option("--format", help="dicom, nifti (with label maps, for training) or sounds (no image)."),
    ] = "dicom"
    sounds: Annotated[
        bool, typer.Option(help="Doppler sounds of the portal vein and hepatic artery too, as WAV.")
    ] = False
    modality: Annotated[
        list[str],
        typer.Option(help="Acquire these alone (US, CT, MR; may be given again); the images stay the same."),
    ] = field(default_factory=list)
    missing: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Chance that each modality was not acquired.")
    ] = 0.0
    shifted: Annotated[
        bool, typer.Option(help="Another scanner park: 3 T, sharper kernel, more noise, another probe.")
    ] = False
    control: Annotated[
        bool, typer.Option(help="A population where MR alone is enough: fusion should gain nothing.")
    ] = False
    held_out_wording: Annotated[
        bool, typer.Option(help="Word the reference reports in phrasings that are kept back from training.")
    ] = False
    split: Annotated[
        str | None,
        typer.Option(help="Write this split for every case (default: five of six train, one val)."),
    ] = None
    as_json: Json = False
    verbose: Verbose = 0


@app.command()
@takes(SimulateArguments)
def simulate(given: SimulateArguments) -> None:
    """Simulated patients on disk, with a manifest. Not patients: every header says SIMULATED."""
    verbosity(given.verbose)
    from ..errors import WrongUse
    from ..simulation.patient import IMAGED, Variant
    from ..workflows.outputs import check_folder

    if given.file_format not in ("dicom", "nifti", "sounds"):
        raise WrongUse(f"--format {given.file_format}: give dicom, nifti or sounds")
    unknown = sorted(set(given.modality) - set(IMAGED))
    if unknown:
        raise WrongUse(f"--modality {unknown[0]}: give {', '.join(IMAGED)}")
    if given.modality and (given.missing or given.file_format == "sounds"):
        raise WrongUse("--modality says what is acquired; leave out --missing and --format sounds")
    check_folder(given.out)
    import os

    from ..simulation.population import write_population

    manifest = write_population(
        given.out,
        cases=given.cases,
        seed=given.seed,
        file_format=given.file_format,
        variant=Variant(
            missing=given.missing,
            modalities=tuple(given.modality) or IMAGED,
            shifted=given.shifted,
            control=given.control,
            held_out=given.held_out_wording,
            sounds="only" if given.file_format == "sounds" else "too" if given.sounds else "none",
        ),
        split=given.split,
        workers=min(os.cpu_count() or 1, given.cases) if given.cases > 3 else 1,
        progress=progress("simulated"),
    )
    emit({"manifest": str(manifest)}, given.as_json, str(manifest))
