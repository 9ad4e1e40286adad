"""Archives among the files of a folder → the files in them: whoever reads the folder reads these too."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path
from typing import Any

from ..errors import UserError
from .folder import files_under
from .unpack import begins_as_zip, is_archive, named_archive, unpack

PACKERS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
PACKED = (".rar", *PACKERS)
NESTED = 3  # archives in archives are unpacked so deep


@dataclass
class Unpacked:
    """files: as given, each archive followed by what it holds. archives: those among them, and why one could
    not be unpacked. within: an unpacked file → the archive that was given, and the file's name in there."""

    files: list[Path] = field(default_factory=list)
    archives: dict[Path, str] = field(default_factory=dict)
    within: dict[Path, tuple[Path, str]] = field(default_factory=dict)


def with_unpacked(files: list[Path], room: Callable[[], Path]) -> Unpacked:
    """The files of archives beside those that were given. room: makes the folder that they are unpacked to,
    asked for where there is an archive."""
    out = Unpacked()
    waiting = [(f, 0) for f in reversed(files)]
    numbers = count(1)
    while waiting:
        file, depth = waiting.pop()
        out.files.append(file)
        if not named_archive(file) or not is_archive(file):
            continue
        if depth == NESTED:
            out.archives[file] = f"an archive inside {NESTED} others; unpack it yourself"
            continue
        folder = _free(room(), file.name, numbers)
        try:
            folder.mkdir(parents=True)
            unpack(file, folder)
            out.archives[file] = ""
        except UserError as e:
            out.archives[file] = str(e).removeprefix(f"{file}: ")
        found = files_under(folder)
        outer, inner = out.within.get(file, (file, ""))
        for one in found:
            name = str(one.relative_to(folder))
            out.within[one] = (outer, f"{inner}/{name}" if inner else name)
        waiting += [(f, depth + 1) for f in reversed(found)]
    return out


def _free(room: Path, name: str, numbers: Iterator[int]) -> Path:
    """A folder of this name that is not there yet; ``numbers`` go on, as thousands may have one name."""
    plain = room / name
    return next(f for f in chain([plain], (room / f"{n}-{name}" for n in numbers)) if not f.exists())


def packed_otherwise(file: Path) -> str:
    """Why images may lie unread in a file that is packed in a way that is not read here; empty of others."""
    kind = file.suffix.lower()
    if kind not in PACKED or named_archive(file):
        return ""
    try:
        with file.open("rb") as raw:
            start = raw.read(8)
        if start.startswith(b"Rar!"):
            return "a RAR archive, which is not read here; unpack it"
        if kind not in PACKERS:
            return ""
        with PACKERS[kind](file, "rb") as inside:
            begin = inside.read(132)
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError):
        return ""
    if len(begin) > 4 and file.name.lower().endswith((".hdr.gz", ".img.gz")):
        kind = ".hdr.gz" if file.name.lower().endswith(".hdr.gz") else ".img.gz"
        return (
            f"one half of a NIfTI or Analyze image, packed as {kind}, which is not read here; unpack .hdr.gz "
            "and .img.gz side by side, or save both in one .nii.gz"
        )
    if begin[128:] == b"DICM" or begin.startswith((b"NRRD", b"ObjectType")):
        return f"an image packed as {kind}, which is not read here; unpack it"
    return ""


def why_no_archive(file: Path) -> str:
    """Why a file that is named as an archive is none; empty where it is one."""
    if is_archive(file):
        return ""
    if begins_as_zip(file):
        return "is a zip that ends too early, so a part is missing; copy it again"
    return "is no archive, whatever its name says; copy it again"
