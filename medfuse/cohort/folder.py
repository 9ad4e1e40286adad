"""Every file under a folder, by its path in it, and why some are not looked at."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import UserError, WrongUse, os_fault


@dataclass(frozen=True, kw_only=True)
class Files:
    """files: path under the folder, with slashes → where it lies. refused, ignored: path → reason."""

    files: dict[str, Path]
    refused: dict[str, str] = field(default_factory=dict)
    ignored: dict[str, str] = field(default_factory=dict)

    @property
    def folders(self) -> dict[str, list[str]]:
        """Folder → the files that lie in it itself."""
        out: dict[str, list[str]] = {}
        for name in self.files:
            out.setdefault(name.rpartition("/")[0], []).append(name)
        return out


def files_in(folder: Path, leave: Path) -> Files:
    """All files under a folder, in order; links to folders are not followed, nor those that lead out.
    leave: a folder that is not entered.

    Raises WrongUse where there is no folder, UserError where it cannot be listed.
    """
    if not folder.is_dir():
        raise WrongUse(f"{folder}: is no folder; give the one with the images and tables of the recipe")
    home = folder.resolve()
    out = Files(files={})

    def stop(error: OSError) -> None:
        raise UserError(f"{error.filename}: cannot be listed ({os_fault(error)}); check its permissions")

    for root, names, inside in os.walk(folder, onerror=stop):
        here = Path(root)
        for name in [n for n in names if (here / n).is_symlink()]:
            out.refused[_name(here / name, folder)] = "a link to a folder is not followed"
        names[:] = sorted(n for n in names if (here / n).resolve() != leave.resolve())
        for path in sorted(here / n for n in inside):
            _take(out, path, _name(path, folder), home)
    return out


def _take(out: Files, path: Path, name: str, home: Path) -> None:
    if path.name.startswith("."):
        out.ignored[name] = "a hidden file"
    elif path.is_symlink() and not path.resolve().is_relative_to(home):
        out.refused[name] = "a link that leads out of the folder"
    elif not path.is_file():
        out.refused[name] = "no file: a pipe, a device or a link to nothing"
    elif "\ufffd" in name or any(c < " " for c in name):
        out.refused[name] = "its name is no text; rename it"
    else:
        out.files[name] = path


def _name(path: Path, folder: Path) -> str:
    name = path.relative_to(folder).as_posix()
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
