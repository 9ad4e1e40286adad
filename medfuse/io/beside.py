"""Files that lie beside one another, by name in any case. A folder is listed once, not once a file."""

from __future__ import annotations

import os
import time
from functools import lru_cache
from pathlib import Path

SETTLED_NS = 100_000_000  # a folder that changed so lately may change again without a later time of change


def beside(path: Path, name: str) -> Path | None:
    """The file of this name in the folder of ``path``: the very name, else the same in any case; None where
    there is none, or where the folder may be entered but not listed."""
    exact = path.with_name(name)
    if exact.is_file():
        return exact
    try:
        changed = path.parent.stat().st_mtime_ns
        fresh = time.time_ns() - changed < SETTLED_NS
        known = _names(path.parent) if fresh else _kept_names(path.parent, changed)
    except OSError:
        return None
    found = known.get(name.lower())
    return path.with_name(found) if found is not None and path.with_name(found).is_file() else None


def _names(folder: Path) -> dict[str, str]:
    """Names in a folder by themselves in lower case; of two, the first in order."""
    return {name.lower(): name for name in sorted(os.listdir(folder), reverse=True)}


@lru_cache(4)
def _kept_names(folder: Path, changed: int) -> dict[str, str]:
    return _names(folder)
