"""Predictions of the library's cases: kept whole, with their drafts, the newest first."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic import BaseModel, ValidationError
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from ..drafting.held import Outlined
from ..drafting.priors import Prior
from ..errors import UserError
from ..io.names import log_name
from ..prediction import Prediction
from ..report import Report
from .accounts import need_acting
from .audit import enter
from .catalogue import CaseRow, ReportRow, ResultRow, latest_result
from .reports import add_draft, final_version

if TYPE_CHECKING:
    from .library import Library

log = logging.getLogger(__name__)

MOST_PRIORS = 3  # earlier cases that a report looks back on


class Summary(BaseModel, frozen=True):
    """What a worklist shows of a prediction: states by modality, the domain, and the probability of each
    assessed finding."""

    states: dict[str, str]
    in_domain: bool
    findings: dict[str, float]
    cannot_tell: list[str]


class Likelihood(BaseModel, frozen=True):
    """A finding with its calibrated probability, and whether the images could show it."""

    id: str
    probability: float | None = None
    assessed: bool = True


class Searchable(BaseModel, frozen=True):
    """What a search reads of a stored prediction: a (D,) unit vector by sense, the findings and the
    lesions."""

    embedding: dict[str, list[float]]
    findings: list[Likelihood]
    lesions: list[Outlined] = []

    @property
    def chances(self) -> dict[str, float]:
        """Finding → probability, of those assessed."""
        return {f.id: f.probability for f in self.findings if f.assessed and f.probability is not None}


def summary_of(prediction: Prediction) -> Summary:
    """What a worklist shows of a prediction."""
    found = {
        f.id: round(f.probability, 3) for f in prediction.findings if f.assessed and f.probability is not None
    }
    return Summary(
        states=dict(prediction.modalities),
        in_domain=prediction.in_domain,
        findings=found,
        cannot_tell=[f.id for f in prediction.findings if f.assessed and f.cannot_tell],
    )


def save_result(library: Library, prediction: Prediction, report: Report) -> None:
    """Keep a prediction, and its draft as the newest revision of the case's report, unless that is signed or
    a person's work: then the draft stands beside it (see `reports.draft_beside`). Raises WrongUse where who
    acts is no author."""
    need_acting("author", "predict a case")
    with library.session() as s:
        row = ResultRow(
            case_id=prediction.case_id,
            bundle_hash=prediction.bundle_hash,
            language=report.language,
            prediction=prediction.model_dump(mode="json"),
            report=report.model_dump(mode="json"),
            summary=summary_of(prediction).model_dump(mode="json"),
        )
        s.add(row)
        s.flush()
        draft = add_draft(s, prediction.case_id, report, row.id)
        enter(
            s,
            "predicted",
            case_id=prediction.case_id,
            bundle=prediction.bundle,
            bundle_hash=prediction.bundle_hash,
            result=row.id,
            revision=None if draft is None else draft.revision,
        )


def load_result(library: Library, case_id: str) -> tuple[Prediction, Report] | None:
    """The newest revision of the report, with the prediction it was drafted from."""
    with library.session() as s:
        newest = s.scalars(
            select(ReportRow).where(ReportRow.case_id == case_id).order_by(ReportRow.revision.desc()).limit(1)
        ).first()
        row = s.get(ResultRow, newest.result_id) if newest is not None else latest_result(s, case_id)
        if row is None:
            return None
        try:
            return Prediction(**row.prediction), Report(
                **(newest.report if newest is not None else row.report)
            )
        except ValidationError:
            log.warning("%s: its stored result is of another version; predict it again", log_name(case_id))
            return None


def prior_of(library: Library, case_id: str) -> Prior | None:
    """The newest earlier case of the same patient, read by a model or not, with those before it, as far back
    as one was read and three at least. Identifiers that wait join nothing."""
    with library.session() as s:
        found = [(row.id, _prior(s, row)) for row in _earlier(s, case_id)]
    read = [n for n, (_, p) in enumerate(found) if p.prediction is not None]
    kept = found[: max(MOST_PRIORS, read[0] + 1 if read else 0)]
    prior = None
    for earlier, one in reversed(kept):
        said = replace(one, signed=_signed(library, earlier), measured=_lengths(library, earlier))
        prior = replace(said, before=prior.chain if prior is not None else ())
    return prior


def _prior(s: Session, row: CaseRow) -> Prior:
    """Dates and prediction of one earlier case; the prediction only where this version can read it."""
    dates: dict[str, str] = {}
    for x in row.series:
        dates[x.modality] = max(dates.get(x.modality, ""), x.study_date)
    result = latest_result(s, row.id)
    if result is None:
        return Prior(dates=dates)
    try:
        return Prior(dates=dates, prediction=Prediction(**result.prediction))
    except ValidationError:
        log.warning("%s: its stored prediction is of another version; predict it again", log_name(row.id))
        return Prior(dates=dates)


def _signed(library: Library, case_id: str) -> str:
    """The impression of a case's signed report; "" where nobody signed one, or it is not what was signed."""
    try:
        signed = final_version(library, case_id)
    except UserError:
        log.warning("%s: its signed report is not used; see medfuse audit", log_name(case_id))
        return ""
    section = signed.report.section("impression") if signed is not None else None
    rows = section.sentences if section is not None else []
    return " ".join(x.text for x in rows if x.state != "rejected")


