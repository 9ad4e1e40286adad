"""Which files a scan has seen before: unchanged ones (same size, same time) are not opened again."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from ..io.folder import files_under
from ..io.headers import FileEntry
from .catalogue import FileRow

if TYPE_CHECKING:
    from .library import Library

BATCH = 500


@dataclass(frozen=True)
class Seen:
    size: int
    mtime_ns: int
    status: str
    reason: str
    patient: str
    case_id: str


def stat_under(folder: Path) -> dict[str, tuple[int, int]]:
    """Absolute path → (size, mtime in ns) of all that `files_under` finds in a folder, in its order."""
    out = {}
    for path in files_under(folder):
        with suppress(FileNotFoundError):  # gone since it was listed
            stat = path.stat() if os.path.exists(path) else path.lstat()
            out[str(path)] = (stat.st_size, stat.st_mtime_ns)
    return out


def seen_under(library: Library, folder: Path) -> dict[str, Seen]:
    """What earlier scans noted of the files under a folder."""
    columns = (
        FileRow.path,
        FileRow.size,
        FileRow.mtime_ns,
        FileRow.status,
        FileRow.reason,
        FileRow.patient,
        FileRow.case_id,
    )
    with library.session() as s:
        rows = s.execute(
            select(*columns).where(FileRow.path.startswith(f"{folder}{os.sep}", autoescape=True))
        )
        return {row[0]: Seen(*row[1:]) for row in rows}


def patient_of(entry: FileEntry) -> str:
    """Whose file it is: files of one patient are read together, since they may join one case."""
    tags = entry.tags
    if tags.get("PatientID"):
        return f"id:{tags['PatientID']}|{tags.get('IssuerOfPatientID', '')}"[:140]
    return f"study:{tags.get('StudyInstanceUID', '')}"[:140] if tags else ""


def note(s: Session, entries: Iterable[FileEntry], stats: dict[str, tuple[int, int]], case_id: str) -> None:
    """Remember what became of files, in the caller's transaction. Files without a stat (from a zip) are not
    noted."""
    rows = [
        {
            "path": path,
            "size": stats[path][0],
            "mtime_ns": stats[path][1],
            "status": e.status,
            "reason": e.reason,
            "patient": patient_of(e),
            "case_id": case_id,
        }
        for e in entries
        if (path := str(e.path)) in stats
    ]
    for i in range(0, len(rows), BATCH):
        part = rows[i : i + BATCH]
        s.execute(delete(FileRow).where(FileRow.path.in_([r["path"] for r in part])))
        s.execute(insert(FileRow), part)
