"""The one training loop. A stage says what is trained and on what; `fit` takes its steps.

Every stage can be stopped and goes on (`checkpoint.Resume`), runs under torchrun (gradients are averaged over
the processes, each of which takes its share of a batch), keeps its budget, and never lets a step with a
loss or a gradient that is not finite reach its weights.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from ..errors import NotFiniteError
from .budget import Budget, learning_rate
from .checkpoint import Resume, State
from .distributed import agree, average_gradients, rank, same_everywhere
from .draws import Draws
from .scalars import Scalars

Batch = TypeVar("Batch")
CPU = torch.device("cpu")
LOOK = "look for images whose values are not numbers, or start from other weights"
MOST_SKIPPED = 10  # steps in a row without a finite gradient, after which a training ends


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a stage is trained: AdamW's settings, the norm that gradients are clipped to, steps an epoch (None:
    one endless epoch), epochs at most, and after how many steps an endless stage reports its loss."""

    peak: float
    weight_decay: float
    betas: tuple[float, float] = (0.9, 0.999)
    clip: float = 1.0
    per_epoch: int | None = None
    max_epochs: int = 1
    report_every: int = 50

    def epochs_in(self, step: int) -> int:
        """Whole epochs in so many steps; 0 where there is one endless epoch."""
        return step // self.per_epoch if self.per_epoch else 0

    def progress(self, step: int) -> float:
        """Share of the epochs that are done; 0 where there is no end but the budget's."""
        return 0.0 if self.per_epoch is None else step / (self.per_epoch * self.max_epochs)


def all_numbers(stage: str, tokens: dict[str, tuple[Tensor, ...]], cases: str = "training") -> None:
    """Raise NotFiniteError where tokens {modality: (features (B, N, F), mask (B, N), …)} of training or
    validation cases hold values that are not numbers: one would spoil the standardisation of all, or the
    score that weights are chosen by."""
    for modality, (features, mask, *_) in tokens.items():
        bad = ((~torch.isfinite(features)).any(-1) & mask).any(-1)
        if bad.any():
            raise NotFiniteError(
                f"{stage}: what {modality} says of {int(bad.sum())} of {len(bad)} {cases} cases is not a "
                f"number; {LOOK}"
            )


class Stage(ABC, Generic[Batch]):
    """What is trained. ``state`` holds all weights that a stopped training needs to go on."""

    name: str
    plan: Plan
    state: State
    draws: Draws

    @abstractmethod
    def parameters(self) -> list[nn.Parameter]:
        """The weights that learn."""

    @abstractmethod
    def batches(self, epoch: int, done: int) -> Iterator[Batch]:
        """The batches of an epoch; of an endless one those that follow ``done`` steps."""

    @abstractmethod
    def loss(self, batch: Batch, step: int) -> Tensor:
        """A scalar."""

    def begin(self, epoch: int) -> None:
        """Before an epoch's first batch."""
        self.state.train()

    def after_step(self, step: int) -> None:
        """After a step that changed the weights."""

    def score(self, epoch: int, loss: float) -> dict[str, float]:
        """After an epoch with this mean loss: keep the weights if they are the best; numbers to show."""
        return {}

    def report(self, step: int, loss: float, fraction: float) -> None:
        """Now and then in an endless epoch: the running mean of the loss, the share of the budget spent."""


def fit(
    stage: Stage[Batch],
    budget: Budget,
    *,
    device: torch.device = CPU,
    resume: Resume | None = None,
    scalars: Scalars | None = None,
) -> int:
    """Train a stage until its budget or its epochs end; return the number of steps.

    Raises NotFiniteError after MOST_SKIPPED steps in a row whose loss or gradient was not finite, and for a
    validation score that is no number; the last good weights are then in the stage, and in its checkpoint
    where it has one.
    """
    plan = stage.plan
    resume = resume or Resume(None)
    scalars = scalars or Scalars(None)
    optimiser = torch.optim.AdamW(
        stage.parameters(), lr=plan.peak, weight_decay=plan.weight_decay, betas=plan.betas
    )
    step = resume.load(stage.state, optimiser, budget, stage.draws)
    same_everywhere([*(p.data for p in stage.parameters()), *stage.state.buffers()])
    take = _Step(stage, optimiser)
    kept = _Kept(stage, optimiser, budget, resume, scalars)
    spent = 0.0
    for epoch in range(plan.epochs_in(step), plan.max_epochs):
        stage.begin(epoch)
        mean = _Mean(endless=plan.per_epoch is None)
        for batch in stage.batches(epoch, step):
            spent = agree(budget.fraction(step), device)
            if spent >= 1:
                break
            mean.add(kept.guarded(take, batch, step, max(spent, plan.progress(step))))
            step += 1
            if plan.per_epoch is None:
                kept.after_step(step, mean.value, spent)
        if plan.per_epoch is not None:
            kept.after_epoch(epoch, step, mean.value)
        spent = agree(budget.fraction(step), device)
        if spent >= 1:
            break
    scalars.close()
    if take.skipped and not take.taken:
        raise NotFiniteError(f"{stage.name}: no step of {step} had a finite gradient; {LOOK}")
    return step


