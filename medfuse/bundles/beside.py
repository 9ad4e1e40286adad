"""A sense that lies beside a bundle, not in it: what `medfuse bind` learned, without the bundle's own files.

Small enough to come with medfuse: ``bundles/senses/BUNDLE-SENSE`` holds beside.json, weights.safetensors and
the seal. The bundle that it goes with is not changed by it, and knows nothing of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..errors import UserError
from ..models.bound import BoundSense
from ..task import Task
from .contracts import read_contract
from .registry import shipped_folder
from .seal import check_seal, seal


class BesideFile(BaseModel):
    """beside.json: a sense that lies beside a bundle.

    sense: its name. bundle: the one it goes with. temperature: what its logits are divided by. prior: by
    finding, how often the cases it learned from had it. cases, seed: of that training. simulated: whether all
    of them were.
    """

    model_config = ConfigDict(extra="forbid")
    sense: str
    bundle: str
    temperature: float
    prior: dict[str, float]
    cases: int
    seed: int
    simulated: bool


@dataclass(frozen=True, kw_only=True)
class SenseBeside:
    """What was read: the network, and beside.json."""

    model: BoundSense
    file: BesideFile


def shipped_beside(bundle: str, sense: str) -> Path:
    """Where the sense of a shipped bundle lies; the folder may not exist."""
    return shipped_folder() / "senses" / f"{bundle}-{sense.lower()}"


def write_beside(folder: Path, model: BoundSense, file: BesideFile) -> None:
    """Write and seal; the folder must be new."""
    folder.mkdir(parents=True)
    state = {k: v.detach().contiguous().clone() for k, v in model.state_dict().items()}
    save_file(state, folder / "weights.safetensors")
    (folder / "beside.json").write_text(file.model_dump_json(indent=1), encoding="utf-8")
    seal(folder)


def load_beside(folder: Path, task: Task) -> SenseBeside:
    """Raises UserError where it is damaged, or of another task than the bundle's."""
    check_seal(folder)
    file = read_contract(folder / "beside.json", BesideFile)
    if list(file.prior) != [f.id for f in task.findings]:
        raise UserError(
            f"{folder}: knows other findings than task {task.name}; bind the sense to its bundle again"
        )
    model = BoundSense(file.sense, len(task.findings))
    try:
        model.load_state_dict(load_file(folder / "weights.safetensors"))
    except (SafetensorError, RuntimeError, OSError) as e:
        raise UserError(f"{folder}: the sense is damaged ({str(e).splitlines()[0]}); bind it again") from e
    return SenseBeside(model=model.eval(), file=file)
