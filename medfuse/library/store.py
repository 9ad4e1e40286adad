"""Cases in and out of the catalogue."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import func, select
from sqlalchemy.orm import Session, selectinload

from ..case import Case, Image, Lab, Refusal
from ..errors import UnreadableError, UserError, WrongUse
from ..io.export import describe
from ..io.names import shown
from ..io.nifti import read_nifti
from ..io.outlined import outlined_structures
from ..io.read import open_case
from ..io.scan import scan_files
from ..io.sidecar import SUFFIX
from ..io.volume_files import DETACHED, suffix_of
from ..modalities import is_cine
from .accounts import Account, need, need_acting
from .audit import enter
from .catalogue import CaseRow, ReportRow, ResultRow, SeriesRow
from .image_files import place_sidecars, store_file, store_sidecar, stored_path
from .integrity import why_unusable
from .labels import label
from .referring import LABEL_MAP, keep_label_map, objects_of
from .whose import Identity as Identity
from .whose import age_at as age_at
from .whose import identity_of as identity_of

if TYPE_CHECKING:
    from .library import Library


def add_case(
    library: Library, s: Session, case: Case, paths: dict[str, list[Path]], conflict: str = ""
) -> bool:
    """Add one case in the caller's transaction; True when something was added. paths: files of each
    series."""
    need_acting("author", "add a case")
    row = s.get(CaseRow, case.case_id, options=[selectinload(CaseRow.series)])
    if row is None:
        row = _row_of(case, conflict)
        s.add(row)
    known = {x.uid: x for x in row.series}
    wanted = _by_series(case.images)
    added = False
    for uid, images in wanted.items():
        first = images[0]
        files = [store_file(library, p) for p in paths.get(uid) or [Path(first.source.path)]]
        old = known.get(uid)
        if old is not None and set(files) <= set(old.files):
            continue
        added = True
        if old is None:
            old = _series_row(uid, first)
            row.series.append(old)
        old.files = files  # a series that grew (more slices arrived) is the same series
        old.geometry = f"{first.geometry.outcome} {first.geometry.measured}"[:160]
        old.images = [describe(i).as_json() for i in images]
    if added:
        s.flush()
        label(s, case, sum(len(x.files) for x in row.series))
        enter(s, "case added" if not known else "case grew", case_id=case.case_id, series=len(wanted))
    return added


def _by_series(images: list[Image]) -> dict[str, list[Image]]:
    """Images by the UID of their series, or by their file where they have none."""
    out: dict[str, list[Image]] = {}
    for image in images:
        out.setdefault(image.source.series_uid or f"file:{image.source.sha256}", []).append(image)
    return out


def _row_of(case: Case, conflict: str) -> CaseRow:
    """A new row of a case, without its series; dated by its newest image."""
    return CaseRow(
        id=case.case_id,
        patient_id=case.patient_id,
        sex=case.sex,
        birth_date=case.birth_date,
        conflict=conflict,
        indication=case.indication,
        risk=case.risk,
        labs=[asdict(x) for x in case.labs],
        simulated=case.simulated,
        study_date=max((i.source.date for i in case.images if i.source.date), default=""),
    )


def _series_row(uid: str, first: Image) -> SeriesRow:
    """A new row of a series, by its first image; without its files."""
    return SeriesRow(
        uid=uid,
        study_uid=first.source.study_uid,
        study_date=first.source.date,
        modality=first.modality,
        role=first.role,
        role_confidence=first.role_confidence,
        description=first.source.description[:128],
    )


def files_of(library: Library, case_id: str) -> list[str]:
    """SHA-256 of every stored file of a case, with the role of its series: what its prediction depends on."""
    with library.session() as s:
        rows = s.scalars(select(SeriesRow).where(SeriesRow.case_id == case_id).order_by(SeriesRow.uid))
        return [f"{x.role}:{d}" for x in rows for d in x.files]


def load_case(library: Library, case_id: str) -> Case:
    """Read a case of the library from its stored files. Roles set by a person win over headers."""
    with library.session() as s:
        row = s.get(CaseRow, case_id, options=[selectinload(CaseRow.series)])
        if row is None:
            raise WrongUse(f"{case_id}: no such case in the library at {library.home}; see medfuse cases")
        if row.conflict:
            raise UserError(
                f"{case_id}: {row.conflict}; look at the studies, then medfuse cases --confirm "
                f"{case_id} to use this one"
            )
        case = _case_of(row)
        series = list(row.series)
    case.study_uids = tuple(sorted({x.study_uid for x in series if x.study_uid}))
    faults = [why_unusable(library, x.files) for x in series]
    case.refused += [Refusal(x.uid, why, x.modality) for x, why in zip(series, faults, strict=True) if why]
    there = [x for x, why in zip(series, faults, strict=True) if not why]
    case.objects = objects_of(library, case_id)
    _read_dicom(library, case, [x for x in there if not x.uid.startswith("file:")])
    for x in there:
        if x.uid.startswith("file:"):
            volume = stored_path(library, x.files[0])
            place_sidecars(library, volume, x.files[1:])
            case.images.append(read_nifti(volume, x.modality, x.role))
    return case


def _case_of(row: CaseRow) -> Case:
    """The case without its images."""
    return Case(
        row.id,
        row.patient_id,
        indication=row.indication,
        risk=row.risk,
        sex=row.sex,
        birth_date=row.birth_date,
        labs=[Lab(**x) for x in row.labs],
    )


def _read_dicom(library: Library, case: Case, series: list[SeriesRow]) -> None:
    """Add the images of stored DICOM series to a case, and what of them cannot be read."""
    captures = next((x.modality for x in series if is_cine(x.modality)), "")  # what was taken stays taken
    found = scan_files([stored_path(library, d) for x in series for d in x.files], captures=captures)
    said = {x.uid: x.role for x in series if x.role_confidence == 1.0 and x.role}  # by a person
    for image in found.read_all():
        if image.source.series_uid in said:
            image.role = said[image.source.series_uid]
            image.role_confidence = 1.0
        case.images.append(image)
    case.refused += found.refused


def set_words(
    library: Library,
    case_id: str,
    *,
    indication: str | None = None,
    risk: str | None = None,
    labs: list[Lab] | None = None,
    by: Account | None = None,
) -> None:
    """A person's word on why a patient was imaged, on the documented risk status, or on laboratory values."""
    with library.session() as s:
        row = s.get(CaseRow, case_id)
        if row is None:
            raise WrongUse(f"{case_id}: no such case in the library; see medfuse cases")
        row.indication = row.indication if indication is None else indication
        row.risk = row.risk if risk is None else risk
        row.labs = row.labs if labs is None else [asdict(x) for x in labs]
        enter(s, "words set", who=_who(by), case_id=case_id)


