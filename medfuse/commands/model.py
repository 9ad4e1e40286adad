"""Commands on models: train, evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .app import Device, Json, Verbose, app, device_of, emit, progress, talk, verbosity


@app.command()
def train(
    task: Annotated[str, typer.Argument(help="A task YAML, or the name of a shipped task.")],
    manifest: Annotated[Path, typer.Option()],
    out: Annotated[Path | None, typer.Option(help="The bundle's folder.")] = None,
    minutes: Annotated[float, typer.Option(min=0.1)] = 60.0,
    seed: int = 1,
    fusion: Annotated[str, typer.Option(help="co, merge or cross.")] = "co",
    coordination: Annotated[
        str, typer.Option(help="siglip or infonce: how images and report text are aligned.")
    ] = "siglip",
    text_model: Annotated[
        Path | None, typer.Option(help="Folder of your own text transformer (frozen), instead of the small tower.")
    ] = None,
    encoder_steps: Annotated[int | None, typer.Option(help="Exact encoder steps instead of minutes.")] = None,
    work: Annotated[
        Path | None, typer.Option(help="Checkpoints and caches (default OUT.work); reused when they exist.")
    ] = None,
    thrifty: Annotated[
        bool, typer.Option("--thrifty", help="Gradient checkpointing: less memory, a third more time.")
    ] = False,
    start: Annotated[
        str | None, typer.Option(help="A bundle whose encoders are the first weights, where they fit.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only check the manifest.")] = False,
    stage: Annotated[
        str, typer.Option(help="all: encoders, fusion, baselines; report: the writer, over the frozen --bundle.")
    ] = "all",
    bundle: Annotated[str | None, typer.Option(help="With --stage report: the bundle to write for.")] = None,
    device: Device = "auto",
    images: Annotated[
        Path | None, typer.Option(help="For a vqa task: the folder of the pictures that the manifest names.")
    ] = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Train a bundle on any manifest within a time budget."""
    verbosity(verbose)
    from ..errors import WrongUse
    from ..io.manifest import read_manifest
    from ..task import VqaTask, load_any_task
    from ..training.check import check_manifest
    from ..training.distributed import finish
    from ..training.options import TrainOptions
    from ..training.train import train as run

    loaded = load_any_task(task)
    if isinstance(loaded, VqaTask):
        from ..training.vqa import train_vqa

        if images is None or out is None:
            raise WrongUse("a vqa task needs --images, the folder of the pictures, and --out, the bundle's folder")
        command = f"medfuse train {task} --manifest MANIFEST --images IMAGES --out {out.name} --seed {seed}"
        result = train_vqa(loaded, manifest, images, out, seed=seed, command=command)
        accuracy = result["validation"]["image_disjoint_accuracy"]
        emit(result, as_json, f"{result['bundle']}\naccuracy on pictures left out {accuracy:.3f}")
        return
    if check:
        found = check_manifest(loaded, read_manifest(manifest))
        text = [f"{found['cases']} cases, splits {found['splits']}"] + [
            f"{k}: {v[0]} without, {v[1]} with, {v[2]} unknown" for k, v in found["counts_0_1_unknown"].items()
        ]
        emit(found, as_json, "\n".join([*text, *found["problems"]]))
        raise typer.Exit(1 if found["problems"] else 0)
    if out is None:
        raise WrongUse("train needs --out: the folder of the bundle")
    if fusion not in ("co", "merge", "cross"):
        raise WrongUse(f"--fusion {fusion}: give co, merge or cross")
    if coordination not in ("siglip", "infonce"):
        raise WrongUse(f"--coordination {coordination}: give siglip or infonce")
    if stage not in ("all", "report"):
        raise WrongUse(f"--stage {stage}: give all or report")
    if stage == "report":
        from ..training.report import train_report_stage

        command = f"medfuse train {task} --stage report --manifest MANIFEST --bundle {bundle or 'DEFAULT'} --out {out.name} --minutes {minutes:g} --seed {seed}"
        result = train_report_stage(loaded, manifest, out, bundle=bundle, minutes=minutes, seed=seed, work=work, command=command, log=talk)  # fmt: skip
        emit(result, as_json, f"{result['bundle']}\nvalidation loss a token {result['validation']['loss']:.3f}")
        return
    options = TrainOptions(
        minutes, seed, device_of(device), fusion, coordination, text_model, encoder_steps, work, start, thrifty
    )
    command = (
        f"medfuse train {task} --manifest MANIFEST --out {out.name} --minutes {minutes:g} --seed {seed} --fusion {fusion}"
        + (f" --start {start}" if start else "")
        + (f" --coordination {coordination}" if coordination != "siglip" else "")
        + (f" --text-model {text_model.name}" if text_model else "")
        + (" --thrifty" if thrifty else "")
    )
    result = run(loaded, manifest, out, options, command=command, log=talk)
    finish()
    if not result:  # one of torchrun's further processes
        return
    emit(
        result,
        as_json,
        f"{result['bundle']}\nvalidation, mean over subsets: macro AUROC {result['validation']['mean_over_subsets']:.3f}",
    )


