"""Files → library: headers first, then case by case, each added whole or not at all. Unchanged files are not
opened again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import select

from ..case import Image
from ..io.cases import CaseFiles, plan_cases
from ..io.child import may_pass
from ..io.export import describe, describe_refused
from ..io.folder import files_under
from ..io.headers import FileEntry
from ..io.read import open_case
from ..io.scan import STATUSES, Scan, is_refused, opened, scan_files
from .catalogue import CaseRow, SeriesRow
from .files import Seen, note, patient_of, seen_under, stat_under
from .referring import keep_objects
from .store import add_case

if TYPE_CHECKING:
    from .library import Library

Progress = Callable[[int, int], None]


@dataclass
class Ingested:
    """What `medfuse ingest` did with a path."""

    cases: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    images: list[dict] = field(default_factory=list)
    refused: list[dict] = field(default_factory=list)
    objects: list[dict] = field(default_factory=list)  # presentation states, key objects, outlines
    files: list[tuple[str, str, str]] = field(default_factory=list)  # path, status, reason

    @property
    def ledger(self) -> dict[str, int]:
        """Files by what became of them; every status stands in it."""
        counts = Counter(status for _, status, _ in self.files)
        return {s: counts.get(s, 0) for s in STATUSES}


def ingest(
    library: Library,
    path: Path,
    *,
    window: int = 30,
    reuse: bool = True,
    captures: str = "",
    each_image: Callable[[Image, str], str | None] = lambda image, case_id: None,
    reading: Progress = lambda done, total: None,
    adding: Progress = lambda done, total: None,
) -> Ingested:
    """Add the cases of a path. Idempotent. ``each_image`` may write an image of a case elsewhere and return
    where.

    reuse=False opens every file, also those that an earlier scan has seen unchanged. captures: the modality
    that Secondary Captures are taken for.
    """
    done = Ingested()
    reuse = reuse and not captures  # they were refused before
    with opened(path) as inside:
        remember = inside.is_dir() and inside in (path, path.parent)  # not what a zip was unpacked to
        stats = stat_under(inside.resolve()) if remember else {}
        known = _known(library, inside.resolve(), stats) if remember and reuse else {}
        files = [Path(p) for p in stats if p not in known] if remember else files_under(inside)
        scanned = _with_patients(files, known, reading, captures)
        _unchanged(library, known, done)
        plans = plan_cases(scanned, window=window, folder=str(path))
        keep_names(library, plans)
        for n, plan in enumerate(plans, 1):
            _add(library, plan, stats, done, each_image)
            adding(n, len(plans))
        keep_objects(library, scanned.objects)
        with library.session() as s:  # what belongs to no case
            note(s, (e for e in scanned.entries if e.status != "read"), stats, "")
    _tell(done, scanned, path, dict.fromkeys(p.conflict for p in plans if p.conflict))
    return done


def _known(library: Library, folder: Path, stats: dict[str, tuple[int, int]]) -> dict[str, Seen]:
    """What an earlier scan noted of the files of a folder that are as they were (size and time), but for
    those that it could not read for want of time or memory."""
    seen = {p: row for p, row in seen_under(library, folder).items() if not may_pass(row.reason)}
    return {p: seen[p] for p, stat in stats.items() if p in seen and (seen[p].size, seen[p].mtime_ns) == stat}


def _tell(done: Ingested, scanned: Scan, path: Path, waiting: Iterable[str]) -> None:
    """What became of each file, what was refused, and which identifiers wait for a person."""
    done.files += [(str(e.path), e.status, e.reason) for e in scanned.entries]
    done.refused += [{"path": r.path, "reason": r.reason} for r in scanned.refused]
    done.objects += [asdict(o) for o in scanned.objects]
    done.images += [describe_refused(r).as_json() for r in scanned.refused if r.series_uid]
    done.refused += [
        {
            "path": str(path),
            "reason": f"{why}; kept apart until a person confirms (medfuse cases --confirm CASE)",
        }
        for why in waiting
    ]


def _with_patients(files: list[Path], known: dict[str, Seen], progress: Progress, captures: str) -> Scan:
    """Scan new and changed files, then once more with every unchanged file of the same patients (taken out of
    ``known``)."""
    scanned = scan_files(files, progress=progress, captures=captures)
    if not known or not files:
        return scanned
    patients = {patient_of(e) for e in scanned.entries if e.tags} - {""}
    again = [p for p, row in known.items() if row.patient in patients]
    if not again:
        return scanned
    for p in again:
        del known[p]
    return scan_files(sorted(files + [Path(p) for p in again]), progress=progress, captures=captures)


def _unchanged(library: Library, known: dict[str, Seen], done: Ingested) -> None:
    """Report files that were not opened from what is stored of them."""
    done.files += [(p, row.status, row.reason) for p, row in known.items()]
    done.refused += [
        {"path": p, "reason": row.reason} for p, row in known.items() if is_refused(row.status, row.reason)
    ]
    done.cases += list(dict.fromkeys(row.case_id for row in known.values() if row.case_id))
    with library.session() as s:
        for i in range(0, len(done.cases), 500):
            query = (
                select(SeriesRow.case_id, SeriesRow.images)
                .where(SeriesRow.case_id.in_(done.cases[i : i + 500]))
                .order_by(SeriesRow.id)
            )
            for case_id, images in s.execute(query):
                done.images += [{**image, "case_id": case_id} for image in images]


def keep_names(library: Library, plans: list[CaseFiles]) -> None:
    """A case keeps its name when a study joins it later: the library's name for any of its studies wins. A
    study that the library has under another patient id is kept apart until a person has looked."""
    with library.session() as s:
        for plan in plans:
            uids = [study.study_uid for study in plan.studies if study.study_uid]
            if not uids or plan.conflict:
                continue
            found = s.execute(
                select(SeriesRow.case_id, SeriesRow.study_uid, CaseRow.patient_id)
                .join(CaseRow, CaseRow.id == SeriesRow.case_id)
                .where(SeriesRow.study_uid.in_(uids))
                .order_by(SeriesRow.id)
            ).all()
            ids = {study.patient_id for study in plan.studies} - {""}
            own = [r for r in found if not ids or r.patient_id in ("", *ids)]
            if own:
                plan.case_id = own[0].case_id
            elif found:
                study, case_id = found[0].study_uid, found[0].case_id
                plan.conflict = f"study {study} is in the library as {case_id}, of another patient id"


def _add(
    library: Library,
    plan: CaseFiles,
    stats: dict[str, tuple[int, int]],
    done: Ingested,
    each_image: Callable[[Image, str], str | None],
) -> None:
    """Read one case, add it in one transaction with the notes on its files, and let its pixels go."""
    entries: list[FileEntry] = [e for key in plan.series for e in plan.scan.series[key]] + plan.volumes
    case = open_case(plan, allow_empty=True)
    if not case.images:
        return
    with library.session() as s:
        added = add_case(library, s, case, plan.scan.used_files(plan.series), plan.conflict)
        note(s, entries, stats, case.case_id)
    done.cases.append(case.case_id)
    if added:
        done.new.append(case.case_id)
    for image in case.images:
        read = describe(image, each_image(image, case.case_id))
        done.images.append(read.model_copy(update={"case_id": case.case_id}).as_json())
