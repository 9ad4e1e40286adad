"""The library that this viewer shows, opened once for each place that the settings name. The only file of the
viewer that reads settings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from medfuse.library import Library
from medfuse.settings import settings


@dataclass(frozen=True)
class Place:
    """Where a library lives: its home and its database."""

    home: Path
    database: str


_told: Place | None = None  # in the model's process: the place of the page that asks


def place() -> Place:
    """Where the library of this process is: MEDFUSE_HOME and MEDFUSE_DATABASE_URL, read anew."""
    if _told is not None:
        return _told
    stated = settings()
    return Place(stated.home, stated.database)


def work_at(where: Place) -> None:
    """In the model's process, which outlives a change of the settings: the library of the next work."""
    global _told
    _told = where


def library() -> Library:
    """The library of this process, the same object for one place each time."""
    where = place()
    return _library(where.home, where.database)


@cache
def _library(home: Path, url: str) -> Library:
    return Library(home, url=url)


def cache_limit() -> float:
    """Bytes that the encoded images of all cases may take together."""
    return settings().viewer_cache_gib * 2**30
