"""`medfuse bind`: one more sense learns what it says of a task's findings. The bundle has no part in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ...bundles.calibration import fit_temperature
from ...models.bound import BoundSense
from ...models.features import CaseFeatures
from ..budget import Budget
from ..checkpoint import Resume
from ..draws import Draws
from ..keep import KeepBest
from ..loop import Plan, Stage, all_numbers, fit
from .fusion import masked_bce

BATCH = 64
EPOCHS = 80


@dataclass(frozen=True)
class SensedCases:
    """The tokens of one sense of some cases, and their labels (B, F) with -1 for unknown."""

    cases: list[CaseFeatures]
    labels: Tensor


class BindStage(Stage[Tensor]):
    """A sense on its own tokens; the weights that are best on validation cases are kept."""

    state: KeepBest

    def __init__(self, model: BoundSense, train: SensedCases, val: SensedCases, seed: int) -> None:
        self.name = f"bind {model.sense}"
        self.model = model
        self.train = train
        self.val = val
        self.state = KeepBest(model)
        self.draws = Draws(seed)
        steps = -(-len(train.cases) // BATCH)
        self.plan = Plan(peak=3e-3, weight_decay=0.05, per_epoch=steps, max_epochs=EPOCHS)

    def parameters(self) -> list[nn.Parameter]:
        """All of the sense's."""
        return list(self.model.parameters())

    def batches(self, epoch: int, done: int) -> Iterator[Tensor]:
        """Numbers of cases, in a new order."""
        yield from torch.randperm(len(self.train.cases), generator=self.draws.order).split(BATCH)

    def loss(self, batch: Tensor, step: int) -> Tensor:
        """Likelihood of the known labels."""
        cases = [self.train.cases[i] for i in batch.tolist()]
        return masked_bce(self.model(self.model.batch(cases)), self.train.labels[batch])

    def score(self, epoch: int, loss: float) -> dict[str, float]:
        """Log-likelihood of the validation cases; the highest is kept."""
        found = -float(masked_bce(self.model.logits(self.val.cases), self.val.labels))
        self.state.offer(found)
        return {"validation_log_likelihood": found}


@dataclass(frozen=True)
class Bound:
    """A trained sense, the temperature of its logits, and its validation log-likelihood a label."""

    model: BoundSense
    temperature: float
    score: float


def bind_sense(
    sense: str,
    train: SensedCases,
    val: SensedCases,
    *,
    seed: int,
    budget: Budget,
    resume: Resume | None = None,
) -> Bound:
    """Train a sense; ``resume``: where a stopped training goes on, deleted at the end."""
    torch.manual_seed(seed)
    model = BoundSense(sense, train.labels.shape[1])
    stage = BindStage(model, train, val, seed)
    tokens = model.batch(train.cases)
    all_numbers(stage.name, {sense: tokens})
    all_numbers(stage.name, {sense: model.batch(val.cases)}, "validation")
    model.tokeniser.fit(*tokens)
    fit(stage, budget, resume=resume)
    if resume is not None:
        resume.delete()
    best = stage.state.take_best()
    labels = val.labels.numpy().astype(np.int64)
    return Bound(model, fit_temperature(labels, model.logits(val.cases).numpy()), best)
