"""bundle_pins.json in the home: what each bundle that was added is, so that no other is used under its name.

A bundle is data: a pin covers every file of it, and a folder that holds anything else than tables, words and
tensors is not added. files.json of a bundle says that it is whole; who changes the bundle can change that
too. The pin lies apart.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import OutputError, UserError, WrongUse, fault_of, os_fault
from ..io.names import path_below, plain_name, shown
from .seal import check_seal, hashes_of

PINS = "bundle_pins.json"
SUFFIXES = (".safetensors", ".json", ".yaml", ".md", ".txt")
MOST_FILES = 1_000
MOST_BYTES = 8 << 30


class BundlePins(BaseModel):
    """bundle_pins.json in the home. bundles: name in HOME/bundles → SHA-256 of all it holds."""

    model_config = ConfigDict(extra="forbid")
    bundles: dict[str, str] = Field(default_factory=dict)


def pin_of(folder: Path) -> str:
    """SHA-256 over the names and contents of a bundle's files."""
    return _pin(hashes_of(folder))


def _pin(hashes: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()


def read_pins(home: Path) -> dict[str, str]:
    """Name → pin of every bundle that was added. Raises UserError for a damaged file."""
    path = home / PINS
    try:
        return BundlePins.model_validate_json(path.read_bytes()).bundles
    except FileNotFoundError:
        return {}
    except ValidationError as e:
        raise UserError(f"{path}: is damaged ({fault_of(e)}); restore it, or add the bundles again") from e


def _write_pins(home: Path, pins: dict[str, str]) -> None:
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = home / f".{PINS}.part"
    part.write_text(BundlePins(bundles=pins).model_dump_json(indent=1), encoding="utf-8")
    part.chmod(0o600)
    part.rename(home / PINS)


def check_pin(home: Path, folder: Path) -> dict[str, str] | None:
    """The hashes of a bundle's files, for `check_seal`, where it was added; UserError where it is not what
    was added. One that was put into the home by hand, or trained there, has no pin and is not checked:
    None."""
    if folder.resolve().parent != (home / "bundles").resolve():
        return None
    pin = read_pins(home).get(folder.name)
    if pin is None:
        return None
    hashes = hashes_of(folder)
    if _pin(hashes) != pin:
        raise UserError(
            f"{folder}: the bundle is not the one that was added; medfuse bundle remove {folder.name}, then "
            "add it again from where it came"
        )
    return hashes


def files_in(folder: Path) -> dict[str, int]:
    """Path in the bundle → bytes. Raises UserError for what is no bundle's: programs, pickles, links, hidden
    files, or more than a bundle needs."""
    found: dict[str, int] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise UserError(f"{folder}: {shown(name)!r} is no plain file; a bundle holds no links")
        if path.is_dir():
            continue
        if path.suffix not in SUFFIXES or path.name.startswith("."):
            raise UserError(
                f"{folder}: {shown(name)!r} is nothing that a bundle holds ({', '.join(SUFFIXES)}); ask its "
                "maker, or take it away"
            )
        found[name] = path.stat().st_size
        if len(found) > MOST_FILES or sum(found.values()) > MOST_BYTES:
            raise UserError(f"{folder}: holds more than {MOST_FILES} files or {MOST_BYTES >> 30} GiB")
    return found


def add_bundle(home: Path, folder: Path, name: str, *, expected: str = "") -> str:
    """Copy a bundle to HOME/bundles/NAME and pin it; the pin. ``expected``: what its maker says it is. Raises
    WrongUse for a name that is taken or none, UserError for a folder that is no bundle or another one than
    expected, OutputError where the home cannot be written."""
    target = home / "bundles" / plain_name(name)
    if target.name != name:
        raise WrongUse(f"{name!r}: is no name for a bundle; use letters, digits, - and _")
    if target.exists():
        raise WrongUse(f"{name}: is taken; choose another with --name, or remove that bundle first")
    files = files_in(folder)
    part = home / "bundles" / f".{name}.{os.getpid()}.part"
    try:
        for file in files:
            copy = path_below(part, file)
            copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.copyfile(folder / file, copy)
        check_seal(part)
        pin = pin_of(part)
        if expected and pin != expected.lower():
            raise UserError(f"{folder}: its SHA-256 is {pin}, not what --pin says; nothing was added")
        _write_pins(home, read_pins(home) | {name: pin})
        part.rename(target)
    except OSError as e:
        raise OutputError(f"{e.filename or home}: {os_fault(e)}; nothing was added") from e
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return pin


def remove_bundle(home: Path, name: str) -> None:
    """Take an added bundle and its pin away. Raises WrongUse for one that was not added."""
    pins = read_pins(home)
    if name not in pins:
        known = ", ".join(pins) or "none"
        raise WrongUse(f"{name}: no such bundle was added; added are: {known}")
    folder = home / "bundles" / plain_name(name)
    if folder.is_symlink():
        folder.unlink()
    else:
        shutil.rmtree(folder, ignore_errors=True)
    _write_pins(home, {n: pin for n, pin in pins.items() if n != name})
