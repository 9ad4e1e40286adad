"""The studies of an archive, with all that a report may be compared with."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date

from ..errors import WrongUse
from ..io.cases import parse_date
from ..io.child import ChildFailed, children
from ..io.scan import Identity, Key, Scan
from .headers import StudyHeader, read_study_headers
from .words import side_of

CHUNK = 64  # headers a call of a child


@dataclass
class Study:
    """One study of one patient. conflict: why it must wait for a person, whatever a report says."""

    identity: Identity
    series: list[Key] = field(default_factory=list)
    accessions: set[str] = field(default_factory=set)
    issuers: set[str] = field(default_factory=set)
    modalities: set[str] = field(default_factory=set)
    descriptions: list[str] = field(default_factory=list)
    scanners: set[str] = field(default_factory=set)
    sides: set[str] = field(default_factory=set)
    conflict: str = ""

    @property
    def uid(self) -> str:
        """Its StudyInstanceUID."""
        return self.identity.study_uid

    @property
    def key(self) -> tuple[str, str]:
        """StudyInstanceUID and patient id."""
        return self.identity.study_uid, self.identity.patient_id

    @property
    def person(self) -> tuple[str, str]:
        """Patient id and its issuer."""
        return self.identity.patient_id, self.identity.issuer

    @property
    def date(self) -> date | None:
        """When it was acquired."""
        return parse_date(self.identity.study_date)

    @property
    def side(self) -> str:
        """right or left where its headers say that it is of one side alone."""
        return next(iter(self.sides)) if len(self.sides) == 1 else ""


def read_studies(scan: Scan, confirmed: frozenset[str] = frozenset()) -> list[Study]:
    """Every study of a scan, by date; one header of each series is read. confirmed: UIDs of studies whose
    several accession numbers a person has found to be right. Raises WrongUse for a UID that none has."""
    studies = {key: Study(identity=identity) for key, identity in scan.identity.items()}
    keys = list(scan.series)
    for key, header in zip(keys, _headers([str(scan.series[k][0].path) for k in keys]), strict=True):
        _take(studies[key[1:]], key, scan.series[key][0].modality, header)
    patients: dict[str, set[str]] = {}
    for study in studies.values():
        patients.setdefault(study.uid, set()).add(study.identity.patient_id)
    for study in studies.values():
        study.conflict = _conflict(study, patients[study.uid], confirmed)
    if strange := sorted(confirmed - patients.keys()):
        raise WrongUse(f"--confirm {strange[0]}: no study of the archive has this StudyInstanceUID")
    return sorted(studies.values(), key=lambda s: (s.identity.study_date, s.key))


def _headers(paths: list[str]) -> list[StudyHeader]:
    pool = children()
    chunks = [paths[i : i + CHUNK] for i in range(0, len(paths), CHUNK)]

    def read(chunk: list[str]) -> list[StudyHeader]:
        try:
            return pool.run(read_study_headers, chunk)
        except ChildFailed:  # the scan read these headers before: what breaks now is named where it is read
            return [StudyHeader()] * len(chunk)

    return [h for part in pool.each(read, chunks) for h in part]


def _take(study: Study, key: Key, modality: str, header: StudyHeader) -> None:
    study.series.append(key)
    study.modalities.add(modality)
    study.issuers.update(header.issuers)
    study.descriptions.append(header.description)
    study.scanners.update(filter(None, (header.scanner,)))
    if header.accession:
        study.accessions.add(header.accession)
    side = {"R": "right", "L": "left"}.get(header.laterality.upper(), "") or side_of(header.description)
    if side:
        study.sides.add(side)


def _conflict(study: Study, patients: set[str], confirmed: frozenset[str]) -> str:
    if len(patients) > 1:
        return f"its files carry several patient ids ({', '.join(sorted(p or 'none' for p in patients))})"
    if study.identity.other_name:
        return "its files carry several patient names"
    if len(study.accessions) > 1 and study.uid not in confirmed:
        numbers = ", ".join(sorted(study.accessions))
        said = f"its files carry several accession numbers ({numbers})"
        return f"{said}; where they are right, --confirm {study.uid}"
    return ""
