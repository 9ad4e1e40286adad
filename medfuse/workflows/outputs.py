"""Refuse an output that cannot be written before the work is done, not after it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ..errors import OutputError


def check_folder(out: Path, option: str = "--out") -> None:
    """Raises OutputError where a folder cannot be made or written to. Makes nothing."""
    there = next(p for p in (out.absolute(), *out.absolute().parents) if p.exists())
    if not there.is_dir():
        raise OutputError(f"{option} {out}: {there} is a file, not a folder; choose another {option}")
    if not os.access(there, os.W_OK | os.X_OK):
        raise OutputError(f"{option} {out}: {there} cannot be written to; choose another {option}")


MADE_HERE = ".medfuse-demo"  # in a folder that a demo wrote: which of its folders are the demo's


def take_away_own(out: Path, names: tuple[str, ...]) -> None:
    """Remove these folders in ``out`` where an earlier demo made them, and note that they are a demo's from
    now on. Raises OutputError, with nothing removed, where one is there that no demo made."""
    note = out / MADE_HERE
    own = note.read_text().split() if note.is_file() else []
    for name in names:
        if (out / name).exists() and name not in own:
            raise OutputError(f"--out {out}: {out / name} was not made by a demo; choose another --out")
    for name in names:
        if (out / name).exists():
            shutil.rmtree(out / name)
    out.mkdir(parents=True, exist_ok=True)
    note.write_text("\n".join(sorted({*own, *names})) + "\n")


def check_file(out: Path, option: str = "--out") -> None:
    """Raises OutputError where a file cannot be made. Makes nothing."""
    if out.is_dir():
        raise OutputError(f"{option} {out}: is a folder; give the name of a file")
    check_folder(out.parent, option)
