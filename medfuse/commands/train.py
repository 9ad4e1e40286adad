"""`medfuse train`: a bundle from a task and a manifest."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .app import app, device_of, emit, progress, talk, verbosity
from .options import Device, Json, LabelledManifest, Seed, Verbose, takes

if TYPE_CHECKING:
    from ..task import Task, VqaTask


@dataclass(frozen=True, kw_only=True)
class TrainArguments:
    """What a user may give to `medfuse train`."""

    task: Annotated[str, typer.Argument(help="A task YAML, or the name of a shipped task.")]
    manifest: LabelledManifest
    out: Annotated[Path | None, typer.Option(help="The bundle's folder.")] = None
    minutes: Annotated[float, typer.Option(min=0.1, help="Time for all stages together.")] = 60.0
    seed: Seed = 1
    fusion: Annotated[str, typer.Option(help="co, merge or cross.")] = "co"
    coordination: Annotated[
        str, typer.Option(help="siglip or infonce: how images and report text are aligned.")
    ] = "siglip"
    text_model: Annotated[
        Path | None,
        typer.Option(help="Folder of your own text transformer (frozen), instead of the small tower."),
    ] = None
    encoder_steps: Annotated[int | None, typer.Option(help="Exact encoder steps instead of minutes.")] = None
    fusion_steps: Annotated[
        int | None,
        typer.Option(min=1, help="Exact steps of the fusion and of each baseline instead of minutes."),
    ] = None
    work: Annotated[
        Path | None, typer.Option(help="Checkpoints and caches (default OUT.work); reused when they exist.")
    ] = None
    thrifty: Annotated[
        bool, typer.Option("--thrifty", help="Gradient checkpointing: less memory, a third more time.")
    ] = False
    start: Annotated[
        str | None, typer.Option(help="A bundle whose encoders are the first weights, where they fit.")
    ] = None
    check: Annotated[
        bool,
        typer.Option("--check", help="Only check the manifest and read each image once; nothing is trained."),
    ] = False
    stage: Annotated[
        str,
        typer.Option(
            help="all: encoders, fusion, baselines; report: the writer, over the frozen --bundle; generate: "
            "synthetic images, beside it."
        ),
    ] = "all"
    bundle: Annotated[
        str | None, typer.Option(help="With --stage report or generate: the bundle to add it to.")
    ] = None
    device: Device = "auto"
    images: Annotated[
        Path | None, typer.Option(help="For a vqa task: the folder of the pictures that the manifest names.")
    ] = None
    as_json: Json = False
    verbose: Verbose = 0


@app.command()
@takes(TrainArguments)
def train(given: TrainArguments) -> None:
    """Train a bundle on any manifest within a time budget."""
    verbosity(given.verbose)
    from ..task import VqaTask, load_any_task

    task = load_any_task(given.task)
    if isinstance(task, VqaTask):
        _train_answerer(task, given)
    elif given.check:
        _check(task, given)
    else:
        out = _checked_out(given)
        stages = {"report": _train_writer, "generate": _train_generator}
        stages.get(given.stage, _train_bundle)(task, out, given)


def _train_answerer(task: VqaTask, given: TrainArguments) -> None:
    """A bundle that answers questions on pictures."""
    from ..errors import WrongUse
    from ..vqa.train import train_vqa

    if given.images is None or given.out is None:
        raise WrongUse(
            "a vqa task needs --images, the folder of the pictures, and --out, the bundle's folder"
        )
    command = (
        f"medfuse train {given.task} --manifest MANIFEST --images IMAGES --out {given.out.name} --seed "
        f"{given.seed}"
    )
    answered = train_vqa(task, given.manifest, given.images, given.out, seed=given.seed, command=command)
    accuracy = answered.validation.image_disjoint_accuracy
    emit(
        answered.model_dump(),
        given.as_json,
        f"{answered.bundle}\naccuracy on pictures left out {accuracy:.3f}",
    )


def _check(task: Task, given: TrainArguments) -> None:
    """Only say what is in the manifest, and what is wrong with it."""
    from ..io.manifest import read_manifest
    from ..settings import settings
    from ..training.data.check import check_manifest
    from ..training.data.foreign import encoder_problems
    from ..training.data.images import check_images

    rows = read_manifest(given.manifest)
    found = check_manifest(task, rows, thorough=True)
    found.problems.extend(encoder_problems(task, settings().home))
    images = check_images(task, rows, progress("images"))
    found.problems.extend(images.problems)
    found.notes.extend(images.notes)
    text = [f"{found.cases} cases, splits {found.splits}"] + [
        f"{k}: {v[0]} without, {v[1]} with, {v[2]} unknown" for k, v in found.counts_0_1_unknown.items()
    ]
    emit(asdict(found), given.as_json, "\n".join([*text, *found.problems, *found.notes]))
    raise typer.Exit(1 if found.problems else 3 if found.notes else 0)


def _checked_out(given: TrainArguments) -> Path:
    """--out; with it the names in the other options are checked. Raises WrongUse."""
    from ..errors import WrongUse
    from ..models.coordination import OBJECTIVES
    from ..models.fusion import FUSIONS
    from ..workflows.outputs import check_folder

    if given.out is None:
        raise WrongUse("train needs --out: the folder of the bundle")
    check_folder(given.out)
    if given.fusion not in FUSIONS:
        raise WrongUse(f"--fusion {given.fusion}: give {', '.join(FUSIONS)}")
    if given.coordination not in OBJECTIVES:
        raise WrongUse(f"--coordination {given.coordination}: give {' or '.join(OBJECTIVES)}")
    if given.stage not in ("all", "report", "generate"):
        raise WrongUse(f"--stage {given.stage}: give all, report or generate")
    return given.out


def _train_writer(task: Task, out: Path, given: TrainArguments) -> None:
    """The words of a bundle that is there, over its frozen encoders and fusion."""
    from ..training.stages.writer import ReportOptions, train_report_stage

    command = (
        f"medfuse train {given.task} --stage report --manifest MANIFEST --bundle "
        f"{given.bundle or 'DEFAULT'} --out {out.name} --minutes {given.minutes:g} --seed {given.seed}"
    )
    written = train_report_stage(
        task,
        given.manifest,
        out,
        ReportOptions(
            bundle=given.bundle,
            minutes=given.minutes,
            seed=given.seed,
            work=given.work,
            command=command,
        ),
        log=talk,
    )
    if not written:
        return
    loss = written["validation"]["loss"]
    emit(written, given.as_json, f"{written['bundle']}\nvalidation loss a token {loss:.3f}")


def _train_generator(task: Task, out: Path, given: TrainArguments) -> None:
    """Synthetic images beside a bundle that is there; its own weights stay as they are."""
    from ..generation.train import GenerateOptions, train_generate_stage

    command = (
        f"medfuse train {given.task} --stage generate --manifest MANIFEST --bundle "
        f"{given.bundle or 'DEFAULT'} --out {out.name} --minutes {given.minutes:g} --seed {given.seed}"
    )
    options = GenerateOptions(
        bundle=given.bundle, minutes=given.minutes, seed=given.seed, work=given.work, command=command
    )
    made = train_generate_stage(task, given.manifest, out, options, log=talk)
    emit(made, given.as_json, f"{made['bundle']}\nmakes {', '.join(made['validation']['generated'])}")


def _train_bundle(task: Task, out: Path, given: TrainArguments) -> None:
    """Encoders, fusion and baselines; torchrun's further processes print nothing."""
    from ..training.distributed import finish
    from ..training.options import TrainOptions
    from ..training.run import train as run

    options = TrainOptions(
        minutes=given.minutes,
        seed=given.seed,
        device=device_of(given.device),
        fusion=given.fusion,
        coordination=given.coordination,
        text_model=given.text_model,
        encoder_steps=given.encoder_steps,
        fusion_steps=given.fusion_steps,
        work=given.work,
        start=given.start,
        thrifty=given.thrifty,
    )
    result = run(task, given.manifest, out, options, command=_as_typed(given, out), log=talk)
    finish()
    if not result:
        return
    found = result["validation"]
    text = f"{found['chosen_by']} {found['mean_over_subsets']:.3f}"
    told = "".join(f"\nnote: {note}" for note in result["notes"])
    emit(result, given.as_json, f"{result['bundle']}\nvalidation, mean over subsets: {text}{told}")


def _as_typed(given: TrainArguments, out: Path) -> str:
    """The command as the bundle's card quotes it, without the user's folders."""
    return (
        f"medfuse train {given.task} --manifest MANIFEST --out {out.name} --minutes {given.minutes:g} "
        f"--seed {given.seed} --fusion {given.fusion}"
        + (f" --encoder-steps {given.encoder_steps}" if given.encoder_steps else "")
        + (f" --fusion-steps {given.fusion_steps}" if given.fusion_steps else "")
        + (f" --start {given.start}" if given.start else "")
        + (f" --coordination {given.coordination}" if given.coordination != "siglip" else "")
        + (f" --text-model {given.text_model.name}" if given.text_model else "")
        + (" --thrifty" if given.thrifty else "")
    )