@app.command()
def evaluate(
    bundle: str,
    manifest: Annotated[Path, typer.Option()],
    out: Annotated[
        Path | None, typer.Option(help="Write evaluation.json, evaluation.md, plots and run.json here.")
    ] = None,
    split: str | None = None,
    shifted: Annotated[Path | None, typer.Option(help="Manifest of another scanner park, scored beside.")] = None,
    control: Annotated[
        Path | None, typer.Option(help="Manifest of a population where one modality is enough, scored beside.")
    ] = None,
    set_lesion_thresholds: Annotated[
        bool, typer.Option(help="With --split val: let one false positive a case through, and keep that in the bundle.")
    ] = False,
    set_intervals: Annotated[
        bool, typer.Option(help="With --split val: keep in the bundle how often its probabilities came true.")
    ] = False,
    stage: Annotated[
        str, typer.Option(help="all: findings; report: the words of composer and writer, with controls.")
    ] = "all",
    images: Annotated[
        Path | None, typer.Option(help="For a vqa bundle: the folder of the pictures that the manifest names.")
    ] = None,
    seed: int = 0,
    device: Device = "auto",
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Score a bundle on a manifest: every subset of the modalities, beside the logistic stack and late concatenation."""
    verbosity(verbose)
    from ..errors import WrongUse
    from ..evaluation.evaluate import evaluate as run
    from ..evaluation.evaluate import write_tables
    from ..evaluation.markdown import markdown
    from ..models.bundle import find_bundle, is_vqa, load_bundle, set_lesion_peaks, set_reliability

    if (set_lesion_thresholds or set_intervals) and split != "val":
        raise WrongUse(
            "--set-lesion-thresholds and --set-intervals need --split val: they are chosen on validation cases, never on test cases"
        )
    folder = find_bundle(bundle)
    if is_vqa(folder):
        from ..evaluation.vqa import evaluate_vqa

        if images is None:
            raise WrongUse("a vqa bundle needs --images: the folder of the pictures that the manifest names")
        table = evaluate_vqa(folder, manifest, images, seed=seed, out=out)
        emit(table, as_json, "\n".join(f"{k.replace('_', ' '):<24} {v}" for k, v in table.items()))
        return
    loaded = load_bundle(bundle)
    if stage not in ("all", "report"):
        raise WrongUse(f"--stage {stage}: give all or report")
    if stage == "report":
        from ..evaluation.reports import evaluate_reports, report_markdown

        table = evaluate_reports(
            loaded, manifest, split=split, seed=seed, out=out, progress=progress("read and written")
        )
        emit(table, as_json, report_markdown(table))
        raise typer.Exit(3 if table["refused"] else 0)
    scored: dict = {}
    result = run(
        loaded,
        manifest,
        device=device_of(device),
        split=split,
        shifted=shifted,
        control=control,
        seed=seed,
        scored=scored,
        progress=progress("evaluated"),
    )
    if out is not None:
        write_tables(result, scored, loaded.task, out)
    if set_lesion_thresholds:
        talk(f"lesion thresholds in {loaded.path}: {set_lesion_peaks(loaded, result['lesions'])}")
    if set_intervals:
        set_reliability(loaded, scored)
    emit(result, as_json, markdown(result))
    raise typer.Exit(3 if result["refused"] else 0)
