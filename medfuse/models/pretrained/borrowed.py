"""Encoders from disk at work in a model: found again, unchanged, and asked for the tokens of a case."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import Tensor

from ...case import Image
from ...errors import UserError, WrongUse
from ...learning import Tuning
from ...task import Task
from ..features import CaseFeatures
from .adapted import adapter_hash, put_adapter
from .contract import EncoderFile, read_contract_file
from .encoder import Encoder, encoder_hash, groups_of, load_encoder
from .inputs import Laid, lay_out
from .registry import registered, registered_as
from .used import ForeignEncoder, remembered


@dataclass(frozen=True, kw_only=True)
class Borrowed:
    """An encoder that is on this machine, its weights and contract those that are wanted. The network is
    built when it is first asked. adapter: what a training has learned of it, by name; none of a frozen
    one."""

    used: ForeignEncoder
    file: EncoderFile
    folder: Path
    adapter: dict[str, Tensor] = field(default_factory=dict, repr=False, compare=False)
    _ready: dict[str, Encoder] = field(default_factory=dict, repr=False, compare=False)

    def on(self, device: str) -> Encoder:
        """The network, on a device."""
        if device not in self._ready:
            encoder = load_encoder(self.folder, device=device, expected=self.used.hash)
            if self.adapter:
                how = Tuning.model_validate(self.used.tuning)
                put_adapter(encoder.network, how, self.adapter, f"encoder {self.used.id}")
            self._ready[device] = encoder
        return self._ready[device]

    @property
    def hash(self) -> str:
        """Of weights and contract, and of what a training has learned."""
        return self.used.hash + adapter_hash(self.adapter)

    def laid(self, images: list[Image], roles: tuple[str, ...]) -> list[tuple[int, Laid]]:
        """Each input among a case's images as the network takes it, with the number of its role."""
        found = []
        for group in groups_of(self.file, images):
            role = group[0].role if len(group) == 1 else ""
            found.append((roles.index(role) if role in roles else 0, lay_out(group, self.file)))
        return found

    def add(self, features: CaseFeatures, laid: list[tuple[int, Laid]], device: str) -> None:
        """Add the tokens of a case's inputs; nothing where it has none."""
        if not laid:
            return
        tokens = []
        kinds = []
        for role, one in laid:
            found = self.on(device).tokens_of(one)
            place = np.minimum(np.arange(len(found)), self.used.places - 1)
            tokens.append(found)
            kinds.append(role * self.used.places + place)
        features.add_whole(self.used.key, tokens)
        features.kind[self.used.key] = np.concatenate(kinds)


def add_borrowed(
    features: CaseFeatures, encoders: list[Borrowed], task: Task, images: list[Image], device: str
) -> None:
    """Add the tokens of every encoder from disk for one case."""
    for one in encoders:
        roles = task.modalities[one.used.modality].roles
        one.add(features, one.laid(images, roles), device)


def of_task(task: Task, home: Path) -> list[Borrowed]:
    """The encoders from disk that a task names, as they are now. Raises WrongUse for one that is not known
    or takes another modality, UserError for one that changed since it was added or is gone."""
    out = []
    for modality, name in task.foreign_encoders:
        note = registered_as(home, name)
        if note.modality != modality:
            raise WrongUse(
                f"task {task.name}: encoder {name} takes {note.modality} and encoders names it for "
                f"{modality}; name it under {note.modality}"
            )
        folder = Path(note.folder)
        file = read_contract_file(folder)
        if encoder_hash(file, folder) != note.hash:
            raise UserError(
                f"{folder}: weights or encoder.yaml changed since encoder {name} was added; add it anew"
            )
        out.append(Borrowed(used=remembered(file, note.hash), file=file, folder=folder))
    return out


def found_again(
    foreign: tuple[ForeignEncoder, ...], home: Path, bundle: str, adapters: dict[str, Tensor]
) -> list[Borrowed]:
    """The encoders from disk that a bundle was trained with, changed by its ``adapters``. Raises UserError
    that says in one sentence which is missing or changed, where."""
    notes = {n.id: n for n in registered(home)} if foreign else {}
    out = []
    for number, used in enumerate(foreign):
        who = f"bundle {bundle}: its encoder {used.id} for {used.modality}"
        note = notes.get(used.id)
        if note is None:
            raise UserError(
                f"{who} is not on this machine (licence {used.licence_words}, sha256 {used.hash[:12]}…); get "
                "its folder and run medfuse encoder add FOLDER"
            )
        folder = Path(note.folder)
        if not folder.is_dir():
            raise UserError(f"{who} was in {folder}, which is gone; put it back, or add it from elsewhere")
        file = read_contract_file(folder)
        if encoder_hash(file, folder) != used.hash:
            raise UserError(
                f"{who} has other weights or another encoder.yaml in {folder} than in training (sha256 "
                f"{used.hash[:12]}… is wanted); restore them, or train again"
            )
        learned = {k.partition("/")[2]: v for k, v in adapters.items() if k.startswith(f"{number}/")}
        if bool(used.tuning) != bool(learned):
            raise UserError(f"{who} was tuned, and the bundle lacks what it learned; copy or train it again")
        out.append(Borrowed(used=used, file=file, folder=folder, adapter=learned))
    return out
