"""The weights that survive a stop: those that learn, and beside them the best ones so far."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

SCORE = "best_score"


class AllWeights:
    """A module of which every weight learns."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def train(self) -> None:
        """The module learns from here on."""
        self.module.train()

    def buffers(self) -> Iterator[Tensor]:
        """Running statistics of the module."""
        return self.module.buffers()

    def state_dict(self) -> dict[str, Tensor]:
        """Every weight, as of the module."""
        return self.module.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """What `state_dict` gave."""
        self.module.load_state_dict(state)


class KeepBest:
    """A model, and a copy of its weights from when its score was highest. Weights whose name begins with
    ``skip`` do not learn and are not kept."""

    def __init__(self, model: nn.Module, skip: str = "") -> None:
        self.model = model
        self.skip = skip
        self.score = -math.inf
        self.best: dict[str, Tensor] = {}

    def offer(self, score: float) -> None:
        """Keep the weights if none before had so high a score; one that is no number is none."""
        if math.isnan(score):
            return
        if score > self.score or not self.best:
            self.score = score
            self.best = copy.deepcopy(self._learned())

    def take_best(self) -> float:
        """Put the best weights into the model, ready for use; their score."""
        self.model.load_state_dict(self.best, strict=False)
        self.model.eval()
        return self.score

    def train(self) -> None:
        """The model learns from here on."""
        self.model.train()

    def buffers(self) -> Iterator[Tensor]:
        """Running statistics of the model."""
        return self.model.buffers()

    def state_dict(self) -> dict[str, Tensor]:
        """Weights now, the best ones, and their score."""
        now = {f"now.{k}": v for k, v in self._learned().items()}
        best = {f"best.{k}": v for k, v in self.best.items()}
        return {**now, **best, SCORE: torch.tensor(self.score, dtype=torch.float64)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """What `state_dict` gave."""

        def under(name: str) -> dict[str, Tensor]:
            return {k.removeprefix(name): v for k, v in state.items() if k.startswith(name)}

        self.model.load_state_dict(under("now."), strict=False)
        self.best = under("best.")
        self.score = float(state[SCORE])

    def _learned(self) -> dict[str, Tensor]:
        every = self.model.state_dict()
        return {k: v for k, v in every.items() if not self.skip or not k.startswith(self.skip)}
