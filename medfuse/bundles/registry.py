"""Which bundles there are, and the one look-up from what a user says to a bundle's folder.

A bundle is named, or given as a path. A name is looked for among the user's own (MEDFUSE_HOME/bundles) first,
then among the shipped ones, and never in the current folder: templates and weights of a folder that happens
to have a bundle's name must not be used. A path has a separator (``./NAME``) or is a ``Path``.
"""

from __future__ import annotations

import hashlib
import os
from importlib.resources import files
from pathlib import Path

from ..errors import WrongUse
from ..settings import settings
from .pins import check_pin
from .seal import FOR_PEOPLE, SEAL, check_seal

DEFAULT = "upper-abdomen-simulated"
TASK = "task/task.yaml"
FILES = ("weights.safetensors", "config.json", "calibration.json", "domain.json", TASK)


def is_vqa(path: Path) -> bool:
    """Whether a bundle answers questions on pictures (a task of kind vqa) and has no findings."""
    return (path / "examples.json").exists()


def has_writer(path: Path) -> bool:
    """Whether a bundle writes sentences of its own."""
    return (path / "writer" / "config.json").exists()


def bundle_hash(path: Path) -> str:
    """SHA-256 over the names and contents of everything that decides an output."""
    digest = hashlib.sha256()
    for f in sorted(
        p for p in path.rglob("*") if p.is_file() and p.name not in (FOR_PEOPLE, SEAL, "card.json")
    ):
        digest.update(f.relative_to(path).as_posix().encode())
        digest.update(f.read_bytes())
    return digest.hexdigest()


def check_bundle(path: Path) -> None:
    """Raises UserError where a bundle is not what was made, or not what was added."""
    check_seal(path, check_pin(settings().home, path))


def encoders_home() -> Path:
    """The home in which encoders from disk are registered."""
    return settings().home


def shipped_folder() -> Path:
    """Where the bundles lie that come with medfuse."""
    return Path(str(files("medfuse"))) / "bundles"


def list_bundles() -> list[Path]:
    """Folders of all bundles that a name finds: the user's own, then the shipped ones whose name is free."""
    found: dict[str, Path] = {}
    for root in (settings().home / "bundles", shipped_folder()):
        for path in sorted(root.iterdir()) if root.is_dir() else ():
            if (path / "weights.safetensors").exists():
                found.setdefault(path.name, path)
    return list(found.values())


def find_bundle(name: str | Path) -> Path:
    """The folder of a bundle, in the order that this module states. Raises WrongUse where there is none."""
    if isinstance(name, Path) or os.sep in name:
        if Path(name).is_dir():
            return Path(name).absolute()
        raise WrongUse(f"{name}: no such folder; give the folder of a bundle, or the name of one")
    for path in list_bundles():
        if path.name == name:
            return path
    known = ", ".join(p.name for p in list_bundles()) or "none"
    here = f"; for the folder here write ./{name}" if Path(name).is_dir() else ""
    raise WrongUse(f"{name}: no such bundle; give a folder as a path, or one of: {known}{here}")


def find_by_hash(name: str, sha256: str) -> Path:
    """The folder of the bundle that a stored prediction names: the one of its name, else, where that was
    renamed, the one of its hash. Raises WrongUse where it is gone."""
    found = {path.name: path for path in list_bundles()}
    if name in found:
        return found[name]
    for path in found.values():
        if bundle_hash(path) == sha256:
            return path
    raise WrongUse(
        f"bundle {name} predicted this and is not here under any name; add its folder with medfuse bundle "
        "add, or predict again"
    )
