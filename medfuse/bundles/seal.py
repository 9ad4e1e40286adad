"""files.json: the SHA-256 of every file of a bundle, so that a bundle that is not what was made is refused.

It is written last. What decides an output, the tables and the card are listed; the text for people
(MODEL_CARD.md) is not. A bundle of a version before 0.2.0 has no files.json and loads as it is; so does one
whose owner took files.json away after a change on purpose.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .. import __version__
from ..errors import UserError, fault_of

SEAL = "files.json"
FORMAT = 1
FOR_PEOPLE = "MODEL_CARD.md"


class BundleFiles(BaseModel):
    """files.json of a bundle. files: path in the bundle → SHA-256. format: raised when a bundle's form
    changes so that older code must not read it."""

    model_config = ConfigDict(extra="forbid")
    format: int = FORMAT
    medfuse: str
    files: dict[str, str] = Field(default_factory=dict)


def hashes_of(folder: Path) -> dict[str, str]:
    """Path in the bundle → SHA-256, of every file that is sealed; hidden files are not of the bundle."""
    out = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if name not in (SEAL, FOR_PEOPLE) and not any(part.startswith(".") for part in name.split("/")):
            with path.open("rb") as f:
                out[name] = hashlib.file_digest(f, "sha256").hexdigest()
    return out


def seal(folder: Path) -> None:
    """Write files.json, after everything else of a bundle."""
    made = BundleFiles(medfuse=__version__, files=hashes_of(folder))
    (folder / "files.json").write_text(made.model_dump_json(indent=1), encoding="utf-8")


def check_seal(folder: Path, now: dict[str, str] | None = None) -> None:
    """Raises UserError that names the file where a bundle is not what was made. Without files.json nothing is
    checked. ``now``: the hashes of its files, where they were read already."""
    path = folder / SEAL
    if not path.exists():
        return
    try:
        sealed = BundleFiles.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, ValueError) as e:
        raise UserError(f"{path}: the bundle is damaged ({fault_of(e)}); copy or train it again") from e
    if sealed.format > FORMAT:
        raise UserError(
            f"{folder}: was made by a newer medfuse ({sealed.medfuse}); update medfuse, or use another bundle"
        )
    now = hashes_of(folder) if now is None else now
    for name in sorted(set(sealed.files) | set(now)):
        if sealed.files.get(name) != now.get(name):
            what = "is missing" if name not in now else "does not belong to it"
            if name in now and name in sealed.files:
                what = "is not the file that it was made with"
            raise UserError(
                f"{folder}: the bundle is damaged: {name} {what}; copy or train it again, or take files.json "
                "away if you changed it on purpose"
            )
