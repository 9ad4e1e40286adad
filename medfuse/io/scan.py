"""Folder, DICOMDIR, zip or file → every file accounted for, images by series, and the studies they belong
to."""

from __future__ import annotations

import os
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ..case import Image, ReferringObject, Refusal
from ..errors import UnreadableError, WrongUse
from . import film, nifti, picture
from .archives import packed_otherwise, why_no_archive, with_unpacked
from .captures import is_capture
from .folder import files_under
from .headers import FileEntry
from .index import index
from .parametric import PARAMETRIC_MAP, modality_of_sources
from .referring import outlines, read_referring, refers
from .series import read_series
from .sidecar import volume_beside
from .temporary import temporary_folder
from .unpack import is_archive, named_archive, unpack
from .volume_files import header_of, is_volume_file

STATUSES = ("read", "duplicate", "set_aside", "not_dicom", "damaged", "unsupported")

NEEDED = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "Rows", "Columns")
# series, study, patient: badly made copies of two patients may share the first two
Key = tuple[str, str, str]


@dataclass
class Identity:
    """Who a study says it is of: what joins studies into cases."""

    patient_id: str = ""
    issuer: str = ""
    sex: str = ""
    birth_date: str = ""
    study_uid: str = ""
    study_date: str = ""
    body_part: str = ""
    name: str = ""
    other_name: str = ""  # what another file of the same study and patient id says instead
    differs: str = ""  # what else files of the same study and patient id contradict each other in


@dataclass
class Scan:
    """The ledger of a path: entries add up to the files given. Images are read later, series by series."""

    entries: list[FileEntry] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    identity: dict[tuple[str, str], Identity] = field(default_factory=dict)  # by study and patient
    series: dict[Key, list[FileEntry]] = field(default_factory=dict)
    # NIfTI and MetaImage files whose modality is stated
    volumes: list[FileEntry] = field(default_factory=list)
    # presentation states, key objects and outlines of others
    objects: list[ReferringObject] = field(default_factory=list)
    # archives among the files, and why one could not be unpacked
    archives: dict[Path, str] = field(default_factory=dict)
    # a file that was unpacked, the archive that was given, and the file's name in there
    within: dict[Path, tuple[Path, str]] = field(default_factory=dict)
    _room: Path | None = None

    def room(self) -> Path:
        """A temporary folder for unpacked files, there as long as this scan is."""
        if self._room is None:
            keep = ExitStack()
            self._room = keep.enter_context(temporary_folder("zip"))
            weakref.finalize(self, keep.close)
        return self._room

    @property
    def ledger(self) -> dict[str, int]:
        """How many files became of each status."""
        counts: Counter[str] = Counter(e.status for e in self.entries)
        return {s: counts.get(s, 0) for s in STATUSES}

    def read(self, key: Key) -> list[Image]:
        """The images of one series; what cannot be used is noted here."""
        images, refused = read_series(self.series[key])
        self.refused += refused
        for entry in self.series[key]:
            entry.header = None
        return images

    def read_all(self) -> list[Image]:
        """The images of every series and volume."""
        images = [i for key in self.series for i in self.read(key)]
        return images + [i for entry in self.volumes for i in self.read_volume(entry)]

    def used_files(self, keys: Iterable[Key]) -> dict[str, list[Path]]:
        """SeriesInstanceUID → the files of it that became part of an image."""
        paths: dict[str, list[Path]] = {}
        for key in keys:
            paths.setdefault(key[0], []).extend(e.path for e in self.series[key] if e.status == "read")
        return paths

    def read_volume(self, entry: FileEntry) -> list[Image]:
        """The image of one NIfTI or MetaImage file, or none and a note."""
        try:
            image = nifti.read_nifti(entry.path)
        except UnreadableError as e:
            entry.status = "unsupported"
            entry.reason = e.reason
            self.refused.append(Refusal(e.path, e.reason))
            return []
        entry.modality = image.modality
        return [image]


