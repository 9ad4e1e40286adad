"""A training that was stopped goes on where it stood: weights, optimiser, step, time spent and random state,
written whole, with the name of what it was made from."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..errors import UserError
from .budget import Budget
from .distributed import rank
from .draws import Draws
from .identity import Identity, opened, written_whole

EVERY_S = 60.0


class State(Protocol):
    """All weights of a training: those that learn, and what is kept beside them."""

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state: dict[str, Tensor]) -> None: ...

    def train(self) -> None: ...

    def buffers(self) -> Iterator[Tensor]: ...


@dataclass
class Resume:
    """A file that holds how far a training is; None keeps nothing."""

    path: Path | None
    identity: Identity = field(default_factory=lambda: Identity({}))
    every_s: float = EVERY_S
    saved: float = 0.0

    def load(self, state: State, optimiser: torch.optim.Optimizer, budget: Budget, draws: Draws) -> int:
        """Restore and return the step to go on with, 0 for a fresh start.

        Raises WrongUse for a file of another training, naming what differs, and UserError for one that
        cannot be read.
        """
        self.saved = time.monotonic()
        if self.path is None or not self.path.exists():
            return 0
        with opened(self.path, "pt") as file:
            notes = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        self.identity.check(self.path, notes)
        try:
            state.load_state_dict(_under(tensors, "weights"))
            optimiser.load_state_dict(_optimiser_state(tensors, json.loads(notes["optimiser"])))
            draws.restore(_under(tensors, "random"), notes["numpy"])
            budget.started = time.monotonic() - float(notes["spent_s"])
            return int(notes["step"])
        except (RuntimeError, KeyError, ValueError, TypeError) as e:
            raise UserError(
                f"{self.path}: is no checkpoint of this training ({str(e).splitlines()[0]}); remove it "
                "to start anew"
            ) from e

    def save(
        self,
        state: State,
        optimiser: torch.optim.Optimizer,
        budget: Budget,
        draws: Draws,
        step: int,
        *,
        now: bool = False,
    ) -> None:
        """Write beside and rename, at most once in ``every_s`` seconds, or ``now``."""
        if self.path is None or (time.monotonic() - self.saved < self.every_s and not now):
            return
        random, numpy_state = draws.state()
        moments, groups = _optimiser_parts(optimiser)
        tensors = {
            **{f"weights/{k}": v for k, v in state.state_dict().items()},
            **{f"optimiser/{k}": v for k, v in moments.items()},
            **{f"random/{k}": v for k, v in random.items()},
        }
        notes = {
            **self.identity.metadata,
            "step": str(step),
            "spent_s": repr(time.monotonic() - budget.started),
            "optimiser": json.dumps(groups),
            "numpy": numpy_state,
        }
        # copies: weights may share memory, which a file cannot
        whole = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
        written_whole(self.path, lambda part: save_file(whole, part, notes))
        self.saved = time.monotonic()

    def delete(self) -> None:
        """The training is over: there is nothing to go on with. The first process removes it."""
        if self.path is not None and rank() == 0:
            self.path.unlink(missing_ok=True)


def _under(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors below a name, without it."""
    return {k.removeprefix(f"{name}/"): v for k, v in tensors.items() if k.startswith(f"{name}/")}


def _optimiser_parts(optimiser: torch.optim.Optimizer) -> tuple[dict[str, Tensor], list[dict[str, object]]]:
    """Tensors by NUMBER/NAME, and the settings of the parameter groups."""
    state = optimiser.state_dict()
    moments = {f"{n}/{k}": v for n, by_name in state["state"].items() for k, v in by_name.items()}
    return moments, state["param_groups"]


def _optimiser_state(tensors: dict[str, Tensor], groups: list[dict[str, object]]) -> dict[str, object]:
    by_number: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _under(tensors, "optimiser").items():
        number, key = name.split("/")
        by_number.setdefault(int(number), {})[key] = tensor
    return {"state": by_number, "param_groups": groups}
