"""Content-addressed image files under MEDFUSE_HOME/images."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError, os_fault
from ..io.names import plain_name
from ..io.sidecar import SUFFIX, sidecar_path
from ..io.volume_files import suffix_of

if TYPE_CHECKING:
    from .library import Library

DIGITS = 64  # of a SHA-256: a stored file's name begins with its own


def stored_path(library: Library, digest: str) -> Path:
    """Where the file of this name in the store lies, whether or not it is there."""
    return library.home / "images" / digest[:2] / digest


def damaged_path(library: Library, name: str) -> Path:
    """Where the file of this name lies once it was found damaged."""
    return library.home / "quarantine" / f"{plain_name(name)}.damaged"


def content_hash(path: Path) -> str:
    """SHA-256 of a file's content. Raises OSError."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def fault_in(path: Path) -> str:
    """Why a stored file is not what was stored, in words; empty where it is. Its name begins with its
    hash."""
    try:
        same = content_hash(path) == path.name[:DIGITS]
    except OSError as e:
        return f"it cannot be read: {os_fault(e)}"
    return "" if same else "its content is not what was stored"


def store_sidecar(library: Library, path: Path) -> list[str]:
    """Copy the JSON beside a volume file into the store, where it has one: it says what the file cannot hold,
    such as the unit of PET. Its name there, or none."""
    side = sidecar_path(path)
    return [] if side is None else [store_file(library, side, SUFFIX)]


def place_sidecars(library: Library, volume: Path, names: list[str]) -> None:
    """Put a stored volume's sidecar beside it, where its reader looks for it, as it was stored."""
    for name in names:
        kept = stored_path(library, name)
        beside = volume.with_name(volume.name.removesuffix(suffix_of(volume)) + SUFFIX)
        if not beside.exists() or content_hash(beside) != name[:DIGITS]:
            _copied(library, kept, beside)


def store_file(library: Library, path: Path, suffix: str = "") -> str:
    """Copy a file into the store under its SHA-256 (and a suffix, where its reader needs one), once; return
    that name. The file appears whole or not at all; one that lies there damaged is replaced."""
    digest = content_hash(path) + suffix
    target = stored_path(library, digest)
    if not target.exists() or fault_in(target):
        _copied(library, path, target)
    return digest


def _copied(library: Library, path: Path, target: Path) -> None:
    """Copy a file into the store, whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        shutil.copyfile(path, part)
        part.rename(target)
    except OSError as e:
        part.unlink(missing_ok=True)
        raise UserError(
            f"{library.home}: the library cannot be written ({os_fault(e)}); free space or set MEDFUSE_HOME"
        ) from e
