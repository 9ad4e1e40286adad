"""The senses that were bound to a bundle after its training: its folder ``bound``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..errors import UserError, WrongUse
from ..models.bound import BoundSense
from .bundle import Bundle
from .card import card_text
from .contracts import read_contract
from .seal import seal

FOLDER = "bound"


class BoundFile(BaseModel):
    """bound/config.json: the senses that were bound after the bundle's training.

    temperature: what the logits of each sense are divided by.
    """

    model_config = ConfigDict(extra="forbid")
    temperature: dict[str, float]


def bound_temperatures(bundle: Bundle) -> dict[str, float]:
    """Temperature by sense; none where no sense was bound."""
    path = bundle.path / FOLDER / "config.json"
    return read_contract(path, BoundFile).temperature if path.exists() else {}


def load_bound(bundle: Bundle) -> dict[str, BoundSense]:
    """The bound senses by name. Raises UserError where their weights are damaged."""
    names = bound_temperatures(bundle)
    if not names:
        return {}
    path = bundle.path / FOLDER / "weights.safetensors"
    out: dict[str, BoundSense] = {}
    try:
        state = load_file(path)
        for name in names:
            out[name] = BoundSense(name, len(bundle.task.findings))
            own = {k.removeprefix(f"{name}."): v for k, v in state.items() if k.startswith(f"{name}.")}
            out[name].load_state_dict(own)
            out[name].eval()
    except (SafetensorError, RuntimeError, OSError) as e:
        raise UserError(
            f"{path}: the bound senses are damaged ({str(e).splitlines()[0]}); bind them again"
        ) from e
    return out


def bound_copy(
    bundle: Bundle, out: Path, sense: BoundSense, temperature: float, note: dict[str, object]
) -> None:
    """Copy the bundle to ``out``, which must be new, and add a sense; every other file of it stays as it is,
    but for the cards, which say what was added."""
    if out.exists():
        raise WrongUse(f"--out {out}: is there already; give the name of a new folder")
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(bundle.path, part)
    every = load_bound(bundle) | {sense.sense: sense}
    folder = part / FOLDER
    folder.mkdir(exist_ok=True)
    state = {f"{name}.{k}": v for name, one in every.items() for k, v in one.state_dict().items()}
    save_file({k: v.detach().contiguous().clone() for k, v in state.items()}, folder / "weights.safetensors")
    temperatures = bound_temperatures(bundle) | {sense.sense: round(temperature, 4)}
    (folder / "config.json").write_text(
        BoundFile(temperature=temperatures).model_dump_json(indent=1), encoding="utf-8"
    )
    card = {**bundle.card, "bound": {**dict(bundle.card.get("bound", {})), sense.sense: note}}
    (part / "card.json").write_text(json.dumps(card, indent=1), encoding="utf-8")
    (part / "MODEL_CARD.md").write_text(card_text(card, bundle.domain), encoding="utf-8")
    seal(part)
    part.rename(out)
