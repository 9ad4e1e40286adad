"""A library out of a backup: checked whole before anything is written, and never half a library: a home says
that its restore is not finished until it is."""

from __future__ import annotations

import fcntl
import hmac
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from ..errors import OutputError, UserError, WrongUse, os_fault
from ..io.names import path_below
from ..io.sidecar import SUFFIX
from . import audit_key
from .audit import record
from .audit_check import Difference, differences
from .backup import (
    BackupFile,
    BackupManifest,
    Progress,
    content_path,
    copy_hashed,
    need_room,
    read_manifest,
)
from .image_files import fault_in
from .integrity import Damaged, Verified
from .library import RESTORING
from .migrations import HEAD, KNOWN
from .snapshot import head_of, is_empty, kind_of, load_postgresql, sqlite_file

if TYPE_CHECKING:
    from .library import Library


@dataclass(frozen=True, kw_only=True)
class Restored:
    """What a restore did. made: when the backup was; damaged: images that it did not hold; differences:
    between its audit log and what it held, as `medfuse audit` names them."""

    made: str
    files: int
    images: int
    damaged: tuple[str, ...]
    differences: tuple[Difference, ...]


def need_manifest(folder: Path) -> BackupManifest:
    """What a backup holds. Raises UserError where there is no whole backup."""
    manifest = read_manifest(folder)
    if manifest is None:
        raise UserError(
            f"{folder}: holds no whole backup; give a folder that medfuse backup wrote, or let it finish"
        )
    return manifest


def verify_backup(folder: Path, progress: Progress = lambda done, total: None) -> Verified:
    """Read every file of a backup and compare it with its hash. Raises UserError where there is no whole
    backup."""
    manifest = need_manifest(folder)
    damaged = (Damaged(file=name, what=why, cases=()) for name, why in faults(folder, manifest, progress))
    return Verified(images=_images(manifest), damaged=tuple(damaged))


def _images(manifest: BackupManifest) -> int:
    return sum(n.startswith("images/") and not n.endswith(SUFFIX) for n in manifest.files)


def faults(folder: Path, manifest: BackupManifest, progress: Progress) -> Iterator[tuple[str, str]]:
    """(path below the home, why) of every file of a backup that is not what was backed up."""
    files = {"the database": manifest.snapshot, **manifest.files}
    for n, (name, file) in enumerate(files.items(), 1):
        if why := _fault(folder, name, file):
            yield name, why
        progress(n, len(files))


def _fault(folder: Path, name: str, file: BackupFile) -> str:
    try:
        path_below(folder, name)
        if len(file.sha256) != 64 or not set(file.sha256) <= set("0123456789abcdef"):
            return "its hash is none"
    except ValueError as e:
        return str(e)
    path = content_path(folder, file.sha256)
    return fault_in(path) if path.exists() else "it is missing"


def restore(
    library: Library,
    folder: Path,
    *,
    key_file: Path | None = None,
    progress: Progress = lambda done, total: None,
) -> Restored:
    """Make a library out of a backup, in a home that is empty. ``key_file``: the key of its audit log, where
    the backup does not hold it. Raises UserError, with nothing written, for a backup that is damaged, changed
    or of a newer medfuse, and for a home or database that is in use; a restore that was stopped goes on when
    it is run again."""
    manifest = need_manifest(folder)
    _check_fit(library, folder, manifest)
    bad = list(faults(folder, manifest, progress))
    if bad:
        raise UserError(
            f"{folder}: the backup is damaged: {bad[0][0]}: {bad[0][1]}"
            + (f", and {len(bad) - 1} more" if len(bad) > 1 else "")
            + "; nothing was restored, use another backup"
        )
    key = _key(folder, manifest, key_file)
    try:
        need_room(library.home, sum(f.bytes for f in manifest.files.values()) + manifest.snapshot.bytes)
        with _marked(library, manifest):
            _copy(library, folder, manifest, progress)
            audit_key.write_private(audit_key.key_path(library), key.hex().encode())
            _database(library, folder, manifest)
            os.sync()
    except OSError as e:
        raise OutputError(
            f"{e.filename or library.home}: {os_fault(e)}; mend that, then run the same command again"
        ) from e
    record(library, "library restored", folder=str(folder.resolve()), made=manifest.made)
    return Restored(
        made=manifest.made,
        files=len(manifest.files),
        images=_images(manifest),
        damaged=tuple(manifest.damaged),
        differences=tuple(differences(library)),
    )