@contextmanager
def opened(path: Path) -> Iterator[Path]:
    """The folder or file behind a path; an archive is unpacked to a temporary folder first (sizes are
    checked before)."""
    if not path.exists():
        raise WrongUse(f"{path}: no such file or folder; check the path")
    if path.is_file() and path.name.upper() == "DICOMDIR":
        yield path.parent
    elif path.is_file() and is_archive(path):
        with temporary_folder("zip") as folder:
            unpack(path, folder)
            yield folder
    else:
        yield path


def scan(
    path: Path,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
    captures: str = "",
) -> Scan:
    """The headers of everything under ``path``. A bad file costs itself, never the scan. ``captures``: the
    modality that Secondary Captures are taken for."""
    return scan_files(files_under(path), progress=progress, captures=captures)


def scan_files(
    files: list[Path],
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
    archives: bool = True,
    captures: str = "",
) -> Scan:
    """As `scan`, for files named one by one. ``archives``: those among the files are unpacked, for as long as
    the scan lives; else each is refused by name."""
    result = Scan()
    if archives:
        unpacked = with_unpacked(files, result.room)
        files = unpacked.files
        result.archives = unpacked.archives
        result.within = unpacked.within
    seen: dict[str, Path] = {}
    indexed = index([f for f in files if not _is_other(f)])
    for n, file in enumerate(files, 1):
        entry = _other_kind(file, result) if _is_other(file) else next(indexed)
        entry = _stated(entry, captures)
        if entry.status == "not_dicom" and (why := packed_otherwise(file)):
            entry = FileEntry(file, "unsupported", why)
        result.entries.append(entry)
        progress(n, len(files))
        if entry.status in ("damaged", "unsupported"):
            result.refused.append(Refusal(str(file), entry.reason, entry.modality))
        if entry.status != "read" or not entry.tags:
            continue
        uid = entry.tags["SOPInstanceUID"]
        if uid in seen:
            entry.status = "duplicate"
            entry.reason = _twin(file, seen[uid], entry.tags["SeriesInstanceUID"])
            if entry.reason.endswith(LOST):
                result.refused.append(Refusal(str(file), entry.reason, entry.modality))
            continue
        seen[uid] = file
        tags = entry.tags
        key = (tags["SeriesInstanceUID"], tags.get("StudyInstanceUID", ""), tags.get("PatientID", ""))
        result.series.setdefault(key, []).append(entry)
        if key[1:] not in result.identity:
            result.identity[key[1:]] = Identity(
                tags.get("PatientID", ""),
                tags.get("IssuerOfPatientID", ""),
                tags.get("PatientSex", ""),
                tags.get("PatientBirthDate", ""),
                tags.get("StudyInstanceUID", ""),
                tags.get("StudyDate", ""),
                tags.get("BodyPartExamined", ""),
                tags.get("PatientName", ""),
            )
        _compare_names(result.identity[key[1:]], tags.get("PatientName", ""))
        _compare_person(result.identity[key[1:]], tags)
    _read_referring(result, set(seen))
    return result


def _stated(entry: FileEntry, captures: str) -> FileEntry:
    """Files whose class says nothing of their modality, where something else does: the user of Secondary
    Captures, its sources of a parametric map."""
    if entry.status == "read":
        return entry
    modality = captures if is_capture(entry.tags) else ""
    if entry.status == "set_aside" and entry.tags.get("SOPClassUID") == PARAMETRIC_MAP:
        modality = modality_of_sources(entry.path)
    if not modality or not all(entry.tags.get(k) for k in NEEDED):
        return entry
    return FileEntry(entry.path, "read", modality=modality, tags=entry.tags)


def _read_referring(result: Scan, there: set[str]) -> None:
    """Presentation states and key objects, and in the ledger what each refers to. there: the images found."""
    for entry in result.entries:
        if entry.status != "set_aside" or not refers(entry.tags.get("SOPClassUID", "")):
            continue
        found = read_referring(entry.path)
        if isinstance(found, str):
            entry.status = "damaged"
            entry.reason = found
            result.refused.append(Refusal(str(entry.path), found))
            continue
        here = sum(i.sop_uid in there for i in found.images)
        entry.reason = f"{found.kind} {found.title!r}: of {len(found.images)} images, {here} of them here"
        if outlines(entry.tags["SOPClassUID"]):
            entry.reason = f"{found.kind} {found.title!r}: {found.graphics} structures, drawn in the viewer"
        result.objects.append(found)