def _lengths(library: Library, case_id: str) -> tuple[str, ...]:
    """What readers measured on a case's images, with their names."""
    from .workbench import measurements  # loads the viewer's contract, which an answer does not need

    drawn = [m for m in measurements(library, case_id) if m.kind in ("distance", "bidirectional")]
    return tuple(f"{m.text} ({m.author})" for m in drawn)


def unpredicted_prior(library: Library, case_id: str) -> tuple[str, str] | None:
    """Id and date of the newest earlier case of the same patient, where it was never predicted: it could be
    compared, and is not."""
    with library.session() as s:
        newest = next(iter(_earlier(s, case_id)), None)
        if newest is None or latest_result(s, newest.id) is not None:
            return None
        return newest.id, newest.study_date


def earlier_study(library: Library, case_id: str) -> tuple[str, str] | None:
    """Id and date of the newest earlier case of the same patient, predicted or not."""
    with library.session() as s:
        newest = next(iter(_earlier(s, case_id)), None)
        return None if newest is None else (newest.id, newest.study_date)


def _earlier(s: Session, case_id: str) -> list[CaseRow]:
    """Earlier cases of the same patient, newest first. Identifiers that wait join nothing."""
    row = s.get(CaseRow, case_id)
    if row is None or not row.patient_id or row.conflict or not row.study_date:
        return []
    older = select(CaseRow).where(
        CaseRow.patient_id == row.patient_id,
        CaseRow.id != row.id,
        CaseRow.conflict == "",
        CaseRow.study_date < row.study_date,
        CaseRow.sex.in_([row.sex, ""]),
        CaseRow.birth_date.in_([row.birth_date, ""]),
        CaseRow.simulated == row.simulated,
    )
    return list(s.scalars(older.order_by(CaseRow.study_date.desc(), CaseRow.id)))


def latest_predictions(library: Library, bundle_hash: str) -> Iterator[tuple[str, Searchable]]:
    """The newest prediction of each case by one bundle; one that an older version stored otherwise is left
    out, and named in the log."""
    with library.session() as s:
        newest = (
            select(func.max(ResultRow.id))
            .where(ResultRow.bundle_hash == bundle_hash)
            .group_by(ResultRow.case_id)
        )
        rows = s.execute(select(ResultRow.case_id, ResultRow.prediction).where(ResultRow.id.in_(newest)))
        for case_id, stored in rows:
            try:
                yield case_id, Searchable.model_validate(stored)
            except ValidationError:
                log.warning(
                    "%s: its stored prediction is of another version; predict it again", log_name(case_id)
                )
