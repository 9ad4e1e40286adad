"""`medfuse encoder`: add, check, list, remove and ask the encoders that a user has on disk."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..io.read import open_case
from ..models.pretrained.checks import EncoderCheck, check_encoder, record
from ..models.pretrained.encoder import load_encoder
from ..models.pretrained.registry import load_registered, register, registered, registered_as, unregister
from .result import CommandResult


def add(folder: Path, home: Path, *, device: str = "cpu") -> CommandResult:
    """Check the encoder of a folder and keep where it is. Raises UserError for the first check that fails."""
    encoder = load_encoder(folder, device=device)
    found = check_encoder(encoder)
    register(home, encoder)
    return CommandResult(found.model_dump(), f"encoder {found.id} added\n{_said(found)}", 0)


def check(name: str, home: Path, *, device: str = "cpu", keep: bool = False) -> CommandResult:
    """All checks again. keep: first write the file of the known answer beside the weights."""
    if keep:
        encoder = load_registered(home, name, device=device)
        path = record(encoder)
        found = check_encoder(encoder)
        return CommandResult(found.model_dump(), f"known answer written to {path}\n{_said(found)}", 0)
    found = check_encoder(load_registered(home, name, device=device))
    return CommandResult(found.model_dump(), _said(found), 0)


def _said(found: EncoderCheck) -> str:
    known = (
        "no known vector is recorded"
        if found.known_vector is None
        else f"known vector {found.known_vector:.5f}"
    )
    axes = ", ".join("seen" if s else "not seen" for s in found.axes_seen)
    return (
        f"{found.loader}, {found.parameters / 1e6:.1f} M parameters, {found.tensors} tensors, all "
        "matched; width "
        f"{found.width}\n{known}; axes {axes}; intensity seen\n{found.seconds:.1f} s a series, "
        f"{found.memory_mb} MB; "
        f"licence: {found.licence}"
    )


def listed(home: Path) -> CommandResult:
    """Every encoder, and whether its folder is still there."""
    notes = registered(home)
    rows = [{**n.model_dump(), "found": Path(n.folder).is_dir()} for n in notes]
    text = "\n".join(
        f"{n.id:<24} {n.modality:<4} {n.loader:<20} {n.width:>5}  {n.licence or 'licence not stated'}  "
        f"{n.folder}" + ("" if Path(n.folder).is_dir() else "  (the folder is gone)")
        for n in notes
    )
    return CommandResult({"encoders": rows}, text or "No encoder yet; see medfuse encoder add.", 0)


def remove(name: str, home: Path) -> CommandResult:
    """Forget an encoder; the weights stay."""
    note = unregister(home, name)
    return CommandResult(
        {"id": note.id, "folder": note.folder}, f"encoder {note.id} removed; {note.folder} is untouched", 0
    )


def embed(name: str, path: Path, home: Path, *, device: str = "cpu") -> CommandResult:
    """Tokens of a case's series by an encoder: their shape, and the mean token."""
    note = registered_as(home, name)
    case = open_case(path, modality=note.modality)
    encoder = load_registered(home, name, device=device)
    groups = encoder.groups(case.images)
    if not groups:
        has = ", ".join(sorted({f"{i.modality} {i.role}" for i in case.images}))
        takes = encoder.file.takes
        roles = "" if takes.roles == "any" else f" {', '.join(takes.roles)}"
        raise UserError(
            f"{path}: holds {has}, and encoder {note.id} takes {takes.modality}{roles}; give such a series"
        )
    found = [encoder.tokens(g) for g in groups]
    tokens = np.concatenate(found)
    vector = np.mean([t[0] for t in found], 0)
    data = {"shape": list(tokens.shape), "vector": [float(v) for v in vector]}
    return CommandResult(data, f"{tokens.shape[0]} tokens of width {tokens.shape[1]}", 0)


def templates() -> list[Path]:
    """encoder.yaml of each model that is known by name, without weights."""
    folder = Path(str(files("medfuse"))) / "models" / "pretrained" / "templates"
    return sorted(folder.glob("*.yaml"))


def template(name: str) -> CommandResult:
    """A template's text, or the names of all where none is asked for."""
    known = {p.stem: p for p in templates()}
    if not name:
        return CommandResult({"templates": list(known)}, "\n".join(known), 0)
    if name not in known:
        raise UserError(f"{name}: no such template; there are {', '.join(known)}")
    text = known[name].read_text(encoding="utf-8")
    return CommandResult({"name": name, "text": text}, text.rstrip(), 0)
