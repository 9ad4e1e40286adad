"""An archive that somebody sent (zip, tar, 7z) → files in a folder, its sizes and names checked before a byte
is written."""

from __future__ import annotations

import importlib.util
import lzma
import os
import shutil
import tarfile
import zipfile
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from ..settings import settings
from .child import ChildFailed, children

if TYPE_CHECKING:
    from py7zr import SevenZipFile

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz", ".tbz2", ".tar.xz", ".txz", ".7z")
SEVEN_ZIP = b"7z\xbc\xaf\x27\x1c"
MAX_UNZIPPED = 64 * 2**30
MAX_ZIP_RATIO = 200
MOST_MEMBERS = 500_000  # of one archive
MOST_ALIKE = 1000  # of one name
LONGEST_TAR_HEADER = 2**20  # bytes of a name or of attributes that a tar states beside a member
LOCAL_HEADER = 30  # bytes before a member's name, at least
# what zipfile raises for a locked or damaged member; NotImplementedError, a RuntimeError, for an odd method
BROKEN = (zipfile.BadZipFile, RuntimeError, OSError, EOFError, ValueError, zlib.error, lzma.LZMAError)


def is_archive(path: Path) -> bool:
    """Whether a file is a zip, tar or 7z, by its first bytes."""
    try:
        with path.open("rb") as file:
            start = file.read(132)
        if start[128:] == b"DICM":
            return False
        return start.startswith(SEVEN_ZIP) or zipfile.is_zipfile(path) or _is_tar(path)
    except (OSError, EOFError, zlib.error, lzma.LZMAError):
        return False


class _Member(tarfile.TarInfo):
    """A member of a tar whose own description is bounded: tarfile reads names and maps of any length into
    memory, and a packed tar holds a thousand times its size."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        described = (*tarfile.GNU_TYPES, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
        if self.type in described and self.size > LONGEST_TAR_HEADER:
            raise tarfile.ReadError("a name without end")
        return super()._proc_member(archive)  # type: ignore[misc]

    def _no_map(self, *given: object) -> tarfile.TarInfo:
        raise tarfile.ReadError("a file with holes; pack it without --sparse")

    _proc_sparse = _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _no_map


def _is_tar(path: Path) -> bool:
    """Whether a file is a tar with something in it: one that begins with zeros would do for an empty one."""
    try:
        with tarfile.open(path, tarinfo=_Member) as archive:
            return archive.next() is not None
    except tarfile.TarError:
        return False


def begins_as_zip(path: Path) -> bool:
    """Whether a file begins as a zip does; one that is none all the same has lost its end, where its list of
    members stands."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def named_archive(path: Path) -> bool:
    """Whether a file's name says that it is an archive."""
    return path.name.lower().endswith(SUFFIXES)


def unpack(path: Path, folder: Path) -> None:
    """Write every member of an archive into ``folder``. Raises UserError for a bomb, a member that points
    outside or is a link, a damaged or locked archive, and a 7z where py7zr is not installed."""
    with path.open("rb") as file:
        seven_zip = file.read(len(SEVEN_ZIP)) == SEVEN_ZIP
    if seven_zip:
        _unpack_7z(path, folder)
    elif zipfile.is_zipfile(path):
        unpack_zip(path, folder)
    else:
        _unpack_tar(path, folder)


