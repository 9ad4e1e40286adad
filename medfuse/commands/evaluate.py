"""`medfuse evaluate`: a bundle scored on a manifest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .app import app, device_of, emit, progress, talk, verbosity
from .options import Device, Json, LabelledManifest, Seed, Verbose, takes

if TYPE_CHECKING:
    from ..bundles.bundle import Bundle as Loaded


@dataclass(frozen=True, kw_only=True)
class EvaluateArguments:
    """What a user may give to `medfuse evaluate`."""

    bundle: Annotated[str, typer.Argument(help="Folder or name of a bundle.")]
    manifest: LabelledManifest
    out: Annotated[
        Path | None, typer.Option(help="Write evaluation.json, evaluation.md, plots and run.json here.")
    ] = None
    split: Annotated[str | None, typer.Option(help="Score the rows of this split: train, val or test.")] = (
        None
    )
    shifted: Annotated[Path | None, typer.Option(help="Manifest of another scanner park, scored beside.")] = (
        None
    )
    control: Annotated[
        Path | None,
        typer.Option(help="Manifest of a population where one modality is enough, scored beside."),
    ] = None
    set_lesion_thresholds: Annotated[
        bool,
        typer.Option(
            help="With --split val: let one false positive a case through, and keep that in the bundle."
        ),
    ] = False
    set_intervals: Annotated[
        bool, typer.Option(help="With --split val: keep in the bundle how often its probabilities came true.")
    ] = False
    stage: Annotated[
        str, typer.Option(help="all: findings; report: the words of composer and writer, with controls.")
    ] = "all"
    images: Annotated[
        Path | None,
        typer.Option(help="For a vqa bundle: the folder of the pictures that the manifest names."),
    ] = None
    seed: Seed = 0
    device: Device = "auto"
    as_json: Json = False
    verbose: Verbose = 0


@app.command()
@takes(EvaluateArguments)
def evaluate(given: EvaluateArguments) -> None:
    """Score a bundle on a manifest: every subset of the modalities, beside the logistic stack and late
    concatenation."""
    verbosity(given.verbose)
    from ..bundles.bundle import load_bundle
    from ..bundles.registry import find_bundle, is_vqa

    _check(given)
    folder = find_bundle(given.bundle)
    if is_vqa(folder):
        _score_answers(folder, given)
        return
    bundle = load_bundle(given.bundle)
    if given.stage == "report":
        _score_reports(bundle, given)
    else:
        _score_findings(bundle, given)


def _check(given: EvaluateArguments) -> None:
    """Raises WrongUse for options that do not go together, OutputError where --out cannot be written."""
    from ..errors import WrongUse
    from ..workflows.outputs import check_folder

    if (given.set_lesion_thresholds or given.set_intervals) and given.split != "val":
        raise WrongUse(
            "--set-lesion-thresholds and --set-intervals need --split val: they are chosen on "
            "validation cases, never on test cases"
        )
    if given.stage not in ("all", "report"):
        raise WrongUse(f"--stage {given.stage}: give all or report")
    if given.out is not None:
        check_folder(given.out)


def _score_answers(folder: Path, given: EvaluateArguments) -> None:
    """Of a bundle that answers questions on pictures."""
    from ..errors import WrongUse
    from ..vqa.evaluate import evaluate_vqa

    if given.images is None:
        raise WrongUse("a vqa bundle needs --images: the folder of the pictures that the manifest names")
    found = evaluate_vqa(folder, given.manifest, given.images, seed=given.seed, out=given.out)
    table = found.model_dump()
    emit(table, given.as_json, "\n".join(f"{k.replace('_', ' '):<24} {v}" for k, v in table.items()))


def _score_reports(bundle: Loaded, given: EvaluateArguments) -> None:
    """The words of composer and writer, against reference reports."""
    from ..evaluation.draft_markdown import report_markdown
    from ..evaluation.drafts import evaluate_reports

    table = evaluate_reports(
        bundle,
        given.manifest,
        split=given.split,
        seed=given.seed,
        out=given.out,
        progress=progress("read and written"),
    )
    emit(table.as_json(), given.as_json, report_markdown(table))
    raise typer.Exit(3 if table.refused else 0)


def _score_findings(bundle: Loaded, given: EvaluateArguments) -> None:
    """Findings and lesions; with --set-… what was measured is kept in the bundle."""
    from ..bundles.bundle import set_lesion_peaks, set_reliability
    from ..evaluation.evaluate import OtherManifests, write_tables
    from ..evaluation.evaluate import evaluate as run
    from ..evaluation.markdown import markdown

    scored: dict = {}
    result = run(
        bundle,
        given.manifest,
        device=device_of(given.device),
        split=given.split,
        others=OtherManifests(shifted=given.shifted, control=given.control),
        seed=given.seed,
        scored=scored,
        progress=progress("evaluated"),
    )
    if given.out is not None:
        write_tables(result, scored, bundle.task, given.out)
    if given.set_lesion_thresholds:
        peaks = {m: row.threshold for m, row in result.lesions.items()}
        talk(f"lesion thresholds in {bundle.path}: {set_lesion_peaks(bundle, peaks)}")
    if given.set_intervals:
        set_reliability(bundle, scored)
    emit(result.as_json(), given.as_json, markdown(result))
    raise typer.Exit(3 if result.refused else 0)
