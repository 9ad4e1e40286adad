"""`medfuse crossvalidate`: every fold, then tables, papers and checklists."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from .. import __version__
from ..cohort.results import CohortFile
from ..errors import OutputError, UserError, WrongUse, os_fault
from ..io.manifest import ManifestRow, acquired_alone, read_manifest
from ..models.feature_set import label_matrix
from ..task import Task
from ..training.data.check import check_manifest
from ..training.data.tensors import preprocess_manifest
from .checklist import checklist, facts_of
from .fold import Cohort, FoldScores, FoldSettings, kept, run_fold
from .hand import hand_features
from .notes import cannot_tell, fold_notes
from .papers import write_papers
from .plan import Fold, grouped, plan
from .results import CrossValidation
from .tables import tables

Progress = Callable[[str], Callable[[int, int], None]]
Ahead = Callable[[Cohort, list[Fold], FoldSettings, Path, Callable[[str], None]], None]
ALONE = 32  # cases that one process preprocesses


@dataclass(frozen=True, kw_only=True)
class CrossValidationRequest:
    """What a user gave to `medfuse crossvalidate`."""

    task: Task
    manifest: Path
    out: Path
    folds: int
    repeats: int
    seed: int
    leave_test: bool
    workers: int
    how: FoldSettings


def crossvalidate(
    request: CrossValidationRequest,
    progress: Progress,
    log: Callable[[str], None],
    ahead: Ahead | None = None,
) -> CrossValidation:
    """Train and score every fold that is not there yet, and write what came of all of them. ``ahead`` may
    make folds beside each other first: they are read as those of an earlier run are.

    Raises UserError for a manifest with faults or too few patients, WrongUse for folds in ``out`` that were
    made from something else, OutputError where results cannot be written.
    """
    rows = _rows(request)
    try:
        (request.out / "folds").mkdir(parents=True, exist_ok=True)
        return _run(request, rows, progress, log, ahead)
    except OSError as e:
        raise OutputError(
            f"{request.out}: cannot be written ({os_fault(e)}); free space or choose another --out, then "
            "run the same line again: finished folds are kept"
        ) from e


def _rows(request: CrossValidationRequest) -> list[ManifestRow]:
    """The cases that take part. Raises UserError that names the manifest's first problem."""
    if request.folds < 2:
        raise WrongUse(f"--folds {request.folds}: give 2 or more")
    rows = read_manifest(request.manifest)
    acquired_alone(request.manifest, rows)
    if request.leave_test:
        rows = [r for r in rows if r.split != "test"]
    if not rows:
        raise UserError(f"{request.manifest}: every case has split test, and --leave-test leaves them out")
    # splits are made here, those of the manifest do not count
    as_split = [r.model_copy(update={"split": "train", "patient_id": r.case_id}) for r in rows]
    problems = [
        p for p in check_manifest(request.task, as_split).problems if not p.startswith("no case has split")
    ]
    if problems:
        more = f" (and {len(problems) - 1} more; see medfuse train --check)" if len(problems) > 1 else ""
        raise UserError(f"{request.manifest}: {problems[0]}{more}")
    if (label_matrix(request.task, rows) < 0).all():
        raise UserError(
            f"{request.manifest}: no case has a label of the task {request.task.name}; add labels to "
            "learn from"
        )
    return rows


def _run(
    request: CrossValidationRequest,
    rows: list[ManifestRow],
    progress: Progress,
    log: Callable[[str], None],
    ahead: Ahead | None,
) -> CrossValidation:
    task = request.task
    workers = request.workers if len(rows) > ALONE else 1  # processes take seconds to start
    folder, entries = preprocess_manifest(
        task, rows, request.out / "tensors", workers=workers, progress=progress("preprocessed")
    )
    rows = grouped(rows, folder, entries)
    cohort = Cohort(
        task=task,
        rows=rows,
        folder=folder,
        entries=entries,
        hand=hand_features(task, folder, entries, rows),
        labels=label_matrix(task, rows),
    )
    folds, notes = plan(rows, cohort.labels, request.folds, request.repeats, request.seed)
    missing = [f for f in folds if kept(cohort, f, request.how, request.out / "folds") is None]
    if ahead is not None and len(missing) > 1:
        ahead(cohort, missing, request.how, request.out / "folds", log)
    made = []
    for n, fold in enumerate(folds, 1):
        log(f"{fold.name}: fold {n} of {len(folds)}")
        made.append(run_fold(cohort, fold, request.how, request.out / "folds", log))
    return _write(request, cohort, folds, made, notes)


def _write(
    request: CrossValidationRequest,
    cohort: Cohort,
    folds: list[Fold],
    made: list[FoldScores],
    notes: list[str],
) -> CrossValidation:
    out = request.out
    measured = tables(cohort, folds, made, request.seed)
    found = CrossValidation(
        version=__version__,
        task=request.task.name,
        manifest=str(request.manifest),
        n=len(cohort.rows),
        patients=len({r.group for r in cohort.rows}),
        folds=1 + max(f.number for f in folds),
        repeats=request.repeats,
        seed=request.seed,
        simulated=all(r.simulated for r in cohort.rows),
        cases=measured.cases,
        subsets=measured.subsets,
        baselines=measured.baselines,
        per_finding=measured.per_finding,
        chosen=dict(Counter(m.fusion for m in made)),
        notes=[*notes, *_twins(cohort.rows), *fold_notes(request.task, cohort.labels, folds)],
        cannot_tell=cannot_tell(request.task, measured),
        refused=[f"{e['case_id']}: {why}" for e in cohort.entries for why in e["refused"]],
        files=["table.csv", "table.tex", "figure.png", "checklist.md"],
    )
    write_papers(out, found)
    facts = facts_of(request.task, cohort.rows, found, request.how, _funnel(request.manifest))
    (out / "checklist.md").write_text(checklist(facts), encoding="utf-8")
    (out / "crossvalidation.json").write_text(found.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return found


def _twins(rows: list[ManifestRow]) -> list[str]:
    """Groups of several patients, kept on one side."""
    people: dict[str, set[str]] = {}
    for row in rows:
        people.setdefault(row.group, set()).add(row.patient_id or row.case_id)
    several = sorted(len(p) for p in people.values() if len(p) > 1)
    if not several:
        return []
    return [f"{len(several)} group(s) hold several patient ids (twins): {sum(several)} ids, kept on one side"]


def _funnel(manifest: Path) -> str:
    """The funnel of the cohort that a manifest came from, in one line; "" where there is none beside it."""
    path = manifest.with_name("cohort.json")
    if not path.is_file():
        return ""
    try:
        cohort = CohortFile.model_validate_json(path.read_bytes())
    except ValidationError:  # another program's file of that name
        return ""
    fell = ", ".join(f"{n} {why}" for why, n in cohort.excluded.items())
    return f"{cohort.studies} studies, {cohort.cases} cases; left out: {fell or 'none'}"


def overview(found: CrossValidation) -> str:
    """What the command prints without --json."""
    lines = [
        f"{found.n} cases of {found.patients} patients or twin groups, {found.repeats} × {found.folds} folds"
    ]
    for model, by_subset in (("fused", found.subsets), *found.baselines.items()):
        for subset, metrics in by_subset.items():
            macro = metrics["macro_auroc"]
            lines.append(f"{model:<24} {subset:<12} macro AUROC {json.dumps(macro.mean)} {macro.ci95 or ''}")
    lines += [f"note: {n}" for n in found.notes]
    lines += [f"cannot tell: {n}" for n in found.cannot_tell]
    return "\n".join(lines)
