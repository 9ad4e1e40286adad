"""The generator of a bundle: its folder ``generator`` beside the weights of the bundle."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..bundles.bundle import Bundle
from ..bundles.card import card_text
from ..bundles.contracts import read_contract
from ..bundles.seal import seal
from ..errors import UserError, WrongUse
from .config import GeneratorConfig
from .networks import Generator

FOLDER = "generator"


def load_generator(bundle: Bundle) -> Generator:
    """Raises WrongUse for a bundle without one, UserError for one that is damaged."""
    folder = bundle.path / FOLDER
    if not (folder / "config.json").exists():
        raise WrongUse(
            f"bundle {bundle.name} has no generator; train one with medfuse train TASK --stage generate "
            f"--bundle {bundle.name}"
        )
    generator = Generator(read_contract(folder / "config.json", GeneratorConfig))
    try:
        state = load_file(folder / "weights.safetensors")
        generator.load_state_dict({k: v.float() for k, v in state.items()})
    except (SafetensorError, RuntimeError, KeyError, OSError) as e:
        raise UserError(
            f"{folder}: the generator is damaged ({str(e).splitlines()[0]}); train it again"
        ) from e
    return generator.eval()


def save_generator(bundle: Bundle, out: Path, generator: Generator, note: dict[str, object]) -> None:
    """Copy the bundle to ``out`` (unless it lies there) and add the generator; the card says what it is."""
    if out.resolve() != bundle.path.resolve():
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(bundle.path, out)
    folder = out / FOLDER
    folder.mkdir(exist_ok=True)
    with torch.no_grad():
        state = {k: v.detach().contiguous().clone() for k, v in generator.state_dict().items()}
    save_file(state, folder / "weights.safetensors")
    (folder / "config.json").write_text(generator.config.model_dump_json(indent=1), encoding="utf-8")
    card = {**bundle.card, "generator": note}
    (out / "card.json").write_text(json.dumps(card, indent=1), encoding="utf-8")
    (out / "MODEL_CARD.md").write_text(card_text(card, bundle.domain), encoding="utf-8")
    seal(out)
