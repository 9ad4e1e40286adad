"""What the audit log is sealed with: a key outside the database, and anchors that say how far the log came.

HOME/audit.key (mode 0600) is read by whoever records or checks. HOME/anchors holds one file a month and log:
the newest entry that was written in it. Who changes the database alone can forge neither.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import logging
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ValidationError

from ..errors import UserError, os_fault
from ..io.names import plain_name

if TYPE_CHECKING:
    from .library import Library

KEY_BYTES = 32
KEY_FILE = "audit.key"  # in the home
log = logging.getLogger(__name__)


def key_path(library: Library) -> Path:
    """The key's file, whether or not it is there."""
    return library.home / KEY_FILE


def read_key(library: Library) -> bytes | None:
    """The key; None where there is none. Raises UserError for a file that holds no key."""
    return key_in(key_path(library))


def key_in(path: Path) -> bytes | None:
    """The key that a file holds; None where there is no file. Raises UserError where it holds none."""
    try:
        key = bytes.fromhex(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as e:
        raise UserError(f"{path}: holds no key; restore it from a backup") from e
    if len(key) != KEY_BYTES:
        raise UserError(f"{path}: holds no key; restore it from a backup")
    return key


def need_key(library: Library) -> bytes:
    """The key. Raises UserError where it is gone."""
    key = read_key(library)
    if key is None:
        raise UserError(
            f"{key_path(library)}: the key of the audit log is gone, and nothing can be recorded or checked "
            "without it; restore it from a backup"
        )
    return key


def make_key(library: Library) -> bytes:
    """A new key, whole on disk when this returns; the key of another process that was faster wins."""
    path = key_path(library)
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    write_private(part, secrets.token_bytes(KEY_BYTES).hex().encode())
    try:
        os.link(part, path)
    except FileExistsError:
        log.info("%s: made by another process in the same moment", path)
    finally:
        part.unlink()
    return need_key(library)


def write_private(path: Path, data: bytes) -> None:
    """A file that only its owner reads (0600), on disk when this returns."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())


def mac(key: bytes, parts: Sequence[str | int]) -> str:
    """HMAC-SHA-256 (RFC 2104) over parts that cannot run into each other."""
    text = json.dumps(list(parts), separators=(",", ":"))
    return hmac.new(key, text.encode("ascii"), hashlib.sha256).hexdigest()


class AuditAnchor(BaseModel, frozen=True):
    """How far an audit log came in a month. log: the log's own name. month: YYYY-MM, UTC. first: number
    of the month's first entry. newest: number of its last (first - 1 until the first is kept). head: seal of
    that entry. seal: over all of
    this, with the key."""

    log: str
    month: str
    first: int
    newest: int
    head: str
    seal: str

    @classmethod
    def sealed(cls, key: bytes, log: str, month: str, first: int, *, newest: int, head: str) -> AuditAnchor:
        """An anchor with its own seal."""
        seal = mac(key, ["anchor", log, month, first, newest, head])
        return cls(log=log, month=month, first=first, newest=newest, head=head, seal=seal)

    def holds(self, key: bytes) -> bool:
        """Whether it is what was sealed."""
        wanted = self.sealed(key, self.log, self.month, self.first, newest=self.newest, head=self.head)
        return hmac.compare_digest(self.seal, wanted.seal)


def anchor_path(library: Library, log_name: str, month: str) -> Path:
    """The anchor's file, whether or not it is there."""
    return library.home / "anchors" / f"{plain_name(log_name[:12])}.{plain_name(month)}.json"


def read_anchor(path: Path, key: bytes) -> AuditAnchor | None:
    """The anchor, or None where the file holds none that this key has sealed."""
    return anchor_in(path.read_bytes(), key)


def anchor_in(data: bytes, key: bytes) -> AuditAnchor | None:
    """The anchor in these bytes of a file, or None where this key has sealed none there."""
    try:
        anchor = AuditAnchor.model_validate_json(data)
    except ValidationError:
        return None
    return anchor if anchor.holds(key) else None


def begin_anchor(library: Library, key: bytes, log_name: str, month: str, *, first: int, before: str) -> None:
    """Make the anchor of a month as its first entry is written, before that is kept: so that one made later,
    in place of one that was removed, is told by where it begins. ``before``: the seal of the entry before.
    Raises OSError where the disk refuses."""
    path = anchor_path(library, log_name, month)
    if path.exists():
        return
    with _alone(path):
        if not path.exists():
            _keep(path, AuditAnchor.sealed(key, log_name, month, first, newest=first - 1, head=before))


def anchor(library: Library, key: bytes, log_name: str, month: str, *, newest: int, head: str) -> None:
    """Note outside the database how far the log came. One that was changed is left as it is, to be named by
    the next audit. Where the disk refuses, the log says so: the entry itself is kept already."""
    path = anchor_path(library, log_name, month)
    try:
        with _alone(path):
            first = newest
            if path.exists():
                there = read_anchor(path, key)
                if there is None:
                    log.error("%s: was changed; see medfuse audit", path)
                    return
                if there.newest >= newest:
                    return
                first = there.first
            _keep(path, AuditAnchor.sealed(key, log_name, month, first, newest=newest, head=head))
    except OSError as e:
        log.error("%s: cannot be written (%s); deleted last entries would go unseen", path, os_fault(e))


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One writer of anchors at a time, in any process."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(path.parent / ".lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _keep(path: Path, made: AuditAnchor) -> None:
    part = path.with_name(f".{path.name}.part")
    write_private(part, made.model_dump_json().encode())
    part.rename(path)
