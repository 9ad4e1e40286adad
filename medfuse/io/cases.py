"""Studies → cases: patient id and issuer, agreeing sex and birth date, one body region, within a window of days.

A folder alone never joins two patients; identifiers that disagree wait for a person. Older studies are priors.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from ..case import Case
from .scan import Identity, Scan, opened, scan

DEFAULT_WINDOW = 30


@dataclass
class Found:
    """Cases of a path, the scan they came from, and identifiers that disagree (quarantined)."""

    cases: list[Case]
    scan: Scan
    conflicts: list[str] = field(default_factory=list)


def parse_date(text: str) -> date | None:
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:8]))
    except ValueError:
        return None


def join_studies(identities: list[Identity], window: int = DEFAULT_WINDOW) -> tuple[list[list[Identity]], list[str]]:
    """Groups of studies that are one case, and a sentence for each conflict. Studies without patient id stay alone."""
    people: dict[tuple[str, str], list[Identity]] = {}
    groups: list[list[Identity]] = []
    conflicts: list[str] = []
    for identity in sorted(identities, key=lambda i: (i.study_date, i.study_uid)):
        if identity.patient_id:
            people.setdefault((identity.patient_id, identity.issuer), []).append(identity)
        else:
            groups.append([identity])
    for (patient, _), studies in people.items():
        for what in ("sex", "birth_date"):
            values = {getattr(s, what) for s in studies} - {""}
            if len(values) > 1:
                conflicts.append(
                    f"patient id {patient}: {what.replace('_', ' ')} differs between studies ({', '.join(sorted(values))}); kept apart until a person confirms"
                )
                groups += [[s] for s in studies]
                break
        else:
            groups += _by_region_and_date(studies, window)
    return groups, conflicts


def _by_region_and_date(studies: list[Identity], window: int) -> list[list[Identity]]:
    """Newest first: a case reaches back ``window`` days from its newest study."""
    out: list[list[Identity]] = []
    for study in reversed(studies):
        for group in out:
            newest, this = parse_date(group[0].study_date), parse_date(study.study_date)
            regions = {s.body_part.upper() for s in (*group, study)} - {""}
            near = newest is None or this is None or abs((newest - this).days) <= window
            if near and len(regions) <= 1:
                group.append(study)
                break
        else:
            out.append([study])
    return out


def case_id_of(studies: list[Identity]) -> str:
    digest = hashlib.sha256("|".join(sorted(s.study_uid for s in studies)).encode()).hexdigest()[:10]
    name = "".join(c if c.isalnum() or c in "-_." else "-" for c in studies[0].patient_id)[:40] or "case"
    return f"{name}-{digest}"


def find_cases(path: Path, *, window: int = DEFAULT_WINDOW, progress=lambda done, total: None) -> Found:
    """Read a path into cases. Images without a study (NIfTI) become one case a file."""
    with opened(path) as inside:
        result = scan(inside, progress=progress)
    groups, conflicts = join_studies(list(result.identity.values()), window)
    cases = []
    for group in groups:
        uids = {s.study_uid for s in group}
        images = [i for i in result.images if i.source.study_uid in uids and i.source.series_uid]
        case = Case(case_id_of(group), group[0].patient_id, images, sex=group[0].sex, birth_date=group[0].birth_date,
                    study_uids=tuple(sorted(uids)), folder=str(path))  # fmt: skip
        cases.append(case)
    for image in result.images:
        if not image.source.series_uid:
            name = Path(image.source.path).name.split(".")[0]
            cases.append(Case(f"{name}-{image.source.sha256[:8]}", "", [image], folder=str(path)))
    with_images = [c for c in cases if c.images]
    if len(with_images) == 1:
        with_images[0].refused = list(result.refused)
    return Found(with_images, result, conflicts)
