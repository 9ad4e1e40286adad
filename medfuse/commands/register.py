"""`medfuse register`: one image into the place of another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from .app import app, emit, talk, verbosity
from .options import Json, Seed, Verbose, takes

METHODS = ("auto", "intensity", "landmarks", "lc2", "tracked")


@dataclass(frozen=True, kw_only=True)
class RegisterArguments:
    """What a user may give to `medfuse register`."""

    moving: Annotated[Path, typer.Argument(help="The image to move: a NIfTI file or a DICOM folder.")]
    fixed: Annotated[Path, typer.Argument(help="The image that stays where it is.")]
    out: Annotated[
        Path, typer.Option(help="Folder for the transform, the moved image, pictures and quality.json.")
    ]
    kind: Annotated[str, typer.Option(help="rigid, affine or deformable.")] = "rigid"
    method: Annotated[
        str,
        typer.Option(
            help=(
                "auto, intensity, landmarks; with ultrasound, experimental: lc2, or tracked (a frame at "
                "its tracked place)."
            )
        ),
    ] = "auto"
    windowed: Annotated[
        bool,
        typer.Option(
            help="Values of CT beyond soft tissue and thin bone count as those: for parts of limbs."
        ),
    ] = False
    moving_role: Annotated[str, typer.Option(help="Which series of MOVING, such as t2.")] = ""
    fixed_role: Annotated[str, typer.Option(help="Which series of FIXED, such as portal.")] = ""
    moving_modality: Annotated[str, typer.Option(help="CT, MR or US: for a NIfTI that does not say.")] = ""
    fixed_modality: Annotated[str, typer.Option(help="The same of the fixed image.")] = ""
    landmarks: Annotated[
        tuple[Path, Path] | None,
        typer.Option(help="MOVING.csv FIXED.csv: matched points x,y,z in RAS mm, for the error."),
    ] = None
    moving_mask: Annotated[Path | None, typer.Option(help="NIfTI on MOVING's grid: only inside counts.")] = (
        None
    )
    fixed_mask: Annotated[Path | None, typer.Option(help="The same of the fixed image.")] = None
    seed: Seed = 1
    threads: Annotated[int, typer.Option(min=1, help="1 repeats bit by bit.")] = 1
    force: Annotated[
        bool, typer.Option("--force", help="Register images of different patients all the same.")
    ] = False
    as_json: Json = False
    verbose: Verbose = 0


@app.command()
@takes(RegisterArguments)
def register(given: RegisterArguments) -> None:
    """Bring MOVING onto FIXED by mutual information, measure how far that may be believed, and say it."""
    verbosity(given.verbose)
    from ..errors import WrongUse
    from ..registration.register import RegisterOptions
    from ..workflows.register import Side, register_command

    if given.kind not in ("rigid", "affine", "deformable") or given.method not in METHODS:
        raise WrongUse(f"--kind takes rigid, affine or deformable; --method takes {', '.join(METHODS)}")
    points = given.landmarks or (None, None)
    result = register_command(
        Side(
            path=given.moving,
            role=given.moving_role,
            modality=given.moving_modality,
            mask=given.moving_mask,
            landmarks=points[0],
        ),
        Side(
            path=given.fixed,
            role=given.fixed_role,
            modality=given.fixed_modality,
            mask=given.fixed_mask,
            landmarks=points[1],
        ),
        given.out,
        RegisterOptions(kind=given.kind, seed=given.seed, threads=given.threads),  # type: ignore[arg-type]
        method=given.method,
        windowed=given.windowed,
        force=given.force,
    )
    for problem in result.data["not_made"]:
        talk(f"medfuse: {problem}")
    emit(result.data, given.as_json, result.text)
    raise typer.Exit(result.exit_code)
