"""Where images lie that a model made from a case of the library: one JSON note each under MEDFUSE_HOME/made.
They are no images of the case: shown beside their sources, and nothing else."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ValidationError

from ..errors import UserError, fault_of

if TYPE_CHECKING:
    from .library import Library


class MadeNote(BaseModel, frozen=True):
    """Images that a model made from images of a case. synthetic: always. sources: SeriesInstanceUID of
    each image that was given, by modality. folder: where they lie. files: SHA-256 of each image by its name.
    bundle: what made them. claims: what was asked for, by finding."""

    synthetic: bool = True
    sources: dict[str, str]
    folder: str
    files: dict[str, str]
    bundle: str
    claims: dict[str, bool] = {}

    @property
    def images(self) -> list[Path]:
        """Those that are still what was made; one that was exchanged or is gone is left out."""
        paths = [(Path(self.folder) / Path(name).name, digest) for name, digest in self.files.items()]
        return [path for path, digest in paths if _digest(path) == digest]


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as f:
            return hashlib.file_digest(f, "sha256").hexdigest()
    except OSError:
        return ""


def keep_made(library: Library, note: MadeNote) -> bool:
    """Remember it, where all of its sources are series of the library; else not."""
    from .store import has_series

    if not note.sources or not all(uid and has_series(library, uid) for uid in note.sources.values()):
        return False
    folder = library.home / "made"
    folder.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(note.folder.encode()).hexdigest()[:32]
    (folder / f"{name}.json").write_text(note.model_dump_json(indent=1), encoding="utf-8")
    return True


def made_from(library: Library, series: set[str]) -> list[MadeNote]:
    """What was made from images of these series, with a file left to show. Raises UserError for a note that
    is damaged."""
    notes = [_read(path) for path in sorted((library.home / "made").glob("*.json"))]
    return [n for n in notes if n.sources and set(n.sources.values()) <= series and n.images]


def _read(path: Path) -> MadeNote:
    try:
        return MadeNote.model_validate_json(path.read_bytes())
    except ValidationError as e:
        raise UserError(f"{path}: is not a note on a made image ({fault_of(e)}); make it again") from e
