"""A copy of a whole library in another folder, made while it is in use.

The folder holds every file once, under its SHA-256 (content/), and backup.json, which says what each is.
That file is replaced last: a backup that was stopped leaves the earlier one as it was. A further backup in
the same folder copies only what is new.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ValidationError
from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from .. import __version__
from ..errors import OutputError, UserError, WrongUse, fault_of, os_fault
from ..io.sidecar import SUFFIX
from . import audit_key
from .accounts import accounts_path, settled
from .audit import record
from .catalogue import AuditRow
from .image_files import DIGITS, stored_path
from .integrity import image_names
from .migrations import revision_of
from .snapshot import Kind, head_of, kind_of, snapshot, sqlite_file

if TYPE_CHECKING:
    from .library import Library

Progress = Callable[[int, int], None]
MANIFEST = "backup.json"
BLOCK = 1 << 20
ROOM = 64 << 20  # bytes that stay free
LEFT_OVER = re.compile(r"\..+\.part(-\w+)?")  # of a backup that was killed, SQLite's beside it too


class BackupFile(BaseModel, frozen=True):
    """One file of a backup. sha256: of its content, which lies under this name in content/. bytes: its
    size."""

    sha256: str
    bytes: int


class BackupManifest(BaseModel, frozen=True):
    """What a backup holds. medfuse: version that made it. made: ISO 8601, UTC. database: sqlite or
    postgresql. revision: of its tables. log: name of its audit log. entries: of that log. snapshot: the
    database's file. with_key: whether the key of the audit log is among the files. files: by their path
    below the home. damaged: stored images that were damaged or gone already, by their name. seal: over all
    of this, with the key of the audit log; empty where there was none."""

    medfuse: str
    made: str
    database: Kind
    revision: str
    log: str
    entries: int
    snapshot: BackupFile
    with_key: bool
    files: dict[str, BackupFile]
    damaged: list[str]
    seal: str = ""

    def sealed_with(self, key: bytes) -> str:
        """The seal that it must carry."""
        return audit_key.mac(key, ["backup", self.model_copy(update={"seal": ""}).model_dump_json()])


@dataclass(frozen=True, kw_only=True)
class BackedUp:
    """What a backup did. files, images: that it holds; copied: that were not there before; damaged: stored
    images that could not be copied; skipped: paths of the home that are no plain files."""

    folder: Path
    files: int
    images: int
    copied: int
    damaged: tuple[str, ...]
    skipped: tuple[str, ...]


@dataclass
class _Store:
    """The content of a backup folder, and what was put there."""

    folder: Path
    files: dict[str, BackupFile] = field(default_factory=dict)
    copied: int = 0
    skipped: list[str] = field(default_factory=list)

    def keep(self, path: Path) -> BackupFile:
        """Copy a file under its hash. Raises OSError."""
        with self.part() as part:
            digest = copy_hashed(path, part)
            kept = BackupFile(sha256=digest, bytes=part.stat().st_size)
            self._place(part, digest)
        return kept

    def keep_as(self, name: str, path: Path) -> None:
        """Copy a file of the home, unless it is gone meanwhile."""
        try:
            self.files[name] = self.keep(path)
        except FileNotFoundError:
            self.skipped.append(name)

    def keep_image(self, name: str, path: Path) -> bool:
        """Copy a stored image; False where it is not what was stored, and no earlier copy is here."""
        digest = path.name[:DIGITS]
        there = content_path(self.folder, digest)
        if not there.exists():
            try:
                with self.part() as part:
                    if copy_hashed(path, part) != digest:
                        return False
                    self._place(part, digest)
            except FileNotFoundError:
                return False
        self.files[name] = BackupFile(sha256=digest, bytes=there.stat().st_size)
        return True

    @contextmanager
    def part(self) -> Iterator[Path]:
        part = self.folder / f".{uuid.uuid4().hex}.part"
        try:
            yield part
        finally:
            part.unlink(missing_ok=True)

    def _place(self, part: Path, digest: str) -> None:
        target = content_path(self.folder, digest)
        if not target.exists():
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            part.rename(target)
            self.copied += 1


def content_path(folder: Path, digest: str) -> Path:
    """Where a backup keeps the content of this SHA-256."""
    return folder / "content" / digest[:2] / digest


def copy_hashed(path: Path, target: Path) -> str:
    """Copy a file to a new one that is its owner's alone; the SHA-256 of what was copied. Raises OSError."""
    digest = hashlib.sha256()
    new = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(new, "wb") as out, path.open("rb") as f:
        while block := f.read(BLOCK):
            digest.update(block)
            out.write(block)
    return digest.hexdigest()


