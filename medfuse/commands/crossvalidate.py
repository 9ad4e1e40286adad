"""`medfuse crossvalidate`: a task scored on a cohort by repeated, grouped folds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from .app import app, device_of, emit, progress, talk, verbosity
from .options import Device, Json, LabelledManifest, Seed, Verbose, takes


@dataclass(frozen=True, kw_only=True)
class CrossValidateArguments:
    """What a user may give to `medfuse crossvalidate`."""

    task: Annotated[str, typer.Argument(help="A task YAML, or the name of a shipped task.")]
    manifest: LabelledManifest
    out: Annotated[Path, typer.Option(help="Folds, tables, figure and checklist; finished folds are kept.")]
    folds: Annotated[int, typer.Option(help="Parts of the cases, each left out once.")] = 5
    repeats: Annotated[int, typer.Option(min=1, help="How often, with other parts.")] = 3
    minutes: Annotated[float, typer.Option(min=0.1, help="Time of each training.")] = 10.0
    fusions: Annotated[
        str, typer.Option(help="co, merge or cross; of several (co,merge) each fold chooses by validation.")
    ] = "co"
    encoder_steps: Annotated[int | None, typer.Option(help="Exact encoder steps instead of minutes.")] = None
    fusion_steps: Annotated[
        int | None,
        typer.Option(min=1, help="Exact steps of the fusion and of each baseline instead of minutes."),
    ] = None
    start: Annotated[
        str | None, typer.Option(help="A bundle whose encoders are the first weights, where they fit.")
    ] = None
    shuffled: Annotated[
        bool,
        typer.Option("--shuffled", help="Train the network on shuffled labels too, in the first repeat."),
    ] = False
    leave_test: Annotated[
        bool, typer.Option("--leave-test", help="Leave the cases with split test out, for later.")
    ] = False
    workers: Annotated[
        int, typer.Option(min=1, help="Folds at a time, each in a process of its own with one thread.")
    ] = 1
    seed: Seed = 1
    device: Device = "auto"
    as_json: Json = False
    verbose: Verbose = 0


@app.command()
@takes(CrossValidateArguments)
def crossvalidate(given: CrossValidateArguments) -> None:
    """Train and score a task by repeated folds that part no patient and no twins: every subset, baselines,
    intervals by patient, tables for a paper."""
    verbosity(given.verbose)
    import os

    from ..crossvalidation.fold import FoldSettings
    from ..crossvalidation.run import CrossValidationRequest, overview
    from ..crossvalidation.run import crossvalidate as run
    from ..errors import WrongUse
    from ..models.fusion import FUSIONS
    from ..task import load_task
    from ..training.options import TrainOptions
    from ..workflows.outputs import check_folder

    fusions = tuple(dict.fromkeys(f.strip() for f in given.fusions.split(",") if f.strip()))
    if not fusions or set(fusions) - set(FUSIONS):
        raise WrongUse(f"--fusions {given.fusions}: give one or several of {', '.join(FUSIONS)}")
    check_folder(given.out)
    options = TrainOptions(
        minutes=given.minutes,
        seed=given.seed,
        device=device_of(given.device),
        fusion=fusions[0],
        encoder_steps=given.encoder_steps,
        fusion_steps=given.fusion_steps,
        start=given.start,
    )
    command = f"medfuse crossvalidate {given.task} --manifest MANIFEST --folds {given.folds}"
    request = CrossValidationRequest(
        task=load_task(given.task),
        manifest=given.manifest,
        out=given.out,
        folds=given.folds,
        repeats=given.repeats,
        seed=given.seed,
        leave_test=given.leave_test,
        workers=os.cpu_count() or 1,
        how=FoldSettings(options=options, fusions=fusions, shuffled_network=given.shuffled, command=command),
    )
    ahead = None
    if given.workers > 1:
        from ..batch.folds import folds_on_workers

        ahead = folds_on_workers(given.workers)
    found = run(request, progress, talk, ahead)
    emit(found.model_dump(mode="json"), given.as_json, overview(found))
    raise typer.Exit(3 if found.refused else 0)
