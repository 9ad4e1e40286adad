"""The worklist: thousands of cases in one reading, by what they hold, what was found, and how far they
are."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from ..modalities import MODALITIES
from .catalogue import CaseRow, LabelRow, ReportRow, ResultRow, SeriesRow
from .critical import critical_cases
from .queue import assigned_cases
from .store import STATES, age_at

if TYPE_CHECKING:
    from .library import Library


LABELS = ("case_id", "name", "accession", "body_part", "description", "files")
NO_LABEL = ("", "", "", "", 0)


@dataclass(frozen=True)
class Filters:
    """words: each in patient or case id, name, accession, body part or description, in any script and width;
    dates as YYYYMMDD or YYYY-MM-DD, inclusive; finding with at least ``least`` probability; reader: to whom
    it is assigned."""

    words: str = ""
    with_modality: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    state: str = ""
    since: str = ""
    until: str = ""
    finding: str = ""
    least: float = 0.5
    reader: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One case. states: by modality present, limited, absent, failed; findings: probability of what was
    assessed; reader: account that is to read it; critical: flagged as such; told: and told to somebody."""

    case_id: str
    patient_id: str
    study_date: str
    states: dict[str, str]
    state: str  # new, drafted, preliminary, signed
    conflict: str
    simulated: bool
    in_domain: bool | None  # None before a prediction
    findings: dict[str, float]
    cannot_tell: tuple[str, ...]
    unsure_roles: int  # series whose role no header and no person says
    name: str = ""
    sex: str = ""
    birth_date: str = ""
    accession: str = ""
    body_part: str = ""
    description: str = ""
    series: int = 0
    files: int = 0
    reader: str = ""
    critical: bool = False
    told: bool = False

    @property
    def age(self) -> int | None:
        """Whole years at the study; None where a date is missing or is none."""
        return age_at(self.birth_date, self.study_date)

    @property
    def urgency(self) -> tuple[bool, float]:
        """What is read first: critical results that nobody was told of, then the likeliest findings."""
        return self.critical and not self.told, max(self.findings.values(), default=0.0)

    @property
    def confidence(self) -> float:
        """How sure the model is of its least sure finding: 0.5 is a coin, 1 is certain; 0 without a
        prediction."""
        return min((max(p, 1 - p) for p in self.findings.values()), default=0.0)


ORDERS: dict[str, Callable[[Row], tuple]] = {
    "date": lambda r: (0,),
    "urgency": lambda r: (-r.urgency[0], -r.urgency[1]),
    "unsure": lambda r: (r.confidence == 0, r.confidence),
    "sure": lambda r: (-r.confidence,),
    "name": lambda r: (_folded(r.name or r.patient_id),),
}


def ordered(rows: list[Row], order: str) -> list[Row]:
    """Rows by one of ORDERS; within it the newest study first."""
    return sorted(rows, key=ORDERS.get(order, ORDERS["date"]))


def worklist(library: Library, filters: Filters = Filters()) -> list[Row]:
    """Rows, newest study first."""
    with library.session() as s:
        cases = s.execute(
            select(
                CaseRow.id,
                CaseRow.patient_id,
                CaseRow.study_date,
                CaseRow.conflict,
                CaseRow.simulated,
                CaseRow.sex,
                CaseRow.birth_date,
            ).order_by(CaseRow.study_date.desc(), CaseRow.id)
        ).all()
        series = _series(s)
        labels = {x[0]: x[1:] for x in s.execute(select(*(getattr(LabelRow, c) for c in LABELS)))}
        newest = select(func.max(ReportRow.id)).group_by(ReportRow.case_id)
        of_reports = select(ReportRow.case_id, ReportRow.state).where(ReportRow.id.in_(newest))
        reports: dict[str, str] = {case_id: state for case_id, state in s.execute(of_reports)}
        latest = select(func.max(ResultRow.id)).group_by(ResultRow.case_id)
        of_results = select(ResultRow.case_id, ResultRow.summary).where(ResultRow.id.in_(latest))
        results: dict[str, dict] = {case_id: summary for case_id, summary in s.execute(of_results)}
    readers = assigned_cases(library)
    critical = critical_cases(library)
    everything = filters == Filters()
    out = []
    for case_id, patient_id, date, conflict, simulated, sex, born in cases:
        name, accession, body_part, description, files = labels.get(case_id, NO_LABEL)
        summary = results.get(case_id) or {}
        acquired = series.get(case_id, NO_SERIES)
        states = summary.get("states") or acquired.states
        state = STATES[reports[case_id]] if case_id in reports else "drafted" if case_id in results else "new"
        row = Row(
            case_id,
            patient_id,
            date,
            states,
            state,
            conflict,
            simulated,
            summary.get("in_domain"),
            summary.get("findings", {}),
            tuple(summary.get("cannot_tell", ())),
            acquired.unsure,
            name=name,
            sex=sex,
            birth_date=born,
            accession=accession,
            body_part=body_part,
            description=description,
            series=acquired.count,
            files=files,
            reader=readers.get(case_id, ""),
            critical=case_id in critical,
            told=critical.get(case_id, False),
        )
        if everything or fits(row, filters):
            out.append(row)
    return out


@dataclass
class _Series:
    """Of one case: modalities, how many series, and how many whose role nothing says."""

    modalities: set[str] = field(default_factory=set)
    count: int = 0
    unsure: int = 0

    @property
    def states(self) -> dict[str, str]:
        """By modality, before a prediction has looked at the images."""
        return {m: "present" if m in self.modalities else "absent" for m in MODALITIES}


NO_SERIES = _Series()


def _series(session: Session) -> dict[str, _Series]:
    """Case → its series."""
    unknown = func.sum(case((SeriesRow.role == "unknown", 1), else_=0))
    counted = select(SeriesRow.case_id, SeriesRow.modality, func.count(), unknown)
    out: dict[str, _Series] = {}
    for case_id, modality, count, unsure in session.execute(
        counted.group_by(SeriesRow.case_id, SeriesRow.modality)
    ):
        of_case = out.setdefault(case_id, _Series())
        of_case.modalities.add(modality)
        of_case.count += count
        of_case.unsure += unsure
    return out


def fits(row: Row, f: Filters) -> bool:
    """Whether a row is wanted: what the worklist does to every row, and the viewer to rows that it has read
    already."""
    acquired = {m for m, state in row.states.items() if state != "absent"}
    return (
        _said(row, f.words)
        and f.reader in ("", row.reader)
        and f.state in ("", row.state)
        and set(f.with_modality) <= acquired
        and not set(f.without) & acquired
        and _in_time(row, f)
        and (not f.finding or row.findings.get(f.finding, 0.0) >= f.least)
    )


def _in_time(row: Row, f: Filters) -> bool:
    """Whether the study's day lies within the two of the filter, of which each may be missing."""
    if not f.since and not f.until:
        return True
    date = row.study_date.replace("-", "")
    first = f.since.replace("-", "")
    last = f.until.replace("-", "")
    return first <= date and (not last or date <= last)


def _said(row: Row, words: str) -> bool:
    """Whether each word stands somewhere in what is known of a case: a family name first or last."""
    if not words:
        return True
    known = (row.case_id, row.patient_id, row.name, row.accession, row.body_part, row.description)
    told = _folded(" ".join(known))
    return all(word in told for word in _folded(words).split())


def _folded(text: str) -> str:
    """Without case, accents and widths, so that José is found as jose."""
    plain = unicodedata.normalize("NFKD", text).casefold()
    return "".join(c for c in plain if not unicodedata.combining(c))
