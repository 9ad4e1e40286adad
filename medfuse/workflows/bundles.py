"""`medfuse bundle`: look at a bundle of somebody else's before it is used, add it by its hash."""

from __future__ import annotations

from pathlib import Path

from ..bundles.bundle import load_bundle
from ..bundles.pins import add_bundle, files_in, pin_of, read_pins, remove_bundle
from ..bundles.registry import is_vqa, list_bundles
from ..errors import WrongUse
from ..library import Library
from ..library.audit import record
from ..task import VqaTask, load_any_task
from ..vqa.evaluate import load_answerer
from .result import CommandResult


def show(folder: Path) -> CommandResult:
    """What a bundle holds, and its SHA-256; it is loaded, so that what cannot be used is said now. Raises
    UserError for a folder that is no bundle."""
    if not folder.is_dir():
        raise WrongUse(f"{folder}: no such folder; give the folder of a bundle")
    files = files_in(folder)
    data: dict[str, object] = {"sha256": pin_of(folder), "files": files, "sealed": "files.json" in files}
    data |= _asked_of(folder)
    lines = [f"{key}: {value}" for key, value in data.items() if key != "files"]
    lines += [f"{size:>12,}  {name}" for name, size in files.items()]
    return CommandResult(data, "\n".join(lines), 0)


def _asked_of(folder: Path) -> dict[str, object]:
    """What its task asks, and what its card says of it; as JSON values."""
    if is_vqa(folder):
        load_answerer(folder)
        task = load_any_task(folder / "task" / "task.yaml")
        assert isinstance(task, VqaTask)
        return {"task": task.name, "answers": "questions on pictures"}
    bundle = load_bundle(folder)
    card = {k: bundle.card.get(k, "") for k in ("summary", "trained_on", "data", "licence")}
    return {
        "task": bundle.task.name,
        "modalities": ", ".join(bundle.task.modalities),
        "findings": ", ".join(f.id for f in bundle.task.findings),
        **{k: v for k, v in card.items() if isinstance(v, str) and v},
    }


def add(folder: Path, home: Path, *, name: str = "", expected: str = "") -> CommandResult:
    """Show a bundle, copy it to HOME/bundles and pin its hash, with an entry of the audit log."""
    seen = show(folder)
    name = name or folder.resolve().name
    pin = add_bundle(home, folder, name, expected=expected)
    record(Library(), "bundle added", bundle=name, sha256=pin)
    return CommandResult({"name": name, **seen.data}, f"{seen.text}\nbundle {name} added, pinned as {pin}", 0)


def remove(name: str, home: Path) -> CommandResult:
    """Take an added bundle away, with an entry of the audit log."""
    remove_bundle(home, name)
    record(Library(), "bundle removed", bundle=name)
    return CommandResult({"removed": name}, f"bundle {name} removed", 0)


def listed(home: Path) -> CommandResult:
    """Every bundle that a name finds, with its pin where it was added."""
    pins = read_pins(home)
    own = (home / "bundles").resolve()
    rows = [
        {"name": p.name, "folder": str(p), "pin": pins.get(p.name, "") if p.resolve().parent == own else ""}
        for p in list_bundles()
    ]
    text = "\n".join(f"{r['name']:<28} {r['pin'][:16] or 'no pin':<16}  {r['folder']}" for r in rows)
    return CommandResult({"bundles": rows}, text, 0)
