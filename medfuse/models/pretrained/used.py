"""What a bundle remembers of an encoder from disk: everything but its weights."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import JsonValue

from ...task import token_key
from .contract import EncoderFile


@dataclass(frozen=True, kw_only=True)
class ForeignEncoder:
    """An encoder from disk inside a model. hash: of weights and contract. width: numbers a token. places:
    kinds of token a series (the mean, its parts). contract: encoder.yaml as it was in training. tuning: how
    the task has tuned it (`Tuning`); what was learned is in the bundle's adapters.safetensors."""

    id: str
    modality: str
    hash: str
    width: int
    places: int
    licence: str = ""
    contract: dict[str, JsonValue] = field(default_factory=dict)
    tuning: dict[str, JsonValue] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Under what its tokens are kept."""
        return token_key(self.modality, self.id)

    @property
    def licence_words(self) -> str:
        """Its licence, or that none is stated."""
        return self.licence or "not stated"


def remembered(file: EncoderFile, digest: str) -> ForeignEncoder:
    """What is kept of an encoder with this contract and hash."""
    parts = 1
    for n in file.gives.parts:
        parts *= n
    places = 2 if file.gives.tokens == "grid" else 1 + (parts if file.gives.parts else 0)
    return ForeignEncoder(
        id=file.id,
        modality=file.takes.modality,
        hash=digest,
        width=file.gives.width,
        places=places,
        licence=file.licence,
        contract=file.model_dump(mode="json"),
    )