def need_room(folder: Path, wanted: int) -> None:
    """Raise OutputError where a file system has not so many bytes left."""
    there = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    free = shutil.disk_usage(there).free
    if free < wanted + ROOM:
        raise OutputError(
            f"{folder}: {wanted / 2**30:.1f} GiB are needed, {free / 2**30:.1f} GiB are free; free space "
            "or choose another folder"
        )


def read_manifest(folder: Path) -> BackupManifest | None:
    """What a backup holds; None where the folder holds no whole backup. Raises UserError for a damaged
    one."""
    try:
        return BackupManifest.model_validate_json((folder / MANIFEST).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValidationError as e:
        raise UserError(f"{folder / MANIFEST}: is damaged ({fault_of(e)}); use another backup") from e


def backup(
    library: Library, folder: Path, *, with_key: bool = True, progress: Progress = lambda done, total: None
) -> BackedUp:
    """Copy a library into a folder: database, images, accounts, audit log with its anchors, the user's
    bundles and whatever else lies in the home but caches and temporary files. ``with_key``: the key of the
    audit log too; without it, it must be kept elsewhere. Others may write meanwhile. Raises UserError for a
    library that is not there or a folder that is no place for it, OutputError where space is short."""
    _check_place(library, folder)
    record(library, "library backed up", folder=str(folder.resolve()), with_key=with_key)
    key = audit_key.need_key(library)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(folder / ".lock", "w", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as e:
                raise WrongUse(f"{folder}: another backup is writing there; wait for it") from e
            for part in folder.iterdir():
                if LEFT_OVER.fullmatch(part.name):
                    part.unlink()
            store = _Store(folder)
            manifest = _filled(library, store, with_key, progress)
            manifest = manifest.model_copy(update={"seal": manifest.sealed_with(key)})
            _replace(folder, manifest)
    except OSError as e:
        raise OutputError(
            f"{e.filename or folder}: {os_fault(e)}; the earlier backup there stays as it was"
        ) from e
    return BackedUp(
        folder=folder,
        files=len(manifest.files),
        images=sum(name.startswith("images/") and not name.endswith(SUFFIX) for name in manifest.files),
        copied=store.copied,
        damaged=tuple(manifest.damaged),
        skipped=tuple(store.skipped),
    )


def _check_place(library: Library, folder: Path) -> None:
    if not library.exists:
        raise WrongUse(f"{library.home}: holds no library; set MEDFUSE_HOME to one")
    kind_of(library)
    to, home = folder.resolve(), library.home.resolve()
    if to.is_relative_to(home) or home.is_relative_to(to):
        raise WrongUse(f"{folder}: lies in the library's own home, or around it; choose a folder elsewhere")
    if folder.exists() and not folder.is_dir():
        raise WrongUse(f"{folder}: is a file; give a folder")
    ours = {MANIFEST, "content", ".lock"}
    there = [p.name for p in folder.iterdir()] if folder.is_dir() else []
    other = [name for name in there if name not in ours and not LEFT_OVER.fullmatch(name)]
    if other:
        raise WrongUse(f"{folder}: holds other files ({other[0]}); give an empty folder, or that of a backup")


def _filled(library: Library, store: _Store, with_key: bool, progress: Progress) -> BackupManifest:
    """Copy everything; what the manifest is to say, without its seal."""
    store.skipped = []
    with store.part() as part:
        anchors = _anchors(library)
        with settled(library) as accounts, snapshot(library, part) as moment:
            if _months(moment) - {name.split(".")[1] for name in anchors}:
                anchors = _anchors(library) | anchors  # of a month whose first entry came in between
            if accounts.exists():
                store.keep_as(accounts.name, accounts)
            names = image_names(moment)
            log, entries = head_of(moment)
            revision = revision_of(moment) or ""
            # the snapshot is whole; what follows may take its time
        kept = store.keep(part)
        part.unlink()
        for name, data in anchors.items():
            part.write_bytes(data)
            store.keep_as(f"anchors/{name}", part)
            part.unlink()
    _others(library, store)
    if with_key:
        store.keep_as(audit_key.key_path(library).name, audit_key.key_path(library))
    damaged = _images(library, store, names, progress)
    _sidecars(library, store)
    return BackupManifest(
        medfuse=__version__,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        database=kind_of(library),
        revision=revision,
        log=log,
        entries=entries,
        snapshot=kept,
        with_key=with_key,
        files=store.files,
        damaged=damaged,
    )


def _anchors(library: Library) -> dict[str, bytes]:
    """Read before the database: none may say more than its copy holds."""
    kept = (p for p in sorted((library.home / "anchors").iterdir()) if p.suffix in (".json", ".tsr"))
    return {p.name: p.read_bytes() for p in kept}


def _months(moment: Connection) -> set[str]:
    return set(moment.execute(select(func.substr(AuditRow.at, 1, 7)).distinct()).scalars())


def _images(library: Library, store: _Store, names: list[str], progress: Progress) -> list[str]:
    """Copy every stored image that the snapshot knows; those that cannot be."""
    paths = {name: stored_path(library, name) for name in names}
    new = (p for p in paths.values() if not content_path(store.folder, p.name[:DIGITS]).exists())
    need_room(store.folder, sum(p.stat().st_size for p in new if p.exists()))
    damaged = []
    for n, (name, path) in enumerate(paths.items(), 1):
        if not store.keep_image(path.relative_to(library.home).as_posix(), path):
            damaged.append(name)
        progress(n, len(paths))
    return damaged


def _sidecars(library: Library, store: _Store) -> None:
    """The JSON beside stored volumes: of cases from before it had a name in the store, nothing else says
    what their units are."""
    for path in sorted((library.home / "images").glob(f"*/*{SUFFIX}")):
        name = path.relative_to(library.home).as_posix()
        if name not in store.files and not path.is_symlink():
            store.keep_as(name, path)


def _others(library: Library, store: _Store) -> None:
    """Every other plain file of the home."""
    apart = {audit_key.key_path(library), accounts_path(library)}
    database = sqlite_file(library) if kind_of(library) == "sqlite" else None
    for folder, folders, files in os.walk(library.home):
        here = Path(folder)
        if here == library.home:
            folders[:] = [f for f in folders if f not in ("images", "anchors", "cache", "tmp")]
        for name in [*files, *(f for f in folders if (here / f).is_symlink())]:
            path = here / name
            if path in apart or name.endswith((".lock", ".part")) or _of_database(path, database):
                continue
            shown = path.relative_to(library.home).as_posix()
            if path.is_symlink() or not path.is_file() or not shown.isprintable():
                store.skipped.append(shown)
            else:
                store.keep_as(shown, path)


def _of_database(path: Path, database: Path | None) -> bool:
    """The SQLite file itself, what lies beside it, and copies that migrations left."""
    return database is not None and path.parent == database.parent and path.name.startswith(database.name)


def _replace(folder: Path, manifest: BackupManifest) -> None:
    """Put the manifest in place once everything else is on disk, then take away what no manifest names."""
    part = folder / f".{MANIFEST}.part"
    os.sync()
    audit_key.write_private(part, json.dumps(manifest.model_dump(), indent=0).encode())
    part.rename(folder / MANIFEST)
    named = {manifest.snapshot.sha256, *(f.sha256 for f in manifest.files.values())}
    for path in (folder / "content").glob("*/*"):
        if path.name not in named:
            path.unlink()
