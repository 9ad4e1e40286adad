"""`medfuse cohort`: from an archive and a table of reports to a checked training cohort."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .app import app, emit, progress, talk, verbosity
from .options import Json, Seed, Verbose, Window, takes

if TYPE_CHECKING:
    from ..cohort.status import Built

cohort = typer.Typer(no_args_is_help=True, help="An archive and reports as a checked training cohort.")
app.add_typer(cohort, name="cohort")

Folder = Annotated[Path, typer.Argument(help="The folder that `cohort build` wrote.")]


@dataclass(frozen=True, kw_only=True)
class BuildArguments:
    """What a user may give to `medfuse cohort build`."""

    archive: Annotated[
        Path,
        typer.Argument(help="Folder, DICOMDIR or zip of DICOM; with --recipe a folder of images and tables."),
    ]
    task: Annotated[str, typer.Option(help="A task YAML, or the name of a shipped task.")]
    out: Annotated[Path, typer.Option(help="The cohort's folder.")]
    reports: Annotated[
        list[Path] | None,
        typer.Option(help="CSV, XLSX, HL7 v2, FHIR, DICOM SR or PDF, or a folder of them; may be repeated."),
    ] = None
    recipe: Annotated[
        Path | None,
        typer.Option(help="A YAML that says which file names and columns name what, in place of --reports."),
    ] = None
    columns: Annotated[
        str, typer.Option(help="Names of the table's columns: accession=AccNo,text=Report,…")
    ] = ""
    encoding: Annotated[str, typer.Option(help="Of the table, where it cannot be told: big5, gb18030, …")] = (
        ""
    )
    window: Window = 30
    possible: Annotated[
        str, typer.Option(help="What a hedged claim counts as: ignore (unknown), half or present.")
    ] = "ignore"
    confirm: Annotated[
        list[str] | None,
        typer.Option(
            help="StudyInstanceUID whose several accession numbers you found to be right. May be repeated."
        ),
    ] = None
    seed: Seed = 0
    as_json: Json = False
    verbose: Verbose = 0


@cohort.command("build")
@takes(BuildArguments)
def build(given: BuildArguments) -> None:
    """Link reports to studies, label cases from the words, split them; write a manifest and a ledger. With
    --recipe: images and tables as they lie in a folder."""
    verbosity(given.verbose)
    from ..errors import WrongUse

    if (given.recipe is None) == (not given.reports):
        raise WrongUse(
            "give --reports for an archive of DICOM, or --recipe for a folder of images and tables"
        )
    if given.recipe is not None:
        _by_recipe(given, given.recipe)
        return
    from ..cohort.build import BuildRequest
    from ..cohort.build import build as run
    from ..cohort.tables import TableFormat, parse_columns
    from ..task import load_task
    from ..workflows.outputs import check_folder

    check_folder(given.out)
    request = BuildRequest(
        archive=given.archive,
        reports=list(given.reports or ()),
        task=load_task(given.task),
        out=given.out,
        table=TableFormat(columns=parse_columns(given.columns), encoding=given.encoding),
        window=given.window,
        possible=given.possible,  # type: ignore[arg-type]
        seed=given.seed,
        confirmed=frozenset(given.confirm or ()),
    )
    made = run(request, progress)
    keys = ("reports", "studies", "linked", "unresolved", "refused", "by_rule", "cases", "excluded")
    data = {k: getattr(made, k) for k in keys}
    data |= {"manifest": str(given.out / made.manifest), "ledger": str(given.out / made.ledger)}
    text = "\n".join(f"{k:<11} {v}" for k, v in data.items())
    emit(data, given.as_json, text)
    raise typer.Exit(1 if not made.cases else 3 if made.unresolved or made.refused else 0)


def _by_recipe(given: BuildArguments, recipe: Path) -> None:
    """Build from a folder of images and tables."""
    from ..cohort.by_recipe import RecipeRequest, build_by_recipe
    from ..task import load_task
    from ..workflows.outputs import check_folder

    check_folder(given.out)
    made = build_by_recipe(
        RecipeRequest(
            folder=given.archive,
            recipe=recipe,
            task=load_task(given.task),
            out=given.out,
            seed=given.seed,
        )
    )
    data = {k: getattr(made, k) for k in ("files", "rows", "cases", "splits", "excluded")}
    data |= {"manifest": str(given.out / made.manifest), "ledger": str(given.out / made.ledger)}
    emit(data, given.as_json, "\n".join(f"{k:<11} {v}" for k, v in data.items()))
    left = {"refused", "unresolved"} & {*made.files, *made.rows}
    raise typer.Exit(1 if not made.cases else 3 if left else 0)


@dataclass(frozen=True, kw_only=True)
class ListenArguments:
    """What a user may give to `medfuse cohort listen`."""

    folder: Annotated[Path, typer.Argument(help="Where each message becomes a file, for --reports.")]
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 2575
    address: Annotated[str, typer.Option(help="Another address than this machine's own needs --allow.")] = (
        "127.0.0.1"
    )
    allow: Annotated[
        list[str] | None, typer.Option(help="Address of a sender; others are not taken. May be repeated.")
    ] = None
    as_json: Json = False
    verbose: Verbose = 0


@cohort.command("listen")
@takes(ListenArguments)
def listen(given: ListenArguments) -> None:
    """Take HL7 v2 reports over MLLP, acknowledge each once it is on disk. Runs until it is stopped."""
    verbosity(given.verbose)
    from dataclasses import asdict

    from ..cohort.listen import ListenOptions
    from ..cohort.listen import listen as run

    options = ListenOptions(
        folder=given.folder, address=given.address, port=given.port, allow=tuple(given.allow or ())
    )
    counts = asdict(run(options, talk))
    emit(counts, given.as_json, "\n".join(f"{k:<9} {v}" for k, v in counts.items()))


@dataclass(frozen=True, kw_only=True)
class StatusArguments:
    """What a user may give to `medfuse cohort status`."""

    folder: Folder
    as_json: Json = False


@cohort.command("status")
@takes(StatusArguments)
def status(given: StatusArguments) -> None:
    """Say which steps are done and whether the counts add up (1 where they do not)."""
    from dataclasses import asdict

    from ..cohort.status import open_cohort, status_of

    found = status_of(open_cohort(given.folder))
    data = asdict(found) | {"adds_up": not found.faults}
    lines = [*(f"{k:<15} {v}" for k, v in found.steps.items()), f"reports {found.reports}"]
    if found.files:
        lines = [*lines[:-1], f"files   {found.files}", f"rows    {found.rows}"]
    else:
        lines.append(f"studies {found.studies}")
    lines += [f"cases   {found.cases}", *(found.faults or ["the counts add up"])]
    emit(data, given.as_json, "\n".join(lines))
    raise typer.Exit(1 if found.faults else 0)


@dataclass(frozen=True, kw_only=True)
class AuditArguments:
    """What a user may give to `medfuse cohort audit`."""

    folder: Folder
    task: Annotated[str, typer.Option(help="A task YAML, or the name of a shipped task.")]
    each: Annotated[int, typer.Option(min=1, help="Cases of each finding and stratum to judge.")] = 20
    judged: Annotated[
        Path | None, typer.Option(help="The sheet as a person filled it; without it a sheet is written.")
    ] = None
    second: Annotated[Path | None, typer.Option(help="The same sheet by another person.")] = None
    floor: Annotated[
        float, typer.Option(min=0, max=1, help="Least precision of a finding whose labels may train.")
    ] = 0.8
    seed: Seed = 0
    as_json: Json = False


@cohort.command("audit")
@takes(AuditArguments)
def audit(given: AuditArguments) -> None:
    """Write a sheet of reports to judge (audit.csv), or score one and write audited.jsonl without the labels
    of findings below the floor."""
    from ..cohort.audit import sample, write_sample
    from ..cohort.status import open_cohort
    from ..errors import UserError
    from ..task import load_task

    built = open_cohort(given.folder)
    if given.judged is not None:
        _audited(built, given)
        return
    task = load_task(given.task)
    items = sample(built.rows, task, given.each, given.seed)
    if not items:
        raise UserError(f"{given.folder}: no case has a label and words; there is nothing to judge")
    path = given.folder / "audit.csv"
    n = write_sample(path, items, task)
    emit({"sheet": str(path), "lines": n}, given.as_json, f"{path}\n{n} lines: fill the column judged")


def _audited(built: Built, given: AuditArguments) -> None:
    """Score a judged sheet."""
    from dataclasses import asdict

    from ..cohort.audit import AUDITED, audited, read_judged, without
    from ..io.manifest import write_rows

    assert given.judged is not None
    second = read_judged(given.second) if given.second is not None else []
    found = audited(built.rows, read_judged(given.judged), second, given.floor)
    below = {name for name, one in found.items() if not one.trains}
    rows = without(built.rows, below)
    path = given.folder / AUDITED
    write_rows(path, rows)
    data = {
        "floor": given.floor,
        "findings": {name: asdict(one) for name, one in found.items()},
        "below_floor": sorted(below),
        "manifest": str(path),
    }
    text = [
        f"{name:<24} precision {one.precision} {one.precision_ci95} recall {one.recall} {one.recall_ci95} "
        f"kappa {one.kappa}" + ("" if one.trains else "  trains nothing")
        for name, one in found.items()
    ]
    emit(data, given.as_json, "\n".join([*text, str(path)]))
    raise typer.Exit(3 if below else 0)


@dataclass(frozen=True, kw_only=True)
class CheckArguments:
    """What a user may give to `medfuse cohort check`."""

    folder: Folder
    task: Annotated[str, typer.Option(help="A task YAML, or the name of a shipped task.")]
    seed: Seed = 0
    as_json: Json = False


@cohort.command("check")
@takes(CheckArguments)
def check(given: CheckArguments) -> None:
    """Try to tell the labels from headers, array shapes and indications alone, and say how wide an interval
    this many cases give (3 where something is told)."""
    from dataclasses import asdict

    from ..cohort.status import open_cohort
    from ..crossvalidation.refute import facts_of, power, refute
    from ..errors import UserError
    from ..task import load_task

    task = load_task(given.task)
    built = open_cohort(given.folder)
    if not built.rows:
        raise UserError(f"{given.folder}: the cohort has no case; there is nothing to check")
    facts = facts_of(built.rows, progress("images"))
    found = refute(task, built.rows, facts, given.seed)
    widths = power(task, built.rows)
    told = {name: one.told for name, one in found.items() if one.told}
    data = {
        "n": len(built.rows),
        "models": {
            name: asdict(one) | {"macro_auroc": one.macro_auroc.model_dump()} for name, one in found.items()
        },
        "power": {name: asdict(one) for name, one in widths.items()},
        "told": told,
    }
    lines = [f"{k:<16} macro AUROC {v.macro_auroc.mean} {v.macro_auroc.ci95}" for k, v in found.items()]
    lines += [f"{k}: ± {v.half_width} ({v.positives} with, {v.negatives} without)" for k, v in widths.items()]
    lines += [f"{', '.join(which)} can be told from the {name} alone" for name, which in told.items()]
    emit(data, given.as_json, "\n".join(lines))
    raise typer.Exit(3 if told else 0)


@dataclass(frozen=True, kw_only=True)
class ExportArguments:
    """What a user may give to `medfuse cohort export`."""

    folder: Folder
    out: Annotated[
        Path, typer.Option(help="A new folder for what may leave; the words to look at lie beside it.")
    ]
    key: Annotated[
        Path | None, typer.Option(help="Secret file; default MEDFUSE_HOME/deidentify.key, made when missing.")
    ] = None
    names: Annotated[
        Path | None,
        typer.Option(help="A text file of names to take out of the words, one a line: the staff."),
    ] = None
    dates: Annotated[str, typer.Option(help="shift (same days for all of a patient) or remove.")] = "shift"
    as_json: Json = False
    verbose: Verbose = 0


@cohort.command("export")
@takes(ExportArguments)
def export(given: ExportArguments) -> None:
    """Write a cohort that may leave: images de-identified, words without known names, numbers keyed, all
    still linked (3 where something was left behind)."""
    verbosity(given.verbose)
    from ..cohort.export import ExportRequest, export_cohort, names_in
    from ..cohort.status import open_cohort
    from ..deidentify.keys import load_key
    from ..errors import WrongUse
    from ..settings import settings

    if given.dates not in ("shift", "remove"):
        raise WrongUse(f"--dates {given.dates}: give shift or remove")
    request = ExportRequest(
        cohort=open_cohort(given.folder),
        out=given.out,
        key=load_key(given.key or settings().home / "deidentify.key"),
        names=names_in(given.names) if given.names else (),
        shift_dates=given.dates == "shift",
    )
    done, look_at = export_cohort(request, progress("de-identified"))
    data = done.model_dump() | {"manifest": str(given.out / "manifest.jsonl"), "look_at": str(look_at)}
    text = [f"{done.cases} cases, {done.images} files in {given.out}"]
    text += [f"not exported, {n}: {why}" for part in (done.refused, done.excluded) for why, n in part.items()]
    text += [f"left out, {n}: {why}" for why, n in done.left_out.items()]
    text.append(f"{done.words_to_look_at} words may still name somebody: read {look_at}, which stays here")
    emit(data, given.as_json, "\n".join(text))
    left = done.refused or done.excluded or done.left_out
    raise typer.Exit(1 if not done.cases else 3 if left else 0)


@cohort.command("masks")
def masks(
    manifest: Annotated[Path, typer.Argument(help="A manifest whose images each name a mask.")],
    task: Annotated[str, typer.Option(help="A task YAML with label maps, or the name of a shipped task.")],
    labels: Annotated[Path, typer.Option(help="A YAML that says what the segmenter calls each class.")],
    out: Annotated[Path, typer.Option(help="The folder of the label maps and of the new manifest.")],
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Turn masks of a segmenter (label map, SEG, RTSTRUCT, a folder of files) into label maps of a task, and
    say which structures are whole in view."""
    verbosity(verbose)
    from ..cohort.masks import build_masks
    from ..task import load_task
    from ..workflows.outputs import check_folder

    check_folder(out)
    made = build_masks(manifest, load_task(task), labels, out, progress("masks"))
    data = made.model_dump() | {"manifest": str(out / "manifest.jsonl")}
    cut = sum(v == "cut" for r in made.images for v in r.view.values())
    text = [f"{len(made.images)} label maps, {cut} structures cut by the edge of their image"]
    text += [f"refused {image}: {why}" for image, why in made.refused.items()]
    text += [f"in no mask: {', '.join(made.nowhere)}"] * bool(made.nowhere)
    emit(data, as_json, "\n".join(text))
    raise typer.Exit(3 if made.refused or made.nowhere else 0)
