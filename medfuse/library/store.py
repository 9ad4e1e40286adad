"""Content-addressed image files under MEDFUSE_HOME/images, and cases in and out of the catalogue."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from pydantic import ValidationError
from sqlalchemy import func, select
from sqlalchemy.orm import Session, selectinload

from ..case import Case, Image, Lab, Refusal
from ..errors import UserError, WrongUse
from ..io.export import describe
from ..io.nifti import read_nifti
from ..io.scan import scan_files
from ..prediction import Prediction
from ..report import Report
from ..reporting.priors import Prior
from ..settings import settings
from .catalogue import CaseRow, ReportRow, ResultRow, SeriesRow, latest_result, session
from .reports import add_draft


def stored_path(digest: str) -> Path:
    return settings().home / "images" / digest[:2] / digest


def store_file(path: Path, suffix: str = "") -> str:
    """Copy a file into the store under its SHA-256 (and a suffix, where its reader needs one), once; return that name. The file appears whole or not at all."""
    with path.open("rb") as f:
        digest = hashlib.file_digest(f, "sha256").hexdigest() + suffix
    target = stored_path(digest)
    if target.exists():
        return digest
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{digest}.{os.getpid()}.part")
    try:
        shutil.copyfile(path, part)
        part.rename(target)
    except OSError as e:
        part.unlink(missing_ok=True)
        raise UserError(
            f"{settings().home}: the library cannot be written ({e.strerror or e}); free space or set MEDFUSE_HOME"
        ) from e
    return digest


def add_case(s: Session, case: Case, paths: dict[str, list[Path]], conflict: str = "") -> bool:
    """Add one case in the caller's transaction; True when something was added. paths: files of each series."""
    row = s.get(CaseRow, case.case_id, options=[selectinload(CaseRow.series)])
    known = {x.uid: x for x in row.series} if row else {}
    wanted: dict[str, list[Image]] = {}
    for image in case.images:
        wanted.setdefault(image.source.series_uid or f"file:{image.source.sha256}", []).append(image)
    if row is None:
        dates = sorted(i.source.date for i in case.images if i.source.date)
        row = CaseRow(id=case.case_id, patient_id=case.patient_id, sex=case.sex, birth_date=case.birth_date, conflict=conflict,
                      indication=case.indication, risk=case.risk, labs=[asdict(x) for x in case.labs], simulated=case.simulated, study_date=dates[-1] if dates else "")  # fmt: skip
        s.add(row)
    added = False
    for uid, images in wanted.items():
        first = images[0]
        files = [store_file(p) for p in paths.get(uid) or [Path(first.source.path)]]
        old = known.get(uid)
        if old is not None and set(files) <= set(old.files):
            continue
        added = True
        if old is None:
            old = SeriesRow(uid=uid, study_uid=first.source.study_uid, study_date=first.source.date, modality=first.modality,
                            role=first.role, role_confidence=first.role_confidence,
                            description=first.source.description[:128])  # fmt: skip
            row.series.append(old)
        old.files = files  # a series that grew (more slices arrived) is the same series
        old.geometry = f"{first.geometry.outcome} {first.geometry.measured}"[:160]
        old.images = [describe(i) for i in images]
    return added


def files_of(case_id: str) -> list[str]:
    """SHA-256 of every stored file of a case, with the role of its series: what its prediction depends on."""
    with session() as s:
        rows = s.scalars(select(SeriesRow).where(SeriesRow.case_id == case_id).order_by(SeriesRow.uid))
        return [f"{x.role}:{d}" for x in rows for d in x.files]


def load_case(case_id: str) -> Case:
    """Read a case of the library from its stored files. Roles set by a person win over headers."""
    with session() as s:
        row = s.get(CaseRow, case_id, options=[selectinload(CaseRow.series)])
        if row is None:
            raise WrongUse(f"{case_id}: no such case in the library at {settings().home}; see medfuse cases")
        if row.conflict:
            raise UserError(
                f"{case_id}: {row.conflict}; look at the studies, then medfuse cases --confirm {case_id} to use this one"
            )
        case = Case(
            row.id, row.patient_id, indication=row.indication, risk=row.risk, sex=row.sex, birth_date=row.birth_date,
            labs=[Lab(**x) for x in row.labs],
        )  # fmt: skip
        series = list(row.series)
    missing = [x for x in series if not all(stored_path(d).exists() for d in x.files)]
    for x in missing:
        case.refused.append(Refusal(x.uid, "its files are missing from the library; ingest it again", x.modality))
    dicom = [x for x in series if x not in missing and not x.uid.startswith("file:")]
    found = scan_files([stored_path(d) for x in dicom for d in x.files])
    roles = {x.uid: (x.role, x.role_confidence) for x in dicom}
    for image in found.read_all():
        role, confidence = roles.get(image.source.series_uid, ("", 0.0))
        if confidence == 1.0 and role:
            image.role, image.role_confidence = role, confidence
        case.images.append(image)
    case.refused += found.refused
    for x in series:
        if x.uid.startswith("file:") and x not in missing:
            case.images.append(read_nifti(stored_path(x.files[0]), x.modality, x.role))
    case.study_uids = tuple(sorted({x.study_uid for x in series if x.study_uid}))
    return case


