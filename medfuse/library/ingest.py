"""Files → library: headers first, then case by case, each added whole or not at all. Unchanged files are not opened again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import select

from ..case import Image
from ..io.cases import CaseFiles, plan_cases
from ..io.export import describe, describe_refused
from ..io.headers import FileEntry
from ..io.scan import STATUSES, Scan, files_under, opened, scan_files
from .catalogue import SeriesRow, session
from .files import Seen, note, patient_of, seen_under, stat_under
from .store import add_case

Progress = Callable[[int, int], None]


@dataclass
class Ingested:
    """What `medfuse ingest` did with a path."""

    cases: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    images: list[dict] = field(default_factory=list)
    refused: list[dict] = field(default_factory=list)
    files: list[tuple[str, str, str]] = field(default_factory=list)  # path, status, reason

    @property
    def ledger(self) -> dict[str, int]:
        counts = Counter(status for _, status, _ in self.files)
        return {s: counts.get(s, 0) for s in STATUSES}


def ingest(
    path: Path, *, window: int = 30, reuse: bool = True, each_image: Callable[[Image], str | None] = lambda image: None,
    reading: Progress = lambda done, total: None, adding: Progress = lambda done, total: None,
) -> Ingested:  # fmt: skip
    """Add the cases of a path. Idempotent. ``each_image`` may write an image elsewhere and return where.

    reuse=False opens every file, also those that an earlier scan has seen unchanged.
    """
    done = Ingested()
    with opened(path) as inside:
        folder = inside.resolve()
        remember = inside.is_dir() and inside in (path, path.parent)  # not what a zip was unpacked to
        stats = stat_under(folder) if remember else {}
        seen = seen_under(folder) if remember and reuse else {}
        known = {
            p: seen[p]
            for p, (size, time) in stats.items()
            if p in seen and (seen[p].size, seen[p].mtime_ns) == (size, time)
        }
        files = [Path(p) for p in stats if p not in known] if remember else files_under(inside)
        scanned = _with_patients(files, known, reading)
        _unchanged(known, done)
        plans = plan_cases(scanned, window=window, folder=str(path))
        keep_names(plans)
        for n, plan in enumerate(plans, 1):
            _add(plan, stats, done, each_image)
            adding(n, len(plans))
        with session() as s:  # what belongs to no case
            note(s, (e for e in scanned.entries if e.status != "read"), stats, "")
    done.files += [(str(e.path), e.status, e.reason) for e in scanned.entries]
    done.refused += [{"path": r.path, "reason": r.reason} for r in scanned.refused]
    done.images += [describe_refused(r) for r in scanned.refused if r.series_uid]
    waiting = dict.fromkeys(p.conflict for p in plans if p.conflict)
    done.refused += [
        {"path": str(path), "reason": f"{why}; kept apart until a person confirms (medfuse cases --confirm CASE)"}
        for why in waiting
    ]
    return done


def _with_patients(files: list[Path], known: dict[str, Seen], progress: Progress) -> Scan:
    """Scan new and changed files, then once more with every unchanged file of the same patients (taken out of ``known``)."""
    scanned = scan_files(files, progress=progress)
    if not known or not files:
        return scanned
    patients = {patient_of(e) for e in scanned.entries if e.tags} - {""}
    again = [p for p, row in known.items() if row.patient in patients]
    if not again:
        return scanned
    for p in again:
        del known[p]
    return scan_files(sorted(files + [Path(p) for p in again]), progress=progress)


def _unchanged(known: dict[str, Seen], done: Ingested) -> None:
    """Report files that were not opened from what is stored of them."""
    done.files += [(p, row.status, row.reason) for p, row in known.items()]
    done.refused += [
        {"path": p, "reason": row.reason} for p, row in known.items() if row.status in ("damaged", "unsupported")
    ]
    done.cases += list(dict.fromkeys(row.case_id for row in known.values() if row.case_id))
    with session() as s:
        for i in range(0, len(done.cases), 500):
            query = (
                select(SeriesRow.images).where(SeriesRow.case_id.in_(done.cases[i : i + 500])).order_by(SeriesRow.id)
            )
            done.images += [image for images in s.scalars(query) for image in images]


def keep_names(plans: list[CaseFiles]) -> None:
    """A case keeps its name when a study joins it later: the library's name for any of its studies wins."""
    with session() as s:
        for plan in plans:
            uids = [study.study_uid for study in plan.studies if study.study_uid]
            if not uids or plan.conflict:
                continue
            names = s.scalars(
                select(SeriesRow.case_id).where(SeriesRow.study_uid.in_(uids)).order_by(SeriesRow.id)
            ).all()
            if names:
                plan.case_id = names[0]


def _add(plan: CaseFiles, stats: dict[str, tuple[int, int]], done: Ingested, each_image) -> None:
    """Read one case, add it in one transaction with the notes on its files, and let its pixels go."""
    entries: list[FileEntry] = [e for key in plan.series for e in plan.scan.series[key]] + plan.volumes
    case = plan.read()
    if not case.images:
        return
    with session() as s:
        added = add_case(s, case, plan.scan.used_files(plan.series), plan.conflict)
        note(s, entries, stats, case.case_id)
    done.cases.append(case.case_id)
    if added:
        done.new.append(case.case_id)
    for image in case.images:
        row = describe(image)
        row["nifti"] = each_image(image)
        done.images.append(row)
