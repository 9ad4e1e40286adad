"""Folder, DICOMDIR, zip or file → every file accounted for, images by series, and the studies they belong to."""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ..case import Image, Refusal
from ..errors import UnreadableError, UserError, WrongUse
from . import nifti, picture
from .headers import FileEntry
from .index import index
from .series import read_series

MAX_UNZIPPED = 64 * 2**30
MAX_ZIP_RATIO = 200
STATUSES = ("read", "duplicate", "set_aside", "not_dicom", "damaged", "unsupported")


Key = tuple[str, str, str]  # series, study, patient: badly made copies of two patients may share the first two


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


@dataclass
class Scan:
    """The ledger of a path: entries add up to the files given. Images are read later, series by series."""

    entries: list[FileEntry] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    identity: dict[tuple[str, str], Identity] = field(default_factory=dict)  # by study and patient
    series: dict[Key, list[FileEntry]] = field(default_factory=dict)
    volumes: list[FileEntry] = field(default_factory=list)  # NIfTI and MetaImage files whose modality is stated

    @property
    def ledger(self) -> dict[str, int]:
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
            entry.status, entry.reason = "unsupported", e.reason
            self.refused.append(Refusal(e.path, e.reason))
            return []
        entry.modality = image.modality
        return [image]


def files_under(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    out = []
    for folder, names, files in os.walk(path):
        names.sort()
        out += [Path(folder) / f for f in sorted(files)]
    return out


@contextmanager
def opened(path: Path) -> Iterator[Path]:
    """The folder or file behind a path; a zip is unpacked to a temporary folder first (sizes are checked before)."""
    if not path.exists():
        raise WrongUse(f"{path}: no such file or folder; check the path")
    if path.is_file() and path.name.upper() == "DICOMDIR":
        yield path.parent
        return
    if not (path.is_file() and zipfile.is_zipfile(path)):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="medfuse-zip-") as folder, zipfile.ZipFile(path) as archive:
        members = [m for m in archive.infolist() if not m.is_dir()]
        total = sum(m.file_size for m in members)
        packed = max(1, sum(m.compress_size for m in members))
        if total > MAX_UNZIPPED or (total > 2**30 and total / packed > MAX_ZIP_RATIO):
            raise UserError(
                f"{path}: would unpack to {total / 2**30:.1f} GiB from {packed / 2**20:.1f} MiB; refused as a zip bomb"
            )
        for member in members:
            target = (Path(folder) / member.filename).resolve()
            if not target.is_relative_to(Path(folder).resolve()):
                raise UserError(f"{path}: holds {member.filename}, which points outside the archive; refused")
        try:
            archive.extractall(folder)
        except (zipfile.BadZipFile, RuntimeError, OSError) as e:
            raise UserError(f"{path}: the zip cannot be unpacked ({e}); make it again, without a password") from e
        yield Path(folder)


def scan(path: Path, *, progress: Callable[[int, int], None] = lambda done, total: None) -> Scan:
    """The headers of everything under ``path``. A bad file costs itself, never the scan."""
    return scan_files(files_under(path), progress=progress)


def scan_files(files: list[Path], *, progress: Callable[[int, int], None] = lambda done, total: None) -> Scan:
    """As `scan`, for files named one by one."""
    result = Scan()
    seen: dict[str, Path] = {}
    indexed = index([f for f in files if not _is_other(f)])
    for n, file in enumerate(files, 1):
        entry = _other_kind(file, result) if _is_other(file) else next(indexed)
        result.entries.append(entry)
        progress(n, len(files))
        if entry.status == "damaged":
            result.refused.append(Refusal(str(file), entry.reason, entry.modality))
        if entry.status != "read" or not entry.tags:
            continue
        uid = entry.tags["SOPInstanceUID"]
        if uid in seen:
            entry.status, entry.reason = "duplicate", _twin(file, seen[uid])
            continue
        seen[uid] = file
        tags = entry.tags
        key = (tags["SeriesInstanceUID"], tags.get("StudyInstanceUID", ""), tags.get("PatientID", ""))
        result.series.setdefault(key, []).append(entry)
        if key[1:] not in result.identity:
            result.identity[key[1:]] = Identity(
                tags.get("PatientID", ""), tags.get("IssuerOfPatientID", ""), tags.get("PatientSex", ""),
                tags.get("PatientBirthDate", ""), tags.get("StudyInstanceUID", ""), tags.get("StudyDate", ""),
                tags.get("BodyPartExamined", ""),
            )  # fmt: skip
    return result


def _twin(file: Path, first: Path) -> str:
    same = file.stat().st_size == first.stat().st_size and nifti.sha256(file) == nifti.sha256(first)
    return f"same SOP Instance UID as {first.name}" + ("" if same else ", but other bytes: only the first is used")


def _is_other(file: Path) -> bool:
    return nifti.is_volume_file(file) or file.suffix.lower() in picture.SUFFIXES or file.suffix.lower() == ".json"


def _other_kind(file: Path, result: Scan) -> FileEntry:
    """Files beside DICOM: a NIfTI whose sidecar states its modality is read; a picture or JSON is set aside."""
    if not nifti.is_volume_file(file):
        return FileEntry(file, "set_aside", f"{file.suffix.lower()} file: not an image with a stated modality")
    entry = FileEntry(file, "read")
    result.volumes.append(entry)
    return entry


def read_images(path: Path) -> tuple[list[Image], list[Refusal]]:
    """All images under a path that a manifest names."""
    with opened(path) as inside:
        found = scan(inside)
        images = found.read_all()
    return images, found.refused
