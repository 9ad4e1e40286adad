"""Refuse an output that cannot be written before the work is done, not after it."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import OutputError


def check_folder(out: Path, option: str = "--out") -> None:
    """Raises OutputError where a folder cannot be made or written to. Makes nothing."""
    there = next(p for p in (out.absolute(), *out.absolute().parents) if p.exists())
    if not there.is_dir():
        raise OutputError(f"{option} {out}: {there} is a file, not a folder; choose another {option}")
    if not os.access(there, os.W_OK | os.X_OK):
        raise OutputError(f"{option} {out}: {there} cannot be written to; choose another {option}")


def check_file(out: Path, option: str = "--out") -> None:
    """Raises OutputError where a file cannot be made. Makes nothing."""
    if out.is_dir():
        raise OutputError(f"{option} {out}: is a folder; give the name of a file")
    check_folder(out.parent, option)
