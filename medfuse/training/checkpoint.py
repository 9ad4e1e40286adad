"""A training that was stopped goes on where it stood: weights, optimiser, step, time spent and random state, written whole."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import nn

from ..errors import UserError
from .budget import Budget

EVERY_S = 60.0


@dataclass
class Resume:
    """A file that holds how far a training is; None keeps nothing."""

    path: Path | None
    every_s: float = EVERY_S
    saved: float = 0.0

    def load(self, model: nn.Module, optimiser: torch.optim.Optimizer, budget: Budget, device: torch.device) -> int:
        """Restore and return the step to go on with, 0 for a fresh start. Raises UserError for a file of another training."""
        self.saved = time.monotonic()
        if self.path is None or not self.path.exists():
            return 0
        try:
            state = torch.load(self.path, map_location=device, weights_only=True)
            model.load_state_dict(state["model"])
            optimiser.load_state_dict(state["optimiser"])
        except (RuntimeError, KeyError, ValueError, EOFError, UnpicklingError) as e:
            raise UserError(f"{self.path}: is no checkpoint of this training ({str(e).splitlines()[0]}); remove it to start anew") from e  # fmt: skip
        torch.set_rng_state(state["random"].cpu())
        budget.started = time.monotonic() - state["spent_s"]
        return int(state["step"])

    def save(self, model: nn.Module, optimiser: torch.optim.Optimizer, budget: Budget, step: int, *, now: bool = False) -> None:  # fmt: skip
        """Write beside and rename, at most once in ``every_s`` seconds unless ``now``."""
        if self.path is None or (not now and time.monotonic() - self.saved < self.every_s):
            return
        part = self.path.with_suffix(".part")
        state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step, "random": torch.get_rng_state(),
                 "spent_s": time.monotonic() - budget.started}  # fmt: skip
        torch.save(state, part)
        os.replace(part, self.path)
        self.saved = time.monotonic()

    def done(self) -> None:
        if self.path is not None:
            self.path.unlink(missing_ok=True)
