"""A file that is there whole and on the disk, or not at all."""

from __future__ import annotations

import os
import uuid
from pathlib import Path


def write_durably(target: Path, data: bytes) -> None:
    """``target`` is there whole and on disk when this returns, or not at all; its owner alone may read it.
    What is there already stays. Many may write the same at once. Raises OSError."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        part.rename(target)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
