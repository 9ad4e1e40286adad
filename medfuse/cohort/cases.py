"""Linked studies → cases with images, labels and words: rows of the manifest; what falls out, and why."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ..drafting.labeller import Lexicon
from ..drafting.sections import parse_sections
from ..errors import OutputError, os_fault
from ..io.cases import case_id_of, join_studies
from ..io.manifest import ManifestImage, ManifestRow
from ..io.names import uid_name
from ..io.scan import Key, Scan
from ..task import Task
from .history import Report
from .labels import Possible, label_case, training_text
from .link import Link
from .persons import Persons
from .pixels import SeriesPixels
from .studies import Study


@dataclass
class Candidate:
    """Studies that are one case, with the reports of each."""

    case_id: str
    studies: list[Study]
    reports: list[tuple[Report, frozenset[str]]]

    @property
    def persons(self) -> Persons:
        """Whom the messages of its reports name."""
        out = Persons()
        for report, _ in self.reports:
            for message in (report.row, *report.history):
                out |= message.stated
        return out


@dataclass
class Joined:
    """Candidates for the manifest, and the studies that fell out by reason, in the order of the funnel."""

    candidates: list[Candidate] = field(default_factory=list)
    excluded: Counter[str] = field(default_factory=Counter)


def join_cases(studies: list[Study], links: Iterable[Link], task: Task, window: int) -> Joined:
    """Cases from the linked studies: those of one patient within ``window`` days of its newest."""
    out = Joined()
    by_key = {s.key: s for s in studies}
    reports: dict[tuple[str, str], list[Link]] = {}
    for link in links:
        for study in link.studies:
            reports.setdefault(study.key, []).append(link)
    kept = []
    for study in studies:
        if study.conflict:
            out.excluded["identifiers disagree within the study"] += 1
        elif not study.modalities & set(task.modalities):
            out.excluded["no modality of the task"] += 1
        elif study.key not in reports:
            out.excluded["no report"] += 1
        else:
            kept.append(study)
    groups, conflicts = join_studies([s.identity for s in kept], window)
    for group, conflict in zip(groups, conflicts, strict=True):
        members = [by_key[(i.study_uid, i.patient_id)] for i in group]
        if conflict:
            out.excluded["identifiers disagree between studies"] += len(members)
            continue
        out.candidates.append(Candidate(case_id_of(group), members, _reports_of(members, reports)))
    out.candidates.sort(key=lambda c: c.case_id)
    return out


def _reports_of(
    members: list[Study], reports: dict[tuple[str, str], list[Link]]
) -> list[tuple[Report, frozenset[str]]]:
    found: dict[str, tuple[Report, set[str]]] = {}
    for study in members:
        for link in reports[study.key]:
            report, modalities = found.setdefault(link.report.id, (link.report, set()))
            modalities |= study.modalities
    return [(report, frozenset(modalities)) for report, modalities in found.values()]


@dataclass
class ImageFolders:
    """One folder a series, as a manifest names images: the archive's own where it holds that series alone,
    else links (copies across disks) under OUT/images."""

    scan: Scan
    out: Path
    copy: bool = False  # the archive is unpacked from a zip and will go
    _here: dict[Path, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for entry in self.scan.entries:
            for folder in entry.path.parents:
                self._here[folder] = self._here.get(folder, 0) + 1

    def path_of(self, key: Key) -> str:
        """The folder of a series, as the manifest says it. Raises OutputError where links cannot be made."""
        files = [e.path for e in self.scan.series[key]]
        folder = files[0].parent
        if not self.copy and self._here[folder] == len(files) and all(f.parent == folder for f in files):
            return str(folder.resolve())
        name = (
            uid_name(key[0])
            if len({k for k in self.scan.series if k[0] == key[0]}) == 1
            else (f"{uid_name(key[0])}-{uid_name(key[1])}-{uid_name(key[2])}")
        )
        target = self.out / "images" / name
        try:
            target.mkdir(parents=True, exist_ok=True)
            for n, file in enumerate(files, 1):
                link(file, target / f"{n:05d}.dcm")
        except OSError as e:
            raise OutputError(
                f"{target}: cannot be written ({os_fault(e)}); free space and run again, it goes on"
            ) from e
        return f"images/{name}"


def link(file: Path, target: Path) -> None:
    """A hard link, or a copy where the disk is another; nothing where it is there already."""
    if target.exists():
        return
    try:
        os.link(file, target)
    except OSError:
        part = target.with_suffix(".part")
        shutil.copyfile(file, part)
        part.replace(target)


@dataclass(frozen=True, kw_only=True)
class RowMaker:
    """Candidates → rows."""

    task: Task
    lexicon: Lexicon | None
    possible: Possible
    pixels: dict[Key, SeriesPixels]
    folders: ImageFolders

    def row(self, candidate: Candidate) -> tuple[ManifestRow | None, str]:
        """The manifest's row of a case, or why there is none."""
        keys = self._series(candidate)
        if not keys:
            return None, "no readable image"
        labels, sources = label_case(candidate.reports, self.task, self.lexicon, self.possible)
        if not any(v is not None for v in labels.values()):
            return None, "no label: its reports say nothing of the findings"
        words = [training_text(report) for report, _ in candidate.reports]
        first = candidate.studies[0]
        row = ManifestRow(
            case_id=candidate.case_id,
            patient_id=first.identity.patient_id or candidate.case_id,
            simulated=all(self.pixels[k].simulated for k in keys),
            images=[
                ManifestImage(path=self.folders.path_of(k), modality=self.pixels[k].modality) for k in keys
            ],
            labels={f: _whole(v) for f, v in labels.items()},
            label_source=sources,
            site=min(first.issuers, default=""),
            report="\n".join(text for text, _ in words if text),
            comparison=[s for _, tagged in words for s in tagged],
            indication=_indication(candidate),
        )
        return row, ""

    def _series(self, candidate: Candidate) -> list[Key]:
        """Of the task's modalities, and with images that can be read."""
        every = [k for study in candidate.studies for k in study.series]
        read = [k for k in every if self.pixels[k].images]
        return [k for k in read if self.pixels[k].modality in self.task.modalities]


def _indication(candidate: Candidate) -> str:
    """Of the first report that states one."""
    sections = (parse_sections(report.text).get("indication", "") for report, _ in candidate.reports)
    return next((s for s in sections if s), "")


def _whole(value: float | None) -> int | float | None:
    return int(value) if value in (0.0, 1.0) else value
