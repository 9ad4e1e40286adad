"""Studies → cases: patient id and issuer, agreeing sex and birth date, one body region, within a window of
days.

A folder alone never joins two patients; identifiers that disagree wait for a person. Older studies are
priors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from ..case import Case
from .headers import FileEntry
from .names import stem_name
from .scan import Identity, Key, Scan, opened, same_name, scan

DEFAULT_WINDOW = 30
# as `same_name` writes them
NOBODY = frozenset(
    {
        *(
            "anonymous",
            "anonymized",
            "anonymised",
            "anonymous patient",
            "anonym",
            "anon",
            "unknown",
            "unnamed",
            "test",
            "dummy",
            "demo",
            "patient",
            "id",
        ),
        *(
            "none",
            "null",
            "nil",
            "n a",
            "na",
            "no id",
            "noid",
            "no name",
            "noname",
            "removed",
            "deidentified",
        ),
    }
)


@dataclass
class CaseFiles:
    """The files of one case, before their pixels are read."""

    case_id: str
    studies: list[Identity]
    series: list[Key]
    volumes: list[FileEntry]
    scan: Scan
    folder: str
    conflict: str = ""  # why it waits for a person

    def read_case(self) -> Case:
        """Read the pixels. Files that turn out unusable are noted in the scan and in the case."""
        before = len(self.scan.refused)
        images = [i for key in self.series for i in self.scan.read(key)]
        images += [i for entry in self.volumes for i in self.scan.read_volume(entry)]
        first = self.studies[0] if self.studies else Identity()
        case = Case(
            self.case_id,
            first.patient_id,
            images,
            sex=first.sex,
            birth_date=first.birth_date,
            study_uids=tuple(sorted(s.study_uid for s in self.studies)),
            folder=self.folder,
        )
        case.refused = self.scan.refused[before:]
        case.objects = [o for o in self.scan.objects if o.study_uid in case.study_uids]
        case.read_words()
        if self.volumes and images:
            case.case_id += f"-{images[0].source.sha256[:8]}"
        return case


@dataclass
class Found:
    """Cases of a path, the scan they came from, and identifiers that disagree (quarantined)."""

    cases: list[Case]
    scan: Scan
    conflicts: list[str] = field(default_factory=list)


def parse_date(text: str) -> date | None:
    """YYYYMMDD as a date, None for anything else."""
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:8]))
    except ValueError:
        return None


def join_studies(
    identities: list[Identity], window: int = DEFAULT_WINDOW
) -> tuple[list[list[Identity]], list[str]]:
    """Groups of studies that are one case, and for each group why it waits for a person ("" where it does
    not).

    Studies without patient id stay alone.
    """
    people: dict[tuple[str, str], list[Identity]] = {}
    groups: list[list[Identity]] = []
    conflicts: list[str] = []
    patients_of: dict[str, set[str]] = {}
    for identity in identities:
        patients_of.setdefault(identity.study_uid, set()).add(identity.patient_id)
    for identity in sorted(identities, key=lambda i: (i.study_date, i.study_uid, i.patient_id)):
        if len(patients_of[identity.study_uid]) > 1:
            ids = ", ".join(sorted(i or "none" for i in patients_of[identity.study_uid]))
            groups.append([identity])
            conflicts.append(f"study {identity.study_uid} holds files of several patient ids ({ids})")
        elif identity.other_name:
            names = ", ".join(sorted((identity.name, identity.other_name)))
            groups.append([identity])
            conflicts.append(f"study {identity.study_uid} holds files of several patient names ({names})")
        elif identity.differs:
            groups.append([identity])
            conflicts.append(f"study {identity.study_uid} holds files of several {identity.differs}")
        elif identity.patient_id:
            people.setdefault((identity.patient_id, identity.issuer), []).append(identity)
        else:
            groups.append([identity])
            conflicts.append("")
    for (patient, _), studies in people.items():
        if len(studies) > 1 and is_placeholder(patient):
            why = f"patient id {patient} names nobody: its {len(studies)} studies may be of several people"
            groups += [[s] for s in studies]
            conflicts += [why] * len(studies)
            continue
        for what in ("sex", "birth_date", "name"):
            values = {same_name(s.name) if what == "name" else getattr(s, what) for s in studies} - {""}
            if len(values) > 1:
                name = what.replace("_", " ")
                why = f"patient id {patient}: {name} differs between studies ({', '.join(sorted(values))})"
                groups += [[s] for s in studies]
                conflicts += [why] * len(studies)
                break
        else:
            joined = _by_region_and_date(studies, window)
            groups += joined
            conflicts += [""] * len(joined)
    return groups, conflicts


def is_placeholder(patient_id: str) -> bool:
    """Whether a patient id is a word that anonymisers and scanners write for anybody."""
    return same_name(patient_id) in NOBODY or not set(patient_id) - set("0xX-_. ")


def _by_region_and_date(studies: list[Identity], window: int) -> list[list[Identity]]:
    """Newest first: a case reaches back ``window`` days from its newest study."""
    out: list[list[Identity]] = []
    for study in reversed(studies):
        for group in out:
            newest = parse_date(group[0].study_date)
            this = parse_date(study.study_date)
            regions = {s.body_part.upper() for s in (*group, study)} - {""}
            near = newest is None or this is None or abs((newest - this).days) <= window
            if near and len(regions) <= 1:
                group.append(study)
                break
        else:
            out.append([study])
    return out


def case_id_of(studies: list[Identity]) -> str:
    """PATIENT-HASH: the same studies always have the same id, safe as a file name."""
    digest = hashlib.sha256("|".join(sorted(s.study_uid for s in studies)).encode()).hexdigest()[:10]
    name = "".join(c if c.isalnum() or c in "-_." else "-" for c in studies[0].patient_id)[:40] or "case"
    return f"{name}-{digest}"


def plan_cases(scanned: Scan, *, window: int = DEFAULT_WINDOW, folder: str = "") -> list[CaseFiles]:
    """The cases of a scan. Files without a study become a case each."""
    groups, conflicts = join_studies(list(scanned.identity.values()), window)
    by_study: dict[tuple[str, str], list[Key]] = {}
    for key in scanned.series:
        by_study.setdefault(key[1:], []).append(key)
    plans = []
    for group, conflict in zip(groups, conflicts, strict=True):
        series = [key for study in group for key in by_study.get((study.study_uid, study.patient_id), [])]
        plans.append(CaseFiles(case_id_of(group), group, series, [], scanned, folder, conflict))
    for entry in scanned.volumes:
        plans.append(CaseFiles(stem_name(entry.path.name), [], [], [entry], scanned, folder))
    return plans


def find_cases(
    path: Path,
    *,
    window: int = DEFAULT_WINDOW,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Found:
    """Read a path into cases, pixels and all."""
    with opened(path) as inside:
        scanned = scan(inside, progress=progress)
        plans = plan_cases(scanned, window=window, folder=str(path))
        cases = [c for p in plans if (c := p.read_case()).images]
    conflicts = list(
        dict.fromkeys(f"{p.conflict}; kept apart until a person confirms" for p in plans if p.conflict)
    )
    if len(cases) == 1:
        cases[0].refused = list(scanned.refused)
    return Found(cases, scanned, conflicts)
