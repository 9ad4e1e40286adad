"""Commands on two images: register, fuse."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .app import Json, Verbose, app, emit, talk, verbosity

METHODS = ("auto", "intensity", "landmarks", "lc2", "tracked")


@app.command()
def register(
    moving: Path,
    fixed: Path,
    out: Annotated[Path, typer.Option(help="Folder for the transform, the moved image, pictures and quality.json.")],
    kind: Annotated[str, typer.Option(help="rigid, affine or deformable.")] = "rigid",
    method: Annotated[
        str,
        typer.Option(
            help="auto, intensity, landmarks; with ultrasound, experimental: lc2, or tracked (a frame at its tracked place)."
        ),
    ] = "auto",
    moving_role: Annotated[str, typer.Option(help="Which series of MOVING, such as t2.")] = "",
    fixed_role: Annotated[str, typer.Option(help="Which series of FIXED, such as portal.")] = "",
    moving_modality: Annotated[str, typer.Option(help="CT, MR or US: for a NIfTI that does not say.")] = "",
    fixed_modality: str = "",
    landmarks: Annotated[
        tuple[Path, Path] | None,
        typer.Option(help="MOVING.csv FIXED.csv: matched points x,y,z in RAS mm, for the error."),
    ] = None,
    moving_mask: Annotated[Path | None, typer.Option(help="NIfTI on MOVING's grid: only inside counts.")] = None,
    fixed_mask: Path | None = None,
    seed: int = 1,
    threads: Annotated[int, typer.Option(min=1, help="1 repeats bit by bit.")] = 1,
    force: Annotated[bool, typer.Option("--force", help="Register images of different patients all the same.")] = False,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Bring MOVING onto FIXED by mutual information, measure how far that may be believed, and say it."""
    verbosity(verbose)
    from ..errors import WrongUse
    from ..registering import register_command

    if kind not in ("rigid", "affine", "deformable") or method not in METHODS:
        raise WrongUse(f"--kind takes rigid, affine or deformable; --method takes {', '.join(METHODS)}")
    result = register_command(
        moving, fixed, out, kind=kind, roles=(moving_role, fixed_role), modalities=(moving_modality, fixed_modality),  # type: ignore[arg-type]
        landmarks=landmarks, masks=(moving_mask, fixed_mask), method=method, seed=seed, threads=threads, force=force,
    )  # fmt: skip
    for problem in result.data["not_made"]:
        talk(f"medfuse: {problem}")
    emit(result.data, as_json, result.text)
    raise typer.Exit(result.exit_code)


@app.command()
def fuse(
    images: Annotated[
        list[Path], typer.Argument(help="Two or three registered pictures, NIfTI files or DICOM folders.")
    ],
    out: Annotated[Path, typer.Option(help="FILE.png, .nii.gz or .dcm.")],
    method: Annotated[str, typer.Option(help="learned, max, average, laplacian or guided.")] = "learned",
    weights: Annotated[Path | None, typer.Option(help="Other weights than those shipped.")] = None,
    registration: Annotated[
        Path | None, typer.Option(help="Folder of medfuse register: brings the second onto the first.")
    ] = None,
    role: Annotated[list[str] | None, typer.Option(help="Which series of each image, in order.")] = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """One picture from registered images. Its values are for looking, never for measuring."""
    verbosity(verbose)
    from ..fusing import fuse_command

    result = fuse_command(images, out, method=method, weights=weights, registration=registration, roles=role or [])
    emit(result.data, as_json, result.text)
    raise typer.Exit(result.exit_code)
