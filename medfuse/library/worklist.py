"""The worklist: thousands of cases in one reading, by what they hold, what was found, and how far they are."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select

from .catalogue import CaseRow, ReportRow, ResultRow, SeriesRow, session
from .store import STATES


@dataclass(frozen=True)
class Filters:
    """words: in patient or case id; dates as YYYYMMDD or YYYY-MM-DD, inclusive; finding with at least ``least`` probability."""

    words: str = ""
    with_modality: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    state: str = ""
    since: str = ""
    until: str = ""
    finding: str = ""
    least: float = 0.5


@dataclass(frozen=True)
class Row:
    """One case. states: by modality present, limited, absent, failed; findings: probability of what was assessed."""

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


def worklist(filters: Filters = Filters()) -> list[Row]:
    """Rows, newest study first."""
    with session() as s:
        cases = s.execute(
            select(CaseRow.id, CaseRow.patient_id, CaseRow.study_date, CaseRow.conflict, CaseRow.simulated)
            .order_by(CaseRow.study_date.desc(), CaseRow.id)
        ).all()  # fmt: skip
        series: dict[str, set[str]] = {}
        unsure: dict[str, int] = {}
        for case_id, modality, role in s.execute(select(SeriesRow.case_id, SeriesRow.modality, SeriesRow.role)):
            series.setdefault(case_id, set()).add(modality)
            unsure[case_id] = unsure.get(case_id, 0) + (role == "unknown")
        newest = select(func.max(ReportRow.id)).group_by(ReportRow.case_id)
        of_reports = select(ReportRow.case_id, ReportRow.state).where(ReportRow.id.in_(newest))
        reports: dict[str, str] = {case_id: state for case_id, state in s.execute(of_reports)}
        latest = select(func.max(ResultRow.id)).group_by(ResultRow.case_id)
        of_results = select(ResultRow.case_id, ResultRow.summary).where(ResultRow.id.in_(latest))
        results: dict[str, dict] = {case_id: summary for case_id, summary in s.execute(of_results)}
    out = []
    for case_id, patient_id, date, conflict, simulated in cases:
        summary = results.get(case_id) or {}
        acquired = series.get(case_id, set())
        states = summary.get("states") or {m: "present" if m in acquired else "absent" for m in ("US", "CT", "MR")}
        state = STATES[reports[case_id]] if case_id in reports else "drafted" if case_id in results else "new"
        row = Row(case_id, patient_id, date, states, state, conflict, simulated, summary.get("in_domain"), summary.get("findings", {}),
                  tuple(summary.get("cannot_tell", ())), unsure.get(case_id, 0))  # fmt: skip
        if fits(row, filters):
            out.append(row)
    return out


def fits(row: Row, f: Filters) -> bool:
    """Whether a row is wanted: what the worklist does to every row, and the viewer to rows that it has read already."""
    date = row.study_date.replace("-", "")
    acquired = {m for m, state in row.states.items() if state != "absent"}
    return (
        f.words.lower() in f"{row.case_id} {row.patient_id}".lower()
        and set(f.with_modality) <= acquired
        and not set(f.without) & acquired
        and f.state in ("", row.state)
        and (not f.since or date >= f.since.replace("-", ""))
        and (not f.until or date <= f.until.replace("-", ""))
        and (not f.finding or row.findings.get(f.finding, 0.0) >= f.least)
    )
