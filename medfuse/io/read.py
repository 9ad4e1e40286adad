"""`open_case`: the only road from anything a user names to a Case."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ..case import Case, Image, Refusal
from ..errors import UnreadableError, UserError, WrongUse
from ..modalities import cines, listed, stated
from . import film, nifti, picture
from .cases import DEFAULT_WINDOW, CaseFiles, plan_cases
from .manifest import ManifestRow
from .names import stem_name
from .rows import read_row
from .scan import Scan, opened, scan, scan_files
from .sidecar import read_sidecar
from .volume_files import is_volume_file

Parts = Mapping[str, Sequence[Path]]
ById = Callable[[str], Case]  # reads a kept case by its id
Source = str | Path | Sequence[Path] | Parts | ManifestRow | CaseFiles


def open_case(
    source: Source,
    *,
    modality: str = "",
    tracked: bool = False,
    window: int = DEFAULT_WINDOW,
    library: ById | None = None,
    keep: ExitStack | None = None,
    allow_empty: bool = False,
) -> Case:
    """Read the one case of a source, pixels and all.

    source: a path (folder, DICOMDIR, zip, or one DICOM, NIfTI, MetaImage or picture file); paths by the
        modality that the user states; a list of DICOM files; a manifest row; a planned case of a scan; or,
        where ``library`` reads one by its id, the id of a case of the library.
    modality: of a single file that does not say it. tracked: a file of ultrasound has its place in space.
    window: studies of one patient within so many days are one case.
    keep: keeps a zip unpacked as long as the caller needs its files.
    allow_empty: give a case without images back, with its refusals, instead of raising.

    Raises WrongUse where a source does not exist or holds several cases or patients, UserError where nothing
    in it can be read; what is refused beside readable images is in ``case.refused``.
    """
    with ExitStack() as here:
        case = _read(source, modality, tracked, window, library, keep or here)
    if not case.images and not allow_empty:
        name = source if isinstance(source, str | Path) else case.case_id
        raise UserError(f"{name}: " + "; ".join(r.reason for r in case.refused))
    return case


def _read(
    source: Source,
    modality: str,
    tracked: bool,
    window: int,
    library: ById | None,
    keep: ExitStack,
) -> Case:
    if isinstance(source, ManifestRow):
        return read_row(source)[0]
    if isinstance(source, CaseFiles):
        return source.read_case()
    if isinstance(source, Mapping):
        return _from_parts(source, keep)
    if isinstance(source, str | Path):
        path = Path(source)
        if library is not None and not path.exists():
            return library(str(source))
        if not path.exists():
            raise WrongUse(f"{path}: no such file or folder; check the path")
        if is_one_file(path):
            return _single_file(path, modality, tracked)
        captures = stated(modality) if stated(modality) in cines() else ""
        return _only(scan(keep.enter_context(opened(path)), captures=captures), str(path), window)
    return _only(scan_files(list(source)), "", window)


def is_one_file(path: Path) -> bool:
    """Whether a path names one NIfTI, MetaImage, picture or film file, by its ending."""
    return is_volume_file(path) or path.suffix.lower() in (*picture.SUFFIXES, *film.SUFFIXES)


@dataclass(frozen=True, kw_only=True)
class Volume:
    """One volume of a case, and the case."""

    case: Case
    image: Image


def open_volume(path: Path, *, modality: str = "", role: str = "") -> Volume:
    """The one volume of a path that has a place in space. Raises WrongUse that lists them where there are
    several."""
    case = open_case(path, modality=modality, tracked=True)
    volumes = [
        i
        for i in case.images
        if i.affine is not None and (not modality or i.modality == modality) and (not role or i.role == role)
    ]
    if not volumes:
        kinds = ", ".join(sorted({i.modality for i in case.images}))
        raise UserError(
            f"{path}: no volume with geometry to register (it holds {kinds}); an uncalibrated or "
            "untracked ultrasound has no place in space"
        )
    if len(volumes) > 1:
        listed = ", ".join(f"{i.modality} {i.role}" for i in volumes)
        raise WrongUse(
            f"{path}: holds {len(volumes)} volumes ({listed}); name one with --moving-role or "
            "--fixed-role, or give its folder"
        )
    return Volume(case=case, image=volumes[0])


def _only(scanned: Scan, name: str, window: int) -> Case:
    """The one case of a scan; ``name``: the path that was scanned, "" for a list of files."""
    plans = plan_cases(scanned, window=window, folder=name)
    cases = [c for p in plans if (c := p.read_case()).images]
    if len(cases) > 1:
        listed = ", ".join(f"{c.case_id} ({'+'.join(sorted({i.modality for i in c.images}))})" for c in cases)
        conflicts = dict.fromkeys(p.conflict for p in plans if p.conflict)
        why = "; ".join(f"{c}; kept apart until a person confirms" for c in conflicts)
        raise WrongUse(
            f"{name or 'the files'}: holds {len(cases)} cases: {listed}; give one of them, or use medfuse "
            "ingest" + (f" ({why})" if why else "")
        )
    refused = list(scanned.refused)
    if not cases:
        return Case(
            Path(name).name, refused=refused or [Refusal(name or "the files", _nothing_in(scanned.ledger))]
        )
    cases[0].refused = refused
    return cases[0]


def _single_file(path: Path, modality: str, tracked: bool) -> Case:
    case = Case(stem_name(path.name))
    try:
        if is_volume_file(path):
            code = stated(modality or read_sidecar(path).modality)
            sweep = tracked and code in cines()
            image = nifti.read_nifti(path, code if sweep else modality, tracked=sweep)
        elif path.suffix.lower() in film.SUFFIXES:
            image = film.read_film(path, modality)
        else:
            image = picture.read_picture(path, modality)
    except UnreadableError as e:
        case.refused.append(Refusal(e.path, e.reason))
        return case
    case.images.append(image)
    case.case_id = f"{case.case_id}-{image.source.sha256[:8]}"
    return case


def _from_parts(parts: Parts, keep: ExitStack) -> Case:
    """One case from paths whose modality the user states. Two patients are refused, nothing is guessed."""
    case = Case("")
    patients: dict[str, str] = {}
    digest = hashlib.sha256()
    for modality, paths in parts.items():
        for path in paths:
            if not path.exists():
                raise WrongUse(f"{path}: no such file or folder; check the path")
            images, refused, patient = _read_part(path, modality, keep)
            case.images += images
            case.refused += refused
            for image in images:
                digest.update(image.source.sha256.encode())
            if patient:
                patients.setdefault(patient, str(path))
    if len(patients) > 1:
        (a, at_a), (b, at_b), *_ = patients.items()
        raise WrongUse(f"{at_a} is of patient {a} and {at_b} of patient {b}; one case is one patient")
    case.patient_id = next(iter(patients), "")
    first = next((p for ps in parts.values() for p in ps), Path("case"))
    case.case_id = f"{stem_name(first.name)}-{digest.hexdigest()[:8]}"
    return case


def _read_part(path: Path, modality: str, keep: ExitStack) -> tuple[list[Image], list[Refusal], str]:
    """Images, refusals and the patient id of one path that is said to be of a modality."""
    if is_one_file(path):
        one = _single_file(path, modality, tracked=False)
        return one.images, [Refusal(r.path, r.reason, modality) for r in one.refused], ""
    captures = modality if modality in cines() else ""
    found = scan(keep.enter_context(opened(path)), captures=captures)
    every = found.read_all()
    wrong = [i for i in every if i.modality != modality]
    refused = [Refusal(r.path, r.reason, r.modality or modality) for r in found.refused]
    refused += [
        Refusal(i.source.path, f"is {i.modality}, but was given as {modality}", i.modality) for i in wrong
    ]
    if not every and not refused:
        refused = [Refusal(str(path), _nothing_in(found.ledger), modality)]
    ids = {i.patient_id for i in found.identity.values()} - {""}
    if len(ids) > 1:
        raise WrongUse(
            f"{path}: holds images of {len(ids)} patients ({', '.join(sorted(ids))}); give one "
            "patient's folder"
        )
    return [i for i in every if i.modality == modality], refused, next(iter(ids), "")


def _nothing_in(ledger: dict[str, int]) -> str:
    total = sum(ledger.values())
    if not total:
        return "the folder is empty; give a folder with DICOM or NIfTI files"
    what = ", ".join(f"{n} {k.replace('_', ' ')}" for k, n in ledger.items() if n)
    return (
        f"holds no image that can be read ({total} file{'s' if total > 1 else ''}: {what}); give DICOM or "
        f"NIfTI of {listed()}"
    )