def _check_fit(library: Library, folder: Path, manifest: BackupManifest) -> None:
    """Raise WrongUse where this backup cannot become this library."""
    if manifest.revision not in (HEAD, *KNOWN):
        raise WrongUse(f"{folder}: was made by a newer medfuse ({manifest.medfuse}); update medfuse")
    if manifest.database != kind_of(library):
        raise WrongUse(
            f"{folder}: holds a {manifest.database} database, and MEDFUSE_DATABASE_URL names a "
            f"{kind_of(library)} one; set it to an empty {manifest.database} database, or leave it out"
        )
    mark = library.home / RESTORING
    if mark.exists():
        if mark.read_text(encoding="utf-8") not in ("", manifest.snapshot.sha256):
            raise WrongUse(f"{library.home}: holds half of another backup; empty it first")
    elif library.home.exists() and any(library.home.iterdir()):
        raise WrongUse(
            f"{library.home}: is not empty; set MEDFUSE_HOME to a folder that is empty or not there"
        )
    elif manifest.database == "sqlite":
        if sqlite_file(library).exists():
            raise WrongUse(f"{library.address}: the database is there already; choose another")
    elif not is_empty(library):
        raise WrongUse(f"{library.address}: the database is not empty; make a new one")


def _key(folder: Path, manifest: BackupManifest, key_file: Path | None) -> bytes:
    """The key of the backup's audit log, which must have sealed the manifest."""
    if key_file is None and not manifest.with_key:
        raise WrongUse(f"{folder}: was made without the key of its audit log; give that with --key FILE")
    path = key_file or content_path(folder, manifest.files[audit_key.KEY_FILE].sha256)
    key = audit_key.key_in(path)
    if key is None:
        raise WrongUse(f"{path}: no such file; give the key of the audit log")
    if not hmac.compare_digest(manifest.sealed_with(key), manifest.seal):
        raise UserError(
            f"{folder}: the backup was changed, or its key is not that of {path}; nothing was restored"
        )
    return key


@contextmanager
def _marked(library: Library, manifest: BackupManifest) -> Iterator[None]:
    """The home says meanwhile that it is not whole, and to which backup it belongs."""
    mark = library.home / RESTORING
    library.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(mark, "a", encoding="utf-8") as f:
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            raise WrongUse(f"{library.home}: another restore is writing there; wait for it") from e
        f.truncate(0)
        f.write(manifest.snapshot.sha256)
        f.flush()
        os.fsync(f.fileno())
        yield
        mark.unlink()


def _copy(library: Library, folder: Path, manifest: BackupManifest, progress: Progress) -> None:
    for n, (name, file) in enumerate(manifest.files.items(), 1):
        _place(folder, file, path_below(library.home, name))
        progress(n, len(manifest.files))


def _place(folder: Path, file: BackupFile, target: Path) -> None:
    """One file of the backup at its place. Raises UserError where it changed since it was checked."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = target.with_name(f".{uuid.uuid4().hex}.part")
    source = content_path(folder, file.sha256)
    if copy_hashed(source, part) != file.sha256:
        part.unlink()
        raise UserError(f"{source}: changed while it was restored; use another backup")
    part.rename(target)


def _database(library: Library, folder: Path, manifest: BackupManifest) -> None:
    if manifest.database == "sqlite":
        _place(folder, manifest.snapshot, sqlite_file(library))
    elif is_empty(library):
        load_postgresql(library, content_path(folder, manifest.snapshot.sha256))
    else:  # loaded whole by a restore that was stopped later
        with create_engine(library.url, poolclass=NullPool).connect() as connection:
            if head_of(connection) != (manifest.log, manifest.entries):
                raise WrongUse(f"{library.address}: the database is not empty; make a new one")
