"""`medfuse ask`: a question on a case or a picture."""

from __future__ import annotations

from typing import Annotated

import typer

from .app import app, device_when_asked, emit, verbosity
from .options import Device, Json, Verbose


@app.command()
def ask(
    case: Annotated[
        str, typer.Argument(help="A case of the library, a folder, or a picture for a vqa bundle.")
    ],
    question: Annotated[str, typer.Argument(help="In plain words, in quotes.")],
    bundle: Annotated[str | None, typer.Option(help="Folder or name of a bundle.")] = None,
    device: Device = "auto",
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """A question about a case: the answer with its probability and place, or "cannot tell from these
    images"."""
    verbosity(verbose)
    from ..workflows.ask import ask as run

    # looking for a GPU loads torch, which a stored answer does not need
    found = run(case, question, bundle=bundle, device=device_when_asked(device))
    p = "" if found.probability is None else f" (probability {found.probability:.2f})"
    emit(found.as_json(), as_json, f"{found.answer}{p}\n{found.source}: {found.why}")
