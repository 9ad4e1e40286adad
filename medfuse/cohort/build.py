"""`medfuse cohort build`: archive and reports → ledger.csv, manifest.jsonl, cohort.json and cohort.html."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from .. import __version__
from ..drafting.labeller import task_lexicon
from ..errors import OutputError, UserError, WrongUse, os_fault
from ..io import film, picture
from ..io.manifest import ManifestRow, write_rows
from ..io.scan import Key, Scan, opened, scan
from ..task import Task
from .cases import Candidate, ImageFolders, Joined, RowMaker, join_cases
from .history import standing
from .labels import VALUES, Possible
from .ledger import LedgerRow, counts, ledger_rows, write_ledger
from .link import Link, Linker
from .page import write_page
from .persons import FILE as PERSONS
from .persons import Persons, write_persons
from .pixels import SeriesPixels, read_pixels
from .results import CohortFile, FindingCount, FunnelStep, SourceFile, auroc_half_width, sha256_of
from .rows import Reports
from .sources import read_sources
from .split import split_rows
from .studies import Study, read_studies
from .tables import TableFormat
from .twins import group_cases

Progress = Callable[[str], Callable[[int, int], None]]


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """What a user gave to `medfuse cohort build`."""

    archive: Path
    reports: list[Path]
    task: Task
    out: Path
    table: TableFormat = field(default_factory=lambda: TableFormat(columns={}))
    window: int = 30
    possible: Possible = "ignore"
    seed: int = 0
    confirmed: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class _Made:
    """What a run found, before it is written."""

    reports: Reports
    studies: list[Study]
    links: list[Link]
    ledger: list[LedgerRow]
    rows: list[ManifestRow]
    excluded: Counter[str]
    funnel: list[FunnelStep]
    twins: list[list[str]]
    persons: dict[str, Persons] = field(default_factory=dict)


def build(request: BuildRequest, progress: Progress) -> CohortFile:
    """Make or remake a cohort in ``request.out``; pixels that an earlier run has read are not read again.

    Raises WrongUse for what does not fit together, UserError for files that cannot be read, OutputError where
    the results cannot be written.
    """
    if request.possible not in VALUES:
        raise WrongUse(f"--possible {request.possible}: give {', '.join(VALUES)}")
    work = request.out / "work"
    try:
        work.mkdir(parents=True, exist_ok=True)
        with opened(request.archive) as inside:
            reports = read_sources(request.reports, request.table)
            found = scan(inside, progress=progress("headers"))
            made = _make(request, reports, found, progress, copied=inside != request.archive)
        return _write(request, made)
    except OSError as e:
        raise OutputError(
            f"{request.out}: cannot be written ({os_fault(e)}); free space or choose another --out, then "
            "run the same line again: it goes on"
        ) from e


def _make(request: BuildRequest, reports: Reports, found: Scan, progress: Progress, *, copied: bool) -> _Made:
    task = request.task
    if not found.series:
        raise UserError(f"{request.archive}: holds no DICOM image; {_instead(found)}")
    lexicon = task_lexicon(task)
    if lexicon is None and not any(r.labels for r in reports.rows):
        raise WrongUse(
            f"task {task.name}: has no lexicon.yaml beside its templates, so words give no labels; write one "
            "or add columns label:FINDING to the table"
        )
    studies = read_studies(found, request.confirmed)
    links = Linker(studies).link(standing(reports.rows))
    ledger = ledger_rows(reports, links, studies)
    joined = join_cases(studies, links, task, request.window)
    keys = [k for c in joined.candidates for s in c.studies for k in s.series]
    pixels = read_pixels(found, keys, request.out / "work" / "pixels.csv", progress("images"))
    maker = RowMaker(
        task=task,
        lexicon=lexicon,
        possible=request.possible,
        pixels=pixels,
        folders=ImageFolders(found, request.out, copy=copied),
    )
    return _rows(
        request,
        _Made(
            reports=reports,
            studies=studies,
            links=links,
            ledger=ledger,
            rows=[],
            excluded=joined.excluded,
            funnel=[],
            twins=[],
        ),
        joined,
        maker,
    )


def _instead(found: Scan) -> str:
    """What to do with a folder without DICOM."""
    others = Counter(
        e.path.suffix.lower()
        for e in found.entries
        if e.path.suffix.lower() in (*film.SUFFIXES, *picture.SUFFIXES)
    )
    others.update([".nii.gz or another volume"] * len(found.volumes))
    if not others:
        return "give the folder of the archive"
    kinds = ", ".join(f"{n} × {kind}" for kind, n in others.most_common(3))
    return f"its {kinds} need no archive: name them in a manifest.csv, one line an image (docs/tutorial.md)"


def _rows(request: BuildRequest, made: _Made, joined: Joined, maker: RowMaker) -> _Made:
    """Rows with their groups and splits; the funnel as it narrows."""
    total = len(made.studies)
    funnel = [FunnelStep(name="studies in the archive", studies=total)]
    left = sum(len(c.studies) for c in joined.candidates)
    funnel.append(FunnelStep(name="studies with a report", studies=left, excluded=dict(joined.excluded)))
    out: Counter[str] = Counter()
    kept: list[Candidate] = []
    for candidate in joined.candidates:
        row, why = maker.row(candidate)
        if row is None:
            out[why] += len(candidate.studies)
        else:
            kept.append(candidate)
            made.rows.append(row)
            made.persons[row.case_id] = candidate.persons
    used = sum(len(c.studies) for c in kept)
    funnel.append(
        FunnelStep(name="studies in cases with images and labels", studies=used, excluded=dict(out))
    )
    twins = _group(made.rows, kept, maker.pixels)
    split_rows(made.rows, request.seed)
    made.funnel.extend(funnel)
    made.twins.extend(twins)
    made.excluded.update(out)
    return made


def _group(
    rows: list[ManifestRow], kept: list[Candidate], pixels: dict[Key, SeriesPixels]
) -> list[list[str]]:
    """Set each row's group; the groups that hold several patient ids."""
    digests: dict[str, list[str]] = {}
    looks: dict[str, list[tuple[str, str]]] = {}
    for candidate in kept:
        for key in (k for s in candidate.studies for k in s.series):
            if pixels[key].digest:
                digests.setdefault(candidate.case_id, []).append(pixels[key].digest)
            each = pixels[key].looks.split()
            looks.setdefault(candidate.case_id, []).extend(zip(each[::2], each[1::2], strict=True))
    groups = group_cases({r.case_id: r.patient_id for r in rows}, digests, looks)
    members: dict[str, list[ManifestRow]] = {}
    for row in rows:
        row.group = groups[row.case_id]
        members.setdefault(row.group, []).append(row)
    return [[r.case_id for r in m] for m in members.values() if len({r.patient_id for r in m}) > 1]


