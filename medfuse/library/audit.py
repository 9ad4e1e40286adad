"""MEDFUSE_HOME/audit.log: one JSON line an event, each with the hash of the line before. Only added to; a changed line breaks the chain."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path

from ..errors import UserError
from ..settings import settings

START = "0" * 64


def audit_path() -> Path:
    return settings().home / "audit.log"


def record(event: str, *, who: str = "", case_id: str = "", **details: object) -> str:
    """Append an event, on disk when this returns; the hash of its line."""
    path = audit_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "r+b") as f:
        fcntl.flock(f, fcntl.LOCK_EX)  # one writer at a time, across processes
        before = _last(f)
        entry = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, "who": who, "case": case_id, **details, "before": before}  # fmt: skip
        line = json.dumps(entry, ensure_ascii=False, sort_keys=True)
        digest = hashlib.sha256(line.encode()).hexdigest()
        f.seek(0, os.SEEK_END)
        f.write(f"{digest} {line}\n".encode())
        f.flush()
        os.fsync(f.fileno())
    return digest


def _last(f) -> str:
    """Hash of the last whole line; a line that a crash cut short is closed first, and shows as broken."""
    size = f.seek(0, os.SEEK_END)
    if not size:
        return START
    back = min(size, 65536)
    f.seek(size - back)
    tail = f.read(back)
    if not tail.endswith(b"\n"):
        f.seek(0, os.SEEK_END)
        f.write(b"\n")
    lines = tail.rstrip(b"\n").split(b"\n")
    return lines[-1][:64].decode("ascii", "replace")


def entries() -> list[dict]:
    """Every event with its hash, oldest first. Raises UserError that names the first line that was changed or cut."""
    path = audit_path()
    if not path.exists():
        return []
    out, before = [], START
    for n, line in enumerate(path.read_text().splitlines(), 1):
        digest, _, text = line.partition(" ")
        if hashlib.sha256(text.encode()).hexdigest() != digest:
            raise UserError(
                f"{path} line {n}: the line was changed or cut; the audit log can be trusted up to line {n - 1}"
            )
        entry = json.loads(text)
        if entry["before"] != before:
            raise UserError(
                f"{path} line {n}: a line before it is missing; the audit log can be trusted up to line {n - 1}"
            )
        out.append({**entry, "hash": digest})
        before = digest
    return out