def same_name(name: str) -> str:
    """A PatientName as it compares: letters and digits of its first representation, case and order of marks
    aside."""
    return " ".join("".join(c if c.isalnum() else " " for c in name.split("=")[0].casefold()).split())


def _compare_names(identity: Identity, name: str) -> None:
    """Keep a second name that a file of this study states."""
    if name == identity.name or not same_name(name):
        return
    if not same_name(identity.name):
        identity.name = name
    elif same_name(name) != same_name(identity.name):
        identity.other_name = identity.other_name or name


def _compare_person(identity: Identity, tags: dict[str, str]) -> None:
    """Keep what a file of this study says of the person, and the first contradiction."""
    for what, key in (
        ("sex", "PatientSex"),
        ("birth_date", "PatientBirthDate"),
        ("issuer", "IssuerOfPatientID"),
    ):
        known = getattr(identity, what)
        said = tags.get(key, "")
        if said and not known:
            setattr(identity, what, said)
        elif said and said != known:
            several = {"sex": "sexes", "birth_date": "birth dates", "issuer": "issuers of one patient id"}[
                what
            ]
            identity.differs = identity.differs or f"{several} ({', '.join(sorted((known, said)))})"


LOST = ", but other bytes: only the first is used"


def _twin(file: Path, first: Path, series: str) -> str:
    same = file.stat().st_size == first.stat().st_size and nifti.sha256(file) == nifti.sha256(first)
    return f"has the same SOP Instance UID as {first.name}" + ("" if same else f" (series {series}){LOST}")


def is_refused(status: str, reason: str) -> bool:
    """Whether a line of the ledger says that something of the user's is not used and should have been."""
    return status in ("damaged", "unsupported") or (status == "duplicate" and reason.endswith(LOST))


def _is_other(file: Path) -> bool:
    kind = file.suffix.lower()
    pictured = kind in (*picture.SUFFIXES, *film.SUFFIXES)
    other = is_volume_file(file) or pictured or kind == ".json" or header_of(file) is not None
    return (other or named_archive(file)) and os.path.isfile(file)


def _other_kind(file: Path, result: Scan) -> FileEntry:
    """Files beside DICOM: a NIfTI whose sidecar states its modality is read; a picture or JSON is set
    aside, a film refused."""
    header = header_of(file)
    if header is not None:
        return FileEntry(file, "set_aside", f"the voxels of {header.name}, read with it")
    if named_archive(file):
        return _archive(file, result)
    if file.suffix.lower() in film.SUFFIXES:
        why = "a film, whose modality is stated nowhere; give it by itself, with --us where it is ultrasound"
        return FileEntry(file, "unsupported", why)
    described = volume_beside(file) if file.suffix.lower() == ".json" else None
    if described is not None:
        return FileEntry(file, "set_aside", f"what is stated of {described.name}, read with it")
    if not is_volume_file(file):
        return FileEntry(
            file, "set_aside", f"{file.suffix.lower()} file: not an image with a stated modality"
        )
    entry = FileEntry(file, "read")
    result.volumes.append(entry)
    return entry


def _archive(file: Path, result: Scan) -> FileEntry:
    none = why_no_archive(file)
    if none:
        return FileEntry(file, "damaged", none)
    why = result.archives.get(file, "an archive inside a folder; unpack it, or ingest the folder")
    if why:
        return FileEntry(file, "damaged", why)
    return FileEntry(file, "set_aside", "an archive: what it holds is listed by itself")


def read_images(path: Path) -> tuple[list[Image], list[Refusal]]:
    """All images under a path that a manifest names."""
    with opened(path) as inside:
        found = scan(inside)
        images = found.read_all()
    return images, found.refused