def unpack_zip(path: Path, folder: Path) -> None:
    """Write every member of a zip into ``folder``; one whose name is taken goes into a folder of its own
    there. Raises UserError for a bomb, a member that points outside and a damaged or locked archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [m for m in archive.infolist() if not m.is_dir()]
            _check_count(path, len(members))
            packed = sum(m.compress_size for m in members)
            _check_size(path, sum(m.file_size for m in members), packed)
            _check_names(path, folder, [m.filename for m in members])
            _check_room(path, folder, sum(m.file_size for m in members))
            if _overlap(members):
                raise UserError(f"{path}: members of it lie on one another; refused as a zip bomb")
            places = _Places(path, folder)
            for member in members:
                target = places.free(member.filename)
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as inside, target.open("wb") as unpacked:
                    shutil.copyfileobj(inside, unpacked)
    except BROKEN as e:
        raise UserError(
            f"{path}: the zip cannot be unpacked ({_short(e)}); make it again, without a password"
        ) from e


def _unpack_tar(path: Path, folder: Path) -> None:
    try:
        with tarfile.open(path, tarinfo=_Member) as archive:
            members = []
            total = 0
            for member in archive:  # a packed tar states no total: it is counted as it is read
                total += member.size
                _check_size(path, total, path.stat().st_size)
                members.append(member)
                _check_count(path, len(members))
            odd = next((m for m in members if not (m.isfile() or m.isdir())), None)
            if odd is not None:
                raise UserError(f"{path}: holds {odd.name}, which is a link or a device; pack files alone")
            files = [m for m in members if m.isfile()]
            _check_names(path, folder, [m.name for m in files])
            _check_room(path, folder, total)
            places = _Places(path, folder)
            for member in files:
                target = places.free(member.name)
                target.parent.mkdir(parents=True, exist_ok=True)
                inside = archive.extractfile(member)
                assert inside is not None  # a file has content
                with inside, target.open("wb") as unpacked:
                    shutil.copyfileobj(inside, unpacked)
    except (tarfile.TarError, *BROKEN) as e:
        raise UserError(f"{path}: the tar cannot be unpacked ({_short(e)}); make it again") from e


def _unpack_7z(path: Path, folder: Path) -> None:
    if importlib.util.find_spec("py7zr") is None:
        raise UserError(f"{path}: is a 7z archive; install medfuse[archives], or unpack it yourself")
    import py7zr

    try:  # its list of members is packed too, and could fill the memory
        children().run(_list_7z, path, limit=max(30.0, settings().decode_timeout_s))
    except ChildFailed as e:
        raise UserError(f"{path}: the 7z cannot be unpacked ({e}); make it again") from e
    try:
        with py7zr.SevenZipFile(path) as archive:
            _check_7z(path, folder, archive)
            archive.extractall(folder)
    except (py7zr.exceptions.ArchiveError, TypeError, *BROKEN) as e:
        raise UserError(
            f"{path}: the 7z cannot be unpacked ({_short(e)}); make it again, without a password"
        ) from e


def _list_7z(path: Path) -> int:
    """How many members it has; 0 for one that cannot be opened, which the caller says better. Runs in a
    child."""
    import py7zr

    try:
        with py7zr.SevenZipFile(path) as archive:
            return len(archive.list())
    except (py7zr.exceptions.ArchiveError, TypeError, *BROKEN):
        return 0


def _check_7z(path: Path, folder: Path, archive: SevenZipFile) -> None:
    if archive.needs_password():
        raise UserError(f"{path}: the 7z is locked; make it again, without a password")
    members = archive.list()
    _check_count(path, len(members))
    _check_size(path, sum(m.uncompressed or 0 for m in members), path.stat().st_size)
    _check_names(path, folder, [m.filename for m in members])
    _check_room(path, folder, sum(m.uncompressed or 0 for m in members))
    if any(m.is_symlink for m in archive.files):
        raise UserError(f"{path}: holds a link; pack files alone")


def _short(e: Exception) -> str:
    """What a library says of a damaged archive, which may quote all of it."""
    return " ".join(str(e).split())[:120] or type(e).__name__


def _check_names(path: Path, folder: Path, names: list[str]) -> None:
    """Raises UserError for a member that would land outside ``folder``."""
    base = os.path.realpath(folder)  # holds nothing yet, and no link is unpacked
    for name in names:
        if not os.path.normpath(os.path.join(base, name)).startswith(base + os.sep):
            raise UserError(f"{path}: holds {name}, which points outside the archive; refused")


@dataclass
class _Places:
    """Where the members of an archive go below ``folder``."""

    path: Path
    folder: Path
    taken: Counter[str] = field(default_factory=Counter)

    def free(self, name: str) -> Path:
        """A place that is free: two may have one name, or one the name of another's folder."""
        while self.taken[name] <= MOST_ALIKE:
            self.taken[name] += 1
            again = self.taken[name]
            base = self.folder if again == 1 else self.folder / f"again-{again}"
            target = base / name
            above = [p for p in target.parents if p.is_relative_to(base)]
            if not target.exists() and not any(p.exists() and not p.is_dir() for p in above):
                return target
        raise UserError(f"{self.path}: more than {MOST_ALIKE} members have one name; refused")


def _check_count(path: Path, members: int) -> None:
    """Raises UserError where unpacking would make too many files."""
    if members > MOST_MEMBERS:
        raise UserError(f"{path}: holds more than {MOST_MEMBERS:,} files; pack fewer together")


def _check_size(path: Path, total: int, packed: int) -> None:
    """Raises UserError where unpacking would take too much room."""
    if total > MAX_UNZIPPED or (total > 2**30 and total / max(1, packed) > MAX_ZIP_RATIO):
        raise UserError(
            f"{path}: would unpack to {total / 2**30:.1f} GiB from {packed / 2**20:.1f} MiB; "
            "refused as a zip bomb"
        )


def _check_room(path: Path, folder: Path, total: int) -> None:
    """Raises UserError where the disk has no room for what would be unpacked, in bytes."""
    there = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if total > shutil.disk_usage(there).free:
        raise UserError(
            f"{path}: would unpack to {total / 2**30:.1f} GiB, and {folder} has less room; free some"
        )


def _overlap(members: list[zipfile.ZipInfo]) -> bool:
    """Whether two members share packed bytes: few bytes then unpack to as much as one likes."""
    ordered = sorted(members, key=lambda m: m.header_offset)
    ends = [m.header_offset + LOCAL_HEADER + m.compress_size for m in ordered]
    return any(end > after.header_offset for end, after in zip(ends, ordered[1:], strict=False))
