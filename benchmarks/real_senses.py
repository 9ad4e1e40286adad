"""medfuse's own fusion on few patients: co-attention (models/fusion.py) between tokens of cine frames and
tokens of laboratory values (models/senses/labs.py), each sense dropped at times, so that any subset is an
input."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medfuse.models.fusion import CoAttention
from medfuse.models.senses.labs import KINDS, kind_of
from medfuse.models.tokens import KindTokens, RegionTokens

WIDTH = 32
PLACES = 16  # principal components of a frame's features
STEPS = 120
DROPPED = 0.3  # how often a sense is missing from a training case
Inputs = tuple[Tensor, Tensor, Tensor]  # features, mask, kinds


class Senses(Protocol):
    """What is read of a cohort: frames (N, T, F) of the encoder and log laboratory values (N, L)."""

    frames: np.ndarray
    labs: np.ndarray


class CoAttentive(nn.Module):
    """Trained when it is made, on the rows ``train`` of a cohort."""

    def __init__(
        self, c: Senses, y: np.ndarray, train: np.ndarray, analytes: list[tuple[str, str]], seed: int
    ) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.kinds = torch.tensor([kind_of(name, unit) for name, unit in analytes])
        flat = torch.from_numpy(c.frames[train]).float().flatten(0, 1)
        self.mean = flat.mean(0)
        self.axes = torch.linalg.svd(flat - self.mean, full_matrices=False)[2][:PLACES].T
        self.us = RegionTokens(self.axes.shape[1], 1, WIDTH, 0.3)
        self.lab = KindTokens(1, KINDS, WIDTH, 0.3)
        self.fusion = CoAttention(("US", "LABS"), WIDTH, 1, 4, 0.3)
        self.head = nn.Linear(WIDTH, 1)
        us, labs = self.inputs(c, train)
        self.us.fit(*us)
        self.lab.fit(*labs)
        self._learn(us, labs, torch.tensor(y[train]).float())

    def inputs(self, c: Senses, rows: np.ndarray) -> tuple[Inputs, Inputs]:
        """Features, masks and kinds of the two senses; an unknown value is a token that does not exist."""
        frames = (torch.from_numpy(c.frames[rows]).float() - self.mean) @ self.axes
        values = torch.from_numpy(c.labs[rows]).float()
        b, t = frames.shape[:2]
        us = (frames, torch.ones(b, t, dtype=torch.bool), torch.zeros(b, t, dtype=torch.long))
        return us, (values.nan_to_num()[..., None], ~values.isnan(), self.kinds.expand(b, -1))

    def forward(self, us: Inputs, labs: Inputs) -> Tensor:
        """Log-odds (B,)."""
        tokens = {"US": self.us(*us), "LABS": self.lab(*labs)}
        return self.head(self.fusion(tokens)[1])[:, 0]

    def _learn(self, us: Inputs, labs: Inputs, y: Tensor) -> None:
        rate = torch.optim.AdamW(self.parameters(), 2e-3, weight_decay=0.1)
        for _ in range(STEPS):
            lost = torch.rand(len(y), 2) < DROPPED
            lost[lost.all(1)] = False
            seen = [(x, m & ~gone[:, None], k) for (x, m, k), gone in zip((us, labs), lost.T, strict=True)]
            loss = F.binary_cross_entropy_with_logits(self(*seen), y)
            rate.zero_grad()
            loss.backward()
            rate.step()
        self.eval()

    @torch.no_grad()
    def odds(self, c: Senses, rows: np.ndarray) -> np.ndarray:
        """Log-odds of some rows."""
        return self(*self.inputs(c, rows)).numpy()
