"""The library that this viewer shows, opened once for each place that the settings name. The only file of the
viewer that reads settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from medfuse.library import Library
from medfuse.settings import settings


@dataclass(frozen=True)
class Place:
    """Where a library lives, its home and its database; and the projects that who asks sees, None for
    all."""

    home: Path
    database: str
    sees: frozenset[str] | None = None


_sees: Callable[[], frozenset[str] | None] | None = None  # of who is at the page, see `look_as`
_told: Place | None = None  # in the model's process: the place of the page that asks


def place() -> Place:
    """Where the library of this process is: MEDFUSE_HOME and MEDFUSE_DATABASE_URL, read anew."""
    if _told is not None:
        return _told
    stated = settings()
    return Place(stated.home, stated.database, None if _sees is None else _sees())


def look_as(sees: Callable[[], frozenset[str] | None]) -> None:
    """Where it is asked for each page which projects are shown there."""
    global _sees
    _sees = sees


def work_at(where: Place) -> None:
    """In the model's process, which outlives a change of the settings: the library of the next work."""
    global _told
    _told = where


def library() -> Library:
    """The library as who is at the page may see it, the same object for one place each time."""
    where = place()
    return _shown(where.home, where.database, where.sees)


def whole_library() -> Library:
    """The library with every case: for accounts and the audit log, which belong to no project."""
    if _told is not None:
        return _library(_told.home, _told.database)
    stated = settings()
    return _library(stated.home, stated.database)


@cache
def _shown(home: Path, url: str, sees: frozenset[str] | None) -> Library:
    return _library(home, url).seen_by(sees)


@cache
def _library(home: Path, url: str) -> Library:
    return Library(home, url=url)


def cache_limit() -> float:
    """Bytes that the encoded images of all cases may take together."""
    return settings().viewer_cache_gib * 2**30
