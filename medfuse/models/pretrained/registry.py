"""The encoders of a workstation: HOME/encoders, one folder a name, which says where the weights are. They
stay there."""

from __future__ import annotations

import shutil
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from ...errors import UserError, WrongUse, fault_of
from ...io.names import plain_name
from .encoder import Encoder, load_encoder

NOTE = "registered_encoder.json"


class RegisteredEncoder(BaseModel):
    """encoders/NAME/registered_encoder.json: an encoder by reference.

    id: its name. folder: where its weights and encoder.yaml are. hash: of both, when it was added. loader:
    of the registry. modality: that it takes. width: numbers a token. licence: of the weights.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: str
    folder: str
    hash: str
    loader: str
    modality: str
    width: int
    licence: str = ""


def _place(home: Path, name: str) -> Path:
    return home / "encoders" / plain_name(name)


def register(home: Path, encoder: Encoder) -> RegisteredEncoder:
    """Keep where an encoder is; one of the same name is replaced."""
    file = encoder.file
    note = RegisteredEncoder(
        id=file.id,
        folder=str(encoder.folder.resolve()),
        hash=encoder.hash,
        loader=file.loader,
        modality=file.takes.modality,
        width=file.gives.width,
        licence=file.licence,
    )
    place = _place(home, file.id)
    place.mkdir(parents=True, exist_ok=True)
    (place / NOTE).write_text(note.model_dump_json(indent=1), encoding="utf-8")
    return note


def registered(home: Path) -> list[RegisteredEncoder]:
    """Every encoder that was added, by name."""
    return [_read(p) for p in sorted((home / "encoders").glob(f"*/{NOTE}"))]


def _read(path: Path) -> RegisteredEncoder:
    try:
        return RegisteredEncoder.model_validate_json(path.read_bytes())
    except ValidationError as e:
        raise UserError(f"{path}: is damaged ({fault_of(e)}); add the encoder again") from e


def registered_as(home: Path, name: str) -> RegisteredEncoder:
    """The encoder of a name. Raises WrongUse that lists the known ones."""
    path = _place(home, name) / NOTE
    if not path.is_file():
        known = ", ".join(e.id for e in registered(home)) or "none"
        raise WrongUse(
            f"{name}: no such encoder; add its folder with medfuse encoder add, or name one of: {known}"
        )
    return _read(path)


def load_registered(home: Path, name: str, *, device: str = "cpu") -> Encoder:
    """The encoder of a name, its weights unchanged since it was added."""
    note = registered_as(home, name)
    return load_encoder(Path(note.folder), device=device, expected=note.hash)


def unregister(home: Path, name: str) -> RegisteredEncoder:
    """Forget an encoder; its folder of weights stays as it is."""
    note = registered_as(home, name)
    shutil.rmtree(_place(home, name))
    return note