def add_nifti(library: Library, files: list[tuple[Path, str]]) -> str:
    """Add the volume files of one patient (NIfTI, MetaImage, NRRD), each with its stated modality, as one
    case; its id. Those that are stated to be label maps (`LABEL_MAP`) are outlines on the others. Raises
    UnreadableError."""
    need_acting("author", "add a case")
    parts: dict[str, list[Path]] = {}
    for path, modality in files:
        if suffix_of(path) in DETACHED:
            raise UnreadableError(path, "keeps its voxels in another file; give both in one (.nii.gz, .mha)")
        parts.setdefault(modality, []).append(path)
    maps = parts.pop(LABEL_MAP, [])
    if maps and not parts:
        raise UnreadableError(maps[0], "is a label map by itself; give the image that it is of with it")
    case = open_case(parts, allow_empty=True)
    if case.refused:
        raise UnreadableError(case.refused[0].path, case.refused[0].reason)
    for path in maps:
        for _ in outlined_structures(path, "label map", case.images):  # refused before anything is kept
            pass
    with library.session() as s:
        row = s.get(CaseRow, case.case_id)
        known = row is not None
        if row is None:
            row = _nifti_row(library, s, case)
        for path in maps:
            keep_label_map(library, s, case.case_id, path, suffix_of(path))
        if not known:
            enter(s, "case added", case_id=case.case_id, series=len(row.series))
    return case.case_id


def _nifti_row(library: Library, s: Session, case: Case) -> CaseRow:
    """A new row of a case of volume files, with them in the store."""
    row = CaseRow(id=case.case_id, patient_id="", simulated=case.simulated)
    s.add(row)
    for image in case.images:
        path = Path(image.source.path)
        kept = store_file(library, path, suffix_of(path))
        side = store_sidecar(library, path)
        row.series.append(
            SeriesRow(
                uid=f"file:{image.source.sha256}",
                modality=image.modality,
                role=image.role,
                role_confidence=image.role_confidence,
                description=(image.source.description or shown(path.name))[:128],
                files=[kept, *side],
                images=[describe(image).as_json()],
                geometry=image.geometry.outcome,
            )
        )
    s.flush()
    return row


def words_of(library: Library, case_id: str) -> dict[str, str]:
    """The indication and risk status of a case; empty where nothing is known."""
    with library.session() as s:
        row = s.get(CaseRow, case_id)
        return {"indication": row.indication if row else "", "risk": row.risk if row else ""}