def _write(request: BuildRequest, made: _Made) -> CohortFile:
    out = request.out
    write_ledger(out / "ledger.csv", made.ledger)
    write_rows(out / "manifest.jsonl", made.rows)
    write_persons(out / "work" / PERSONS, made.persons)
    of_reports = counts(made.ledger, "report")
    rules = Counter(r.rule for r in made.ledger if r.kind == "report" and r.status == "linked")
    result = CohortFile(
        version=__version__,
        task=request.task.name,
        archive=str(request.archive),
        sources=[
            SourceFile(
                name=p.name,
                sha256=sha256_of(p) if p.is_file() else "",
                encoding=made.reports.encodings.get(p.name, ""),
                messages=made.reports.messages.get(p.name, 0),
            )
            for p in request.reports
        ],
        window=request.window,
        possible=request.possible,
        seed=request.seed,
        reports=made.reports.given,
        studies=len(made.studies),
        linked=of_reports["linked"],
        unresolved=of_reports["unresolved"],
        refused=of_reports["refused"],
        by_rule=dict(rules),
        cases=len(made.rows),
        excluded=dict(made.excluded),
        funnel=made.funnel,
        splits=dict(Counter(r.split for r in made.rows)),
        findings={f.id: counted(f.id, made.rows) for f in request.task.findings},
        twins=made.twins,
        comparison_sentences=sum(len(r.comparison) for r in made.rows),
        simulated=bool(made.rows) and all(r.simulated for r in made.rows),
        manifest="manifest.jsonl",
        ledger="ledger.csv",
        sha256={name: sha256_of(out / name) for name in ("manifest.jsonl", "ledger.csv")},
    )
    (out / "cohort.json").write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")
    write_page(out / "cohort.html", result, {f.id: f.label("en") for f in request.task.findings})
    return result


def counted(finding: str, rows: list[ManifestRow]) -> FindingCount:
    """How often a finding is labelled in these cases."""
    values = [(r.split, r.labels.get(finding)) for r in rows]
    present = sum(v == 1 for _, v in values)
    absent = sum(v == 0 for _, v in values)
    unknown = sum(v is None for _, v in values)
    by_split = {
        s: (sum(v == 1 for t, v in values if t == s), sum(v == 0 for t, v in values if t == s))
        for s in sorted({t for t, _ in values})
    }
    return FindingCount(
        present=present,
        absent=absent,
        likely=len(values) - present - absent - unknown,
        unknown=unknown,
        by_split=by_split,
        auroc_half_width=auroc_half_width(present, absent),
    )
