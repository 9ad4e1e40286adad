"""The random numbers of a stage, in one place, so that a stopped training goes on with the same ones.

Under torchrun every process must see the cases in the same order, or their shares of a batch would overlap;
what it draws besides is its own, as shares are of different sizes.
"""

from __future__ import annotations

import json

import numpy as np
import torch
from torch import Tensor

from .distributed import rank, world

APART = 7_919  # between the seeds of two processes


class Draws:
    """Generators of one seed: ``torch`` for tensors, ``numpy`` for arrays, torch's global one, which dropout
    uses; and ``order``, the same in every process (without torchrun it is ``torch``)."""

    def __init__(self, seed: int) -> None:
        self.reseed(seed)

    def reseed(self, seed: int, epoch: int | None = None) -> None:
        """Begin anew; with ``epoch``, as every training does that stops and goes on at that epoch."""
        whole = seed if epoch is None else seed * 100_003 + epoch
        own = APART * rank()
        self.torch = torch.Generator().manual_seed(whole + own)
        self.order = self.torch if world() == 1 else torch.Generator().manual_seed(whole)
        self.numpy = np.random.default_rng(seed + own if epoch is None else [seed + own, epoch])
        torch.manual_seed(whole + own)

    def state(self) -> tuple[dict[str, Tensor], str]:
        """States of torch's generators as tensors, and numpy's as JSON."""
        tensors = {
            "global": torch.get_rng_state(),
            "torch": self.torch.get_state(),
            "order": self.order.get_state(),
        }
        return tensors, json.dumps(self.numpy.bit_generator.state)

    def restore(self, tensors: dict[str, Tensor], numpy_state: str) -> None:
        """Go on where `state` was taken."""
        torch.set_rng_state(tensors["global"])
        self.torch.set_state(tensors["torch"])
        if self.order is not self.torch:
            self.order.set_state(tensors["order"])
        if rank() > 0:  # the state is the first process's: this one goes on with numbers of its own
            own = int(self.numpy.integers(2**31)) + APART * rank()
            torch.manual_seed(own)
            self.torch.manual_seed(own)
            self.numpy = np.random.default_rng(own)
        self.numpy.bit_generator.state = json.loads(numpy_state)
