"""`medfuse dictate`: a recorded sound as sentences that are checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from .app import app, emit, verbosity
from .options import Bundle, Json, Verbose, takes


@dataclass(frozen=True, kw_only=True)
class DictateArguments:
    """What a user may give to `medfuse dictate`."""

    audio: Annotated[Path, typer.Argument(help="A WAV file.")]
    asr: Annotated[Path, typer.Option(help="Folder of a speech recogniser with its asr.yaml.")]
    case: Annotated[
        str, typer.Option(help="A predicted case of the library to hold what is said against.")
    ] = ""
    language: Annotated[str, typer.Option(help="Spoken: en or zh-TW.")] = "en"
    bundle: Bundle = None
    as_json: Json = False
    verbose: Verbose = 0


@app.command()
@takes(DictateArguments)
def dictate(given: DictateArguments) -> None:
    """Write a dictated report down: sentences in their sections, and a question on each that does not agree
    with the findings and measurements of the case. The sound is not kept."""
    verbosity(given.verbose)
    from ..workflows.dictate import dictate as run

    found = run(given.audio, given.asr, case=given.case, bundle=given.bundle, language=given.language)
    lines = [f"{s.section}: {s.text}" for s in found.sentences]
    lines += [f"? {q.asked}" for q in found.questions]
    emit(found.as_json(), given.as_json, "\n".join(lines))
