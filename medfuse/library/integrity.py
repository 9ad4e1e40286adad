"""Whether stored images are what was stored: each lies under its own SHA-256. One that differs is set aside
in HOME/quarantine and never used; it comes back when its files are ingested or received again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import delete, select
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session

from ..errors import os_fault
from .audit import enter
from .catalogue import FileRow, InstanceRow, SeriesRow
from .image_files import damaged_path, fault_in, stored_path
from .referring import outline_files

if TYPE_CHECKING:
    from .library import Library

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Damaged:
    """One stored image that cannot be used. file: its name in the store; what: one sentence; cases: that hold
    it."""

    file: str
    what: str
    cases: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What a look at every stored image found. images: how many the library holds."""

    images: int
    damaged: tuple[Damaged, ...]


def image_names(s: Session | Connection) -> list[str]:
    """The name in the store of every image that the library holds, sorted."""
    names = {name for files in s.execute(select(SeriesRow.files)).scalars() for name in files}
    names.update(s.execute(select(InstanceRow.sha256)).scalars())
    names.update(name for _, name in outline_files(s))
    return sorted(names)


def verify(library: Library, progress: Callable[[int, int], None] = lambda done, total: None) -> Verified:
    """Read every stored image and compare it with its hash. What differs is set aside, what is not there is
    named; each with its cases. Makes no library where there is none."""
    if not library.exists:
        return Verified(images=0, damaged=())
    with library.session() as s:
        names = image_names(s)
    found: list[tuple[str, str]] = []
    for n, name in enumerate(names, 1):
        if why := _why_not(library, name):
            found.append((name, why))
        progress(n, len(names))
    holders = _holders(library, {name for name, _ in found})
    damaged = (Damaged(file=name, what=why, cases=holders[name]) for name, why in found)
    return Verified(images=len(names), damaged=tuple(damaged))


def why_unusable(library: Library, names: Iterable[str]) -> str:
    """One sentence on why a series of these stored files cannot be used, empty where it can. Their content is
    compared with their hash where the library's ``check_images`` says so."""
    all_names = list(names)
    bad = [why for name in all_names if (why := _why_not(library, name, whole=library.check_images))]
    if not bad:
        return ""
    which = "" if len(all_names) == 1 else f"{len(bad)} of its {len(all_names)} files: "
    return f"{which}{bad[0]}"


def _why_not(library: Library, name: str, *, whole: bool = True) -> str:
    """Why one stored file cannot be used, empty where it can; what is damaged is set aside."""
    path = stored_path(library, name)
    if not path.exists():
        if damaged_path(library, name).exists():
            return "damaged, and set aside in the quarantine; ingest it again, or restore a backup"
        return "missing from the library; ingest it again, or restore a backup"
    if not whole:
        return ""
    why = fault_in(path)
    if not why:
        return ""
    set_aside(library, name, why)
    return f"damaged ({why}), and set aside in the quarantine; ingest it again, or restore a backup"


def set_aside(library: Library, name: str, why: str) -> None:
    """Move a damaged file out of the store, with an entry of the audit log; its source files are looked at
    again by the next ingest, and so bring it back."""
    target = damaged_path(library, name)
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        stored_path(library, name).rename(target)
    except OSError as e:
        log.error("%s: is damaged, and cannot be moved (%s); it is not used", name, os_fault(e))
        return
    log.error("%s: %s; set aside in %s", name, why, target)
    cases = _holders(library, {name})[name]
    with library.session() as s:
        s.execute(delete(FileRow).where(FileRow.case_id.in_(cases)))
        for case_id in cases or ("",):
            enter(s, "image set aside", case_id=case_id, file=name, why=why)


def _holders(library: Library, names: set[str]) -> dict[str, tuple[str, ...]]:
    """The cases that hold each of these files."""
    held: dict[str, set[str]] = {name: set() for name in names}
    if names:
        with library.session() as s:
            for case_id, files in s.execute(select(SeriesRow.case_id, SeriesRow.files)):
                for name in names.intersection(files):
                    held[name].add(case_id)
            for case_id, name in outline_files(s):
                if name in names:
                    held[name].add(case_id)
    return {name: tuple(sorted(cases)) for name, cases in held.items()}
