"""A sense that was bound to a bundle after its training: its own tokens to what it says of each finding.
Nothing of the bundle is in it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .features import CaseFeatures, collate
from .model import pool
from .senses import sense_of
from .tokens import KindTokens

WIDTH = 48
DROPOUT = 0.2
Batch = tuple[Tensor, Tensor, Tensor]  # features (B, N, F), mask (B, N), kind (B, N)


class BoundSense(nn.Module):
    """Tokens of one further sense → a logit for each finding of the bundle's task."""

    def __init__(self, sense: str, findings: int) -> None:
        super().__init__()
        self.sense = sense
        known = sense_of(sense)
        self.tokeniser = KindTokens(known.size, known.kinds, WIDTH, DROPOUT)
        self.head = nn.Sequential(
            nn.LayerNorm(2 * WIDTH), nn.Dropout(DROPOUT), nn.Linear(2 * WIDTH, findings)
        )

    def batch(self, cases: list[CaseFeatures]) -> Batch:
        """The sense's tokens of some cases, padded."""
        return collate(cases, (self.sense,), {self.sense: sense_of(self.sense).size})[self.sense]

    def forward(self, batch: Batch) -> Float[Tensor, "b f"]:
        """Logits (B, F)."""
        logits: Tensor = self.head(pool(self.tokeniser(*batch)))
        return logits

    @torch.no_grad()
    def logits(self, cases: list[CaseFeatures]) -> Float[Tensor, "b f"]:
        """Of cases, in evaluation mode; what a case without the sense gets means nothing."""
        return self.eval()(self.batch(cases))  # type: ignore[no-any-return]