def summary_of(prediction: Prediction) -> dict:
    """What a worklist shows: states by modality, the domain, and the probability of each assessed finding."""
    found = {f.id: round(f.probability, 3) for f in prediction.findings if f.assessed and f.probability is not None}
    return {"states": dict(prediction.modalities), "in_domain": prediction.in_domain, "findings": found,
            "cannot_tell": [f.id for f in prediction.findings if f.assessed and f.cannot_tell]}  # fmt: skip


def save_result(prediction: Prediction, report: Report) -> None:
    """Keep a prediction, and its draft as the newest revision of the case's report (unless that is signed)."""
    with session() as s:
        row = ResultRow(case_id=prediction.case_id, bundle_hash=prediction.bundle_hash, language=report.language,
                        prediction=prediction.model_dump(mode="json"), report=report.model_dump(mode="json"), summary=summary_of(prediction))  # fmt: skip
        s.add(row)
        s.flush()
        add_draft(s, prediction.case_id, report, row.id)


def load_result(case_id: str) -> tuple[Prediction, Report] | None:
    """The newest revision of the report, with the prediction it was drafted from."""
    with session() as s:
        newest = s.scalars(
            select(ReportRow).where(ReportRow.case_id == case_id).order_by(ReportRow.revision.desc()).limit(1)
        ).first()
        row = s.get(ResultRow, newest.result_id) if newest is not None else latest_result(s, case_id)
        if row is None:
            return None
        try:
            return Prediction(**row.prediction), Report(**(newest.report if newest is not None else row.report))
        except ValidationError:
            logging.getLogger(__name__).warning(
                "%s: its stored result is of another version; predict it again", case_id
            )
            return None


def prior_of(case_id: str) -> Prior | None:
    """The newest earlier case of the same patient that was predicted, with its dates. Identifiers that wait join nothing."""
    with session() as s:
        row = s.get(CaseRow, case_id)
        if row is None or not row.patient_id or row.conflict or not row.study_date:
            return None
        older = select(CaseRow).where(
            CaseRow.patient_id == row.patient_id, CaseRow.id != row.id, CaseRow.conflict == "", CaseRow.study_date < row.study_date,
            CaseRow.sex.in_([row.sex, ""]), CaseRow.birth_date.in_([row.birth_date, ""]), CaseRow.simulated == row.simulated,
        )  # fmt: skip
        for candidate in s.scalars(older.order_by(CaseRow.study_date.desc(), CaseRow.id)):
            result = latest_result(s, candidate.id)
            if result is not None:
                dates: dict[str, str] = {}
                for x in candidate.series:
                    dates[x.modality] = max(dates.get(x.modality, ""), x.study_date)
                try:
                    return Prior(Prediction(**result.prediction), dates)
                except ValidationError:
                    continue  # of an older version
    return None


def set_words(
    case_id: str, *, indication: str | None = None, risk: str | None = None, labs: list[Lab] | None = None
) -> None:
    """A person's word on why a patient was imaged, on the documented risk status, or on laboratory values."""
    with session() as s:
        row = s.get(CaseRow, case_id)
        if row is None:
            raise WrongUse(f"{case_id}: no such case in the library; see medfuse cases")
        row.indication = row.indication if indication is None else indication
        row.risk = row.risk if risk is None else risk
        row.labs = row.labs if labs is None else [asdict(x) for x in labs]