@dataclass(frozen=True)
class _Kept:
    """What a training tells and writes on its way: scores, curves, and how far it is. Only the first process
    reports and writes."""

    stage: Stage
    optimiser: torch.optim.Optimizer
    budget: Budget
    resume: Resume
    scalars: Scalars

    def after_step(self, step: int, loss: float, spent: float) -> None:
        """In an endless epoch."""
        if rank() > 0:
            return
        if step % self.stage.plan.report_every == 0:
            self.stage.report(step, loss, spent)
            self.scalars.add("loss", loss, step)
        self._save(step)

    def after_epoch(self, epoch: int, step: int, loss: float) -> None:
        """Score it, in every process: each keeps its best weights. Raises NotFiniteError for a score that is
        no number, by which no weights could be told from others."""
        scores = self.stage.score(epoch, loss)
        for name, number in {"loss": loss, **scores}.items():
            self.scalars.add(name, number, step)
        if any(math.isnan(number) for number in scores.values()):
            raise NotFiniteError(
                f"{self.stage.name}: the score on validation cases is not a number at step {step}"
                f"{self.last_good(step)}; {LOOK}"
            )
        if rank() == 0:
            self._save(step)

    def guarded(self, take: _Step[Batch], batch: Batch, step: int, fraction: float) -> float:
        """The loss of a step; an error that ends the training says where the last good weights are."""
        try:
            return take(batch, step, fraction)
        except NotFiniteError as e:
            raise NotFiniteError(f"{e}{self.last_good(step)}; {LOOK}") from None

    def last_good(self, step: int) -> str:
        """Keep the weights, which no bad step has reached, and say where; "" where none are kept."""
        if self.resume.path is None:
            return ""
        if rank() == 0:
            self._save(step, now=True)
        return f"; the last good weights are in {self.resume.path}, and a training goes on from there"

    def _save(self, step: int, *, now: bool = False) -> None:
        self.resume.save(self.stage.state, self.optimiser, self.budget, self.stage.draws, step, now=now)


class _Step(Generic[Batch]):
    """One step: loss, gradient averaged over processes and clipped, weights. Where the gradient is not
    finite, nothing changes and the step is counted."""

    def __init__(self, stage: Stage[Batch], optimiser: torch.optim.Optimizer) -> None:
        self.stage = stage
        self.optimiser = optimiser
        self.parameters = stage.parameters()
        self.skipped = 0  # in a row
        self.taken = 0

    def __call__(self, batch: Batch, step: int, fraction: float) -> float:
        """Take a step at this share of the training; the loss, NaN where the step was not taken."""
        stage = self.stage
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(stage.plan.peak, fraction)
        before = [b.clone() for b in stage.state.buffers()]  # running statistics move in the forward pass
        loss = stage.loss(batch, step)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        average_gradients(self.parameters)
        norm = nn.utils.clip_grad_norm_(self.parameters, stage.plan.clip)
        if not torch.isfinite(norm) or not torch.isfinite(loss.detach()):
            self._skip(before, step)
            return math.nan
        self.skipped = 0
        self.taken += 1
        self.optimiser.step()
        same_everywhere(stage.state.buffers())
        stage.after_step(step + 1)
        return float(loss.detach())

    @torch.no_grad()
    def _skip(self, before: list[Tensor], step: int) -> None:
        for buffer, old in zip(self.stage.state.buffers(), before, strict=True):
            buffer.copy_(old)
        self.skipped += 1
        if self.skipped >= MOST_SKIPPED:
            raise NotFiniteError(
                f"{self.stage.name}: the loss or its gradient was not finite in {self.skipped} steps up to "
                f"step {step + 1}"
            )


class _Mean:
    """The mean loss of an epoch; of an endless one the running mean (0.98). Steps not taken do not count."""

    def __init__(self, *, endless: bool) -> None:
        self.endless = endless
        self.value = math.nan
        self.taken = 0

    def add(self, loss: float) -> None:
        """Take one step's loss in."""
        if math.isnan(loss):
            return
        self.taken += 1
        if self.taken == 1:
            self.value = loss
        elif self.endless:
            self.value = 0.98 * self.value + 0.02 * loss
        else:
            self.value += (loss - self.value) / self.taken