@dataclass(frozen=True, kw_only=True)
class KnownSeries:
    """What the library knows of a series. confidence: of its role, 1 where a person said so; geometry: the
    outcome of the check and what was measured; files: how many."""

    uid: str
    modality: str
    role: str
    confidence: float
    description: str
    study_date: str
    geometry: str
    files: int


def _known(row: SeriesRow) -> KnownSeries:
    return KnownSeries(
        uid=row.uid,
        modality=row.modality,
        role=row.role,
        confidence=row.role_confidence,
        description=row.description,
        study_date=row.study_date,
        geometry=row.geometry,
        files=sum(not name.endswith(SUFFIX) for name in row.files),
    )


def series_of(library: Library, case_id: str) -> list[KnownSeries]:
    """What the library knows of each series of a case, without reading a file."""
    with library.session() as s:
        rows = s.scalars(
            select(SeriesRow).where(SeriesRow.case_id == case_id).order_by(SeriesRow.modality, SeriesRow.id)
        )
        return [_known(x) for x in rows]


def has_case(library: Library, case_id: str) -> bool:
    """Whether the library holds a case of this id. Makes no library where there is none."""
    if not library.exists:
        return False
    with library.session() as s:
        return s.get(CaseRow, case_id) is not None


STATES = {"draft": "drafted", "preliminary": "preliminary", "final": "signed", "amended": "signed"}


@dataclass(frozen=True, kw_only=True)
class KnownCase:
    """One case of the library. conflict: why its identifiers wait for a person, else empty; state: new,
    drafted, preliminary or signed."""

    case_id: str
    patient_id: str
    study_date: str
    modalities: tuple[str, ...]
    series: tuple[KnownSeries, ...]
    simulated: bool
    conflict: str
    state: str


def list_cases(
    library: Library, with_modality: tuple[str, ...] = (), without: tuple[str, ...] = ()
) -> list[KnownCase]:
    """Rows of the worklist, newest first."""
    with library.session() as s:
        rows = s.scalars(
            select(CaseRow)
            .options(selectinload(CaseRow.series))
            .order_by(CaseRow.study_date.desc(), CaseRow.id)
        ).all()
        newest = select(func.max(ReportRow.id)).group_by(ReportRow.case_id)
        states = {
            c: x
            for c, x in s.execute(select(ReportRow.case_id, ReportRow.state).where(ReportRow.id.in_(newest)))
        }
        predicted = set(s.scalars(select(ResultRow.case_id).distinct()))
        out = []
        for row in rows:
            modalities = sorted({x.modality for x in row.series})
            if not set(with_modality) <= set(modalities) or set(without) & set(modalities):
                continue
            state = (
                STATES[states[row.id]] if row.id in states else "drafted" if row.id in predicted else "new"
            )
            out.append(
                KnownCase(
                    case_id=row.id,
                    patient_id=row.patient_id,
                    study_date=row.study_date,
                    modalities=tuple(modalities),
                    series=tuple(_known(x) for x in row.series),
                    simulated=row.simulated,
                    conflict=row.conflict,
                    state=state,
                )
            )
        return out


def set_role(library: Library, series_uid: str, role: str, *, by: Account | None = None) -> None:
    """A person's word on a series: confidence 1."""
    with library.session() as s:
        row = s.scalars(select(SeriesRow).where(SeriesRow.uid == series_uid)).first()
        if row is None:
            raise WrongUse(f"{series_uid}: no such series in the library; see medfuse cases --json")
        row.role = role
        row.role_confidence = 1.0
        enter(s, "role set", who=_who(by), case_id=row.case_id, series=series_uid, role=role)


def has_series(library: Library, uid: str) -> bool:
    """Whether the library holds a series of this UID. Makes no library where there is none."""
    if not library.exists:
        return False
    with library.session() as s:
        return s.scalars(select(SeriesRow.id).where(SeriesRow.uid == uid)).first() is not None


def confirm(library: Library, case_id: str, *, by: Account | None = None) -> None:
    """A person has looked at the identifiers and takes this case as it is."""
    with library.session() as s:
        row = s.get(CaseRow, case_id)
        if row is None:
            raise WrongUse(f"{case_id}: no such case in the library; see medfuse cases")
        row.conflict = ""
        enter(s, "join confirmed", who=_who(by), case_id=case_id)


def _who(by: Account | None) -> str:
    """Who changes a case: an author, or the user of the operating system where no account is given."""
    if by is None:
        need_acting("author", "change a case")
        return ""
    need(by, "author", "change a case")
    return by.name