def add_nifti(files: list[tuple[Path, str]]) -> str:
    """Add the NIfTI files of one patient, each with its stated modality, as one case; its id. Raises UnreadableError."""
    images = [read_nifti(path, modality) for path, modality in files]
    digest = hashlib.sha256("".join(i.source.sha256 for i in images).encode()).hexdigest()
    case = Case(f"{files[0][0].name.split('.')[0]}-{digest[:8]}", images=images)
    with session() as s:
        row = s.get(CaseRow, case.case_id)
        if row is not None:
            return case.case_id
        row = CaseRow(id=case.case_id, patient_id="", simulated=case.simulated)
        s.add(row)
        for (path, modality), image in zip(files, images, strict=True):
            kept = store_file(path, ".nii.gz" if path.name.lower().endswith(".gz") else ".nii")
            row.series.append(SeriesRow(
                uid=f"file:{image.source.sha256}", modality=modality, role=image.role, role_confidence=image.role_confidence,
                description=(image.source.description or path.name)[:128], files=[kept], images=[describe(image)],
                geometry=image.geometry.outcome,
            ))  # fmt: skip
    return case.case_id


def words_of(case_id: str) -> dict[str, str]:
    with session() as s:
        row = s.get(CaseRow, case_id)
        return {"indication": row.indication if row else "", "risk": row.risk if row else ""}


def series_of(case_id: str) -> list[dict]:
    """What the library knows of each series of a case, without reading a file."""
    with session() as s:
        rows = s.scalars(
            select(SeriesRow).where(SeriesRow.case_id == case_id).order_by(SeriesRow.modality, SeriesRow.id)
        )
        return [{"uid": x.uid, "modality": x.modality, "role": x.role, "confidence": x.role_confidence, "description": x.description,
                 "study_date": x.study_date, "geometry": x.geometry, "files": len(x.files)} for x in rows]  # fmt: skip


def latest_predictions(bundle_hash: str) -> Iterator[tuple[str, dict]]:
    """The newest prediction.json of each case by one bundle, as stored."""
    with session() as s:
        newest = select(func.max(ResultRow.id)).where(ResultRow.bundle_hash == bundle_hash).group_by(ResultRow.case_id)
        rows = s.execute(select(ResultRow.case_id, ResultRow.prediction).where(ResultRow.id.in_(newest)))
        yield from ((row[0], row[1]) for row in rows)


def has_case(case_id: str) -> bool:
    if not (settings().home / "library.db").exists() and not settings().database_url:
        return False
    with session() as s:
        return s.get(CaseRow, case_id) is not None


STATES = {"draft": "drafted", "preliminary": "preliminary", "final": "signed", "amended": "signed"}


def list_cases(with_modality: tuple[str, ...] = (), without: tuple[str, ...] = ()) -> list[dict]:
    """Rows of the worklist, newest first."""
    with session() as s:
        rows = s.scalars(
            select(CaseRow).options(selectinload(CaseRow.series)).order_by(CaseRow.study_date.desc(), CaseRow.id)
        ).all()
        newest = select(func.max(ReportRow.id)).group_by(ReportRow.case_id)
        states = {
            c: x for c, x in s.execute(select(ReportRow.case_id, ReportRow.state).where(ReportRow.id.in_(newest)))
        }
        predicted = set(s.scalars(select(ResultRow.case_id).distinct()))
        out = []
        for row in rows:
            modalities = sorted({x.modality for x in row.series})
            if not set(with_modality) <= set(modalities) or set(without) & set(modalities):
                continue
            state = STATES[states[row.id]] if row.id in states else "drafted" if row.id in predicted else "new"
            out.append({
                "case_id": row.id, "patient_id": row.patient_id, "study_date": row.study_date, "modalities": modalities,
                "series": [{"uid": x.uid, "modality": x.modality, "role": x.role, "confidence": x.role_confidence} for x in row.series],
                "simulated": row.simulated, "conflict": row.conflict, "state": state,
            })  # fmt: skip
        return out


def set_role(series_uid: str, role: str) -> None:
    """A person's word on a series: confidence 1."""
    with session() as s:
        row = s.scalars(select(SeriesRow).where(SeriesRow.uid == series_uid)).first()
        if row is None:
            raise WrongUse(f"{series_uid}: no such series in the library; see medfuse cases --json")
        row.role, row.role_confidence = role, 1.0


def has_series(uid: str) -> bool:
    if not (settings().home / "library.db").exists() and not settings().database_url:
        return False
    with session() as s:
        return s.scalars(select(SeriesRow.id).where(SeriesRow.uid == uid)).first() is not None


def confirm(case_id: str) -> None:
    """A person has looked at the identifiers and takes this case as it is."""
    with session() as s:
        row = s.get(CaseRow, case_id)
        if row is None:
            raise WrongUse(f"{case_id}: no such case in the library; see medfuse cases")
        row.conflict = ""
