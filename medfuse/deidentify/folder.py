"""`medfuse deidentify PATH --out DIR`: every image of a path, changed, renamed and accounted for."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from ..errors import UnreadableError, UserError, os_fault
from ..io.archives import packed_otherwise, why_no_archive, with_unpacked
from ..io.charset import obey
from ..io.decode import UNSUPPORTED
from ..io.enhanced import ULTRASOUND_VOLUME
from ..io.film import SUFFIXES as FILMS
from ..io.folder import files_under
from ..io.headers import FileEntry, read_header
from ..io.names import plain_name, uid_name
from ..io.parametric import PARAMETRIC_MAP
from ..io.scan import opened
from ..io.temporary import temporary_folder
from ..io.unpack import named_archive
from ..io.volume_files import is_volume_file
from .keys import Pseudonyms
from .nifti import clean_nifti
from .pixels import PixelWork, clean_pixels, refuse_screens
from .profile import Changes, Options, deidentify
from .report import DeidentificationReport, FileDone, FileRefused, OptionsUsed, write_report
from .values import class_name

log = logging.getLogger(__name__)
# classes whose copies would say less than their originals
NOT_KEPT = {
    PARAMETRIC_MAP: "a parametric map, whose quantity and unit",
    ULTRASOUND_VOLUME: "an ultrasound volume, whose places",
}
FILM = "is a film, whose frames and sound may name somebody and are not looked at; not written"
DAMAGED = "cannot be read: it is damaged or cut short; not written"
IMPLEMENTATION = UID("2.25.297061373421937155478122340561829347561")  # medfuse, in every file it writes anew


@dataclass(frozen=True, kw_only=True)
class NotWritten:
    """A file that was refused: its path, for whoever runs the command, and the sentence for the report."""

    path: Path
    reason: str


@dataclass(frozen=True, kw_only=True)
class Deidentified:
    """The report as it was written, and the paths of what was refused, which the report must not hold."""

    report: DeidentificationReport
    refused: list[NotWritten]


def deidentify_folder(
    path: Path,
    out: Path,
    *,
    key: bytes,
    options: Options,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Deidentified:
    """Write OUT/<patient>/<study>/<series>/<instance>.dcm, OUT/nifti and OUT/report.json.

    A file that cannot be judged is not written: it is refused by name, and the others go on.
    """
    copies = _Copies(out, Pseudonyms(key), options)
    with ExitStack() as keep:
        inside = keep.enter_context(opened(path))
        found = with_unpacked(files_under(inside), lambda: _room(keep))
        for n, file in enumerate(found.files, 1):
            progress(n, len(found.files))
            outer, inner = found.within.get(file, (file, ""))
            name = str(outer.relative_to(inside)) if outer != inside else outer.name
            copies.add(file, f"{name}/{inner}" if inner else name, found.archives.get(file))
    report = copies.report()
    write_report(report, out)
    return Deidentified(report=report, refused=copies.refused)


def deidentify_parts(
    parts: Sequence[Path],
    out: Path,
    *,
    key: bytes,
    options: Options,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Deidentified, list[list[Path]]]:
    """As `deidentify_folder`, of files and folders one after the other; also the copies of each of them,
    paths below ``out``. OUT/report.json speaks of all."""
    copies = _Copies(out, Pseudonyms(key), options)
    made: list[list[Path]] = []
    for n, part in enumerate(parts, 1):
        before = len(copies.done)
        for file in files_under(part):
            name = str(file.relative_to(part)) if part.is_dir() else file.name
            copies.add(file, f"{n}/{name}")
        made.append([Path(one.path) for one in copies.done[before:]])
        progress(n, len(parts))
    report = copies.report()
    write_report(report, out)
    return Deidentified(report=report, refused=copies.refused), made


def _room(keep: ExitStack) -> Path:
    """A folder for what one archive holds."""
    return keep.enter_context(temporary_folder("zip"))


@dataclass
class _Copies:
    """The copies of one run as they come."""

    out: Path
    pseudonyms: Pseudonyms
    options: Options
    done: list[FileDone] = field(default_factory=list)
    refused: list[NotWritten] = field(default_factory=list)
    told: list[FileRefused] = field(default_factory=list)
    removed: Counter[str] = field(default_factory=Counter)
    replaced: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    masked: int = 0
    taken: set[Path] = field(default_factory=set)

    def add(self, file: Path, name: str, archive: str | None = None) -> None:
        """One file: written, skipped or refused. Only a full disk or the like ends the run. ``archive``: of
        one whose files come by themselves, why it could not be unpacked."""
        if named_archive(file) and os.path.isfile(file):
            why = why_no_archive(file) if archive is None else archive
            if why:
                self._refuse(file, name, why, "an archive that cannot be unpacked; not written")
            else:
                self.skipped["archive"] += 1
            return
        try:
            if is_volume_file(file):
                self._add_volume(file, name)
                return
            entry = read_header(file)
            if entry.header is not None:
                self._add_image(entry)
            else:
                self._without_image(entry, name)
        except UnreadableError as e:
            self._refuse(file, name, e.reason)
        except (UserError, MemoryError):
            raise
        except Exception as e:  # a damaged file can break any part of a parser, and must cost only itself
            log.info("%r", str(file), exc_info=True)
            self._refuse(file, name, f"{DAMAGED} ({type(e).__name__})")

    def _add_image(self, entry: FileEntry) -> None:
        """One DICOM image: its pixels, its header, its new name."""
        ds = pydicom.dcmread(entry.path, force=True)
        obey(ds)
        lost = NOT_KEPT.get(str(ds.get("SOPClassUID", "")))
        if lost:
            raise UnreadableError(entry.path, f"is {lost} the rules do not keep; not written")
        if "PixelData" not in ds:
            raise UnreadableError(entry.path, "holds no pixel data; the file ends early")
        refuse_screens(entry.path, ds)
        work = clean_pixels(entry.path, ds, entry.modality)
        changes = deidentify(ds, self.pseudonyms, self.options, pixels_cleaned=work.cleaned)
        folders = (plain_name(ds.PatientID), uid_name(ds.StudyInstanceUID), uid_name(ds.SeriesInstanceUID))
        target = self._free(self.out.joinpath(*folders, f"{uid_name(ds.SOPInstanceUID)}.dcm"), entry.path)
        _save(ds, target)
        self._account(target, work, changes)

    def _add_volume(self, file: Path, name: str) -> None:
        """One NIfTI file: its numbers and its geometry under a header made anew."""
        target = self._free(self.out / "nifti" / f"{self.pseudonyms.file(name)}.nii.gz", file)
        dropped = clean_nifti(file, target)
        unjudged = ["the face and the skin in the image", "words in the image were not looked for"]
        self.taken.add(target)
        self.removed.update(dropped)
        where = str(target.relative_to(self.out))
        self.done.append(FileDone(path=where, kind="nifti", removed=dropped, unjudged=unjudged))

    def _without_image(self, entry: FileEntry, name: str) -> None:
        """A file that is no image to copy. What may hold a person's data is refused, so that it is missed."""
        words = entry.tags.get("ImageType", "").upper()
        picture = bool(entry.modality) and "SCREENSHOT" not in words
        packed = packed_otherwise(entry.path) if entry.status == "not_dicom" else ""
        if packed:
            self._refuse(entry.path, name, f"{packed}; not written")
        elif entry.status == "damaged":
            self._refuse(entry.path, name, entry.reason)
        elif entry.status == "not_dicom" and entry.path.suffix.lower() in FILMS:
            self._refuse(entry.path, name, FILM)
        elif entry.status == "not_dicom" or picture or entry.reason.startswith("DICOMDIR"):
            self.skipped[entry.status] += 1
        else:
            kind = (
                "a screenshot" if entry.modality else class_name(entry.reason.partition(": not an image")[0])
            )
            self._refuse(entry.path, name, f"{kind}: no image whose content can be judged; not written")

    def _free(self, target: Path, source: Path) -> Path:
        """The target, where this run has written nothing to it yet."""
        if target in self.taken:
            raise UnreadableError(
                source, "has the SOP Instance UID of another file; only the first is written"
            )
        return target

    def _refuse(self, file: Path, name: str, reason: str, told: str = "") -> None:
        """Note one refusal. told: the reason for the report, where the other may quote the source."""
        self.refused.append(NotWritten(path=file, reason=reason))
        reason = told or _without_values(reason)
        self.told.append(FileRefused(source=self.pseudonyms.file(name), reason=reason))

    def _account(self, target: Path, work: PixelWork, changes: Changes) -> None:
        """Note one copy in the report."""
        self.taken.add(target)
        self.removed.update(changes.removed)
        self.replaced.update(changes.replaced)
        self.masked += work.masked or bool(work.words)
        self.done.append(
            FileDone(
                path=str(target.relative_to(self.out)),
                removed=sorted(changes.removed),
                replaced=sorted(changes.replaced),
                pixels=work.done,
                text_boxes=work.boxes,
                words=work.words,
                unjudged=[*work.unjudged, "numbers are kept as they are, whatever they mean"],
                codes=changes.codes,
            )
        )

    def report(self) -> DeidentificationReport:
        """The report of what was added."""
        options = OptionsUsed(
            retain_uids=self.options.retain_uids,
            shift_dates=self.options.shift_dates,
            keep_radiological_words=self.options.clean_descriptors,
        )
        return DeidentificationReport(
            written=len(self.done),
            masked=self.masked,
            skipped=dict(self.skipped),
            refused=self.told,
            files=self.done,
            removed=dict(self.removed.most_common()),
            replaced=dict(self.replaced.most_common()),
            options=options,
        )


def _without_values(reason: str) -> str:
    """A reason for the report: a library's own words, which may quote the file, are left out."""
    if reason.startswith(UNSUPPORTED):
        return "its pixels are coded in a way that no decoder here can read; not written"
    own = (
        "not written",
        "written",
        "the file ends early",
        "it is damaged",
        "it is cut short",
        "copy it again",
    )
    return reason if reason.endswith(own) and "damaged (" not in reason else DAMAGED


def _save(ds: pydicom.FileDataset, target: Path) -> None:
    """Write a copy with file meta made anew."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ds.SOPClassUID
    meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION
    ds.file_meta = meta
    ds.preamble = b"\0" * 128  # a preamble may hold anything
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        pydicom.dcmwrite(target, ds, implicit_vr=False, little_endian=True, enforce_file_format=True)
    except OSError as e:
        raise UserError(
            f"{target}: cannot be written ({os_fault(e)}); free space or choose another --out"
        ) from e
