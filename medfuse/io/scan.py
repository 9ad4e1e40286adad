"""Folder, DICOMDIR, zip or file → every file accounted for, images by series, and the studies they belong to."""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ..case import Image, Refusal
from ..errors import UnreadableError, UserError, WrongUse
from . import nifti, picture
from .headers import FileEntry, read_header
from .series import read_series

MAX_UNZIPPED = 64 * 2**30
MAX_ZIP_RATIO = 200
STATUSES = ("read", "duplicate", "set_aside", "not_dicom", "damaged", "unsupported")


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
    """The ledger of a path: entries add up to the files given."""

    entries: list[FileEntry] = field(default_factory=list)
    images: list[Image] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    identity: dict[str, Identity] = field(default_factory=dict)  # by StudyInstanceUID
    paths: dict[str, list[Path]] = field(default_factory=dict)  # SeriesInstanceUID → files

    @property
    def ledger(self) -> dict[str, int]:
        counts: Counter[str] = Counter(e.status for e in self.entries)
        return {s: counts.get(s, 0) for s in STATUSES}


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


def scan(path: Path, *, progress: Callable[[int, int], None] = lambda done, total: None, pixels: bool = True) -> Scan:
    """Read everything under ``path``. A bad file costs itself (or its series), never the scan.

    pixels=False stops after the headers: entries and identities only.
    """
    return scan_files(files_under(path), progress=progress, pixels=pixels)


def scan_files(
    files: list[Path], *, progress: Callable[[int, int], None] = lambda done, total: None, pixels: bool = True
) -> Scan:
    """As `scan`, for files named one by one."""
    result = Scan()
    series: dict[str, list[FileEntry]] = {}
    seen: dict[str, Path] = {}
    for n, file in enumerate(files, 1):
        entry = _other_kind(file, result) if _is_other(file) else read_header(file)
        result.entries.append(entry)
        progress(n, len(files))
        if entry.status == "damaged":
            result.refused.append(Refusal(str(file), entry.reason, entry.modality))
        if entry.header is None or entry.status != "read":
            continue
        uid = str(entry.header.SOPInstanceUID)
        if uid in seen:
            entry.status, entry.reason = "duplicate", f"same SOP Instance UID as {seen[uid].name}"
            continue
        seen[uid] = file
        series.setdefault(str(entry.header.SeriesInstanceUID), []).append(entry)
        _note_identity(result, entry)
    for uid, entries in series.items():
        result.paths[uid] = [e.path for e in entries]
        if pixels:
            images, refused = read_series(entries)
            result.images += images
            result.refused += refused
        for e in entries:
            e.header = None
    return result


def _is_other(file: Path) -> bool:
    return nifti.is_volume_file(file) or file.suffix.lower() in picture.SUFFIXES or file.suffix.lower() == ".json"


def _other_kind(file: Path, result: Scan) -> FileEntry:
    """Files beside DICOM: a NIfTI whose sidecar states its modality is read; a picture or JSON is set aside."""
    if not nifti.is_volume_file(file):
        return FileEntry(file, "set_aside", f"{file.suffix.lower()} file: not an image with a stated modality")
    try:
        image = nifti.read_nifti(file)
    except UnreadableError as e:
        result.refused.append(Refusal(e.path, e.reason))
        return FileEntry(file, "unsupported", e.reason)
    result.images.append(image)
    return FileEntry(file, "read", modality=image.modality)


def _note_identity(result: Scan, entry: FileEntry) -> None:
    ds = entry.header
    assert ds is not None
    study = str(ds.get("StudyInstanceUID", ""))
    if study not in result.identity:
        values = {
            k: str(ds.get(k, "") or "").strip()
            for k in (
                "PatientID",
                "IssuerOfPatientID",
                "PatientSex",
                "PatientBirthDate",
                "StudyDate",
                "BodyPartExamined",
            )
        }
        result.identity[study] = Identity(
            values["PatientID"], values["IssuerOfPatientID"], values["PatientSex"], values["PatientBirthDate"],
            study, values["StudyDate"], values["BodyPartExamined"],
        )  # fmt: skip


def read_images(path: Path) -> tuple[list[Image], list[Refusal]]:
    """All images under a path that a manifest names."""
    with opened(path) as inside:
        found = scan(inside)
    return found.images, found.refused
