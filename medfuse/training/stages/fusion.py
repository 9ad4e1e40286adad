"""Stage 2: fusion, findings and the shared space, on cached region features, for every subset of the
modalities."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...evaluation.findings import finding_auroc
from ...models.baselines import LateConcat
from ...models.coordination import OBJECTIVES, same_findings
from ...models.feature_set import FusionData, predict_logits
from ...models.model import FusionModel, Output
from ...models.subsets import subsets, use_only
from ..budget import Budget
from ..checkpoint import Resume
from ..distributed import share
from ..draws import Draws
from ..keep import KeepBest
from ..loop import Plan, Stage, all_numbers, fit

BATCH = 64
KL = 0.3  # weight of "a subset should say what all of it says"
TokenBatch = dict[str, tuple[Tensor, Tensor, Tensor]]  # features (B, N, F), mask (B, N), kind (B, N)


@dataclass(frozen=True, kw_only=True)
class FusionTraining:
    """How fusion is trained.

    seed: of every draw. log: told the epoch, its loss and the validation score. peak: of the learning rate.
    max_epochs: at most. whole: a specialist for all of the model's modalities together, with no modality
    dropped and no subset scored. word_dropout: share of a report's tokens that a training step does not see.
    near: labels (B, F) to pairs (B, B) of patients that are no negatives of each other in the shared space.
    """

    seed: int
    log: Callable[[int, float, float], None] = lambda epoch, loss, score: None
    peak: float = 1.5e-3
    max_epochs: int = 60
    whole: bool = False
    word_dropout: float = 0.0
    near: Callable[[Tensor], Tensor] = same_findings


def masked_bce(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean binary cross-entropy over known labels (-1 is unknown)."""
    known = labels >= 0
    loss = F.binary_cross_entropy_with_logits(logits, labels.clamp_min(0).float(), reduction="none")
    return (loss * known).sum() / known.sum().clamp_min(1)


def draw_use(modalities: tuple[str, ...], batch: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Stratified modality dropout: the size of the subset is drawn first, then its members; rarely none at
    all."""
    n = len(modalities)
    size = torch.randint(1, n + 1, (batch,), generator=generator)
    size[torch.rand(batch, generator=generator) < 0.03] = 0
    rank = torch.rand(batch, n, generator=generator).argsort(1).argsort(1)
    return {m: rank[:, i] < size for i, m in enumerate(modalities)}


def kl_of_subset(part: Tensor, full: Tensor) -> Tensor:
    """KL(full ‖ part) of two sets of logits, a mean: what a subset says should follow what all of it says, as
    far as it can. Nothing flows back into ``full``."""
    full = full.detach()
    p = full.sigmoid()
    return F.binary_cross_entropy_with_logits(part, p) - F.binary_cross_entropy_with_logits(full, p)


def _augment(batch: TokenBatch, model: FusionModel | LateConcat, generator: torch.Generator) -> TokenBatch:
    out = {}
    for m, (x, mask, kind) in batch.items():
        scale = model.tokenisers[m].spread(kind)  # type: ignore[operator]
        keep = torch.rand(mask.shape, generator=generator) > 0.08
        noise = torch.randn(x.shape, generator=generator) * scale * 0.15
        out[m] = (x + noise, mask & keep, kind)
    return out


def drop_words(mask: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Mask (B, L) of report tokens without about ``share`` of them; the first stays, so that no report is
    empty."""
    if share == 0:
        return mask
    kept = mask & (torch.rand(mask.shape, generator=generator) >= share)
    kept[:, 0] = mask[:, 0]
    return kept


AUROC = "macro AUROC"
LIKELIHOOD = "log-likelihood"


def criterion(labels: Tensor) -> str:
    """AUROC or LIKELIHOOD: by what validation cases with these labels (B, F; -1 unknown) choose weights."""
    both = ((labels == 1).any(0) & (labels == 0).any(0)).any()
    return AUROC if both else LIKELIHOOD


def subset_score(model: FusionModel | LateConcat, data: FusionData, whole: bool = False) -> float:
    """What model selection looks at, on validation cases: mean macro AUROC over all subsets (``whole``: of
    all modalities together). Where no finding has cases both with and without it, as where every patient has
    the mass that is outlined, nothing can be ranked: then the mean log-likelihood, at most 0."""
    if criterion(data.labels) == LIKELIHOOD:
        ways = [model.task_modalities] if whole else subsets(model.task_modalities)
        logits = [
            predict_logits(model, data.batch, use_only(s, model.task_modalities, len(data.labels)))
            for s in ways
        ]
        return -float(np.mean([masked_bce(torch.from_numpy(x), data.labels).item() for x in logits]))
    scores = []
    for s in [model.task_modalities] if whole else subsets(model.task_modalities):
        use = use_only(s, model.task_modalities, len(data.labels))
        auroc = finding_auroc(data.labels.numpy(), predict_logits(model, data.batch, use))
        if not np.isnan(auroc).all():
            scores.append(np.nanmean(auroc))
    return float(np.mean(scores)) if scores else 0.5


class FusionStage(Stage[FusionData]):
    """A fusion model on the cached features of a training set, scored on a validation set."""

    name = "fusion"
    state: KeepBest

    def __init__(
        self, model: FusionModel | LateConcat, train: FusionData, val: FusionData, how: FusionTraining
    ) -> None:
        if isinstance(model, LateConcat):
            self.name = "late concatenation"
        elif len(model.task_modalities) == 1:
            self.name = f"baseline {model.task_modalities[0]}"
        self.model = model
        self.train = train
        self.val = val
        self.how = how
        self.state = KeepBest(model, skip="encoders.")
        self.draws = Draws(how.seed)
        self.plan = Plan(
            peak=how.peak,
            weight_decay=0.05,
            per_epoch=max(1, -(-len(train.labels) // BATCH)),
            max_epochs=how.max_epochs,
        )

    def parameters(self) -> list[nn.Parameter]:
        """All but the encoders'."""
        return [p for n, p in self.model.named_parameters() if not n.startswith("encoders.")]

    def batches(self, epoch: int, done: int) -> Iterator[FusionData]:
        """The training set in a new order; under torchrun each process has its share of a batch."""
        for index in torch.randperm(len(self.train.labels), generator=self.draws.order).split(BATCH):
            yield self.train.pick(share(index))

    def loss(self, batch: FusionData, step: int) -> Tensor:
        """Of all modalities, of a random subset of them, and of the shared space with the report."""
        model = self.model
        tokens = _augment(batch.batch, model, self.draws.torch)
        if isinstance(model, LateConcat):
            return self._late_loss(model, batch, tokens)
        if self.how.whole:
            return masked_bce(model(tokens).logits, batch.labels)
        use = draw_use(model.task_modalities, len(batch.labels), self.draws.torch)
        full = model(tokens)
        loss = masked_bce(full.logits, batch.labels)
        if len(model.task_modalities) == 1:
            return loss
        part = model(tokens, use)
        loss = loss + masked_bce(part.logits, batch.labels) + KL * kl_of_subset(part.logits, full.logits)
        if batch.ids is None or batch.ids_mask is None:
            return loss
        kept = drop_words(batch.ids_mask, self.how.word_dropout, self.draws.torch)
        near = self.how.near(batch.labels)
        return loss + coordination_loss(model, full, part, model.embed_text(batch.ids, kept), near)

    def _late_loss(self, model: LateConcat, batch: FusionData, tokens: TokenBatch) -> Tensor:
        if self.how.whole:
            return masked_bce(model.logits(tokens), batch.labels)
        use = draw_use(model.task_modalities, len(batch.labels), self.draws.torch)
        return masked_bce(model.logits(tokens), batch.labels) + masked_bce(
            model.logits(tokens, use), batch.labels
        )

    def score(self, epoch: int, loss: float) -> dict[str, float]:
        """`subset_score` on the validation set; the best weights are kept."""
        found = subset_score(self.model, self.val, self.how.whole)
        self.how.log(epoch, loss, found)
        self.state.offer(found)
        name = "validation_auroc" if criterion(self.val.labels) == AUROC else "validation_log_likelihood"
        return {name: found}


def coordination_loss(model: FusionModel, full: Output, part: Output, text: Tensor, near: Tensor) -> Tensor:
    """What brings the joint embedding, that of a subset and each modality's own to the report's (B, D).
    near (B, B): pairs of patients that are no negatives."""
    scale = model.log_scale.exp()
    objective = OBJECTIVES[model.config.coordination]
    senses = [
        (1.0, full.embedding["joint"]),
        (0.5, part.embedding["joint"]),
        *((0.4, full.embedding[m]) for m in model.task_modalities),
    ]
    loss = text.new_zeros(())
    for weight, sense in senses:
        loss = loss + 0.12 * weight * objective(sense, text, scale, model.bias, near)
    return loss


def train_fusion(
    model: FusionModel | LateConcat,
    train: FusionData,
    val: FusionData,
    *,
    budget: Budget,
    how: FusionTraining,
    resume: Resume | None = None,
) -> float:
    """Train in place, keep the weights that were best on validation, return that score. ``resume``: where a
    stopped training goes on; it is deleted at the end."""
    stage = FusionStage(model, train, val, how)
    all_numbers(stage.name, {m: train.batch[m] for m in model.sizes})
    all_numbers(stage.name, {m: val.batch[m] for m in model.sizes}, "validation")
    model.fit_standardisation(train.batch)
    fit(stage, budget, resume=resume)
    if resume is not None:
        resume.delete()
    return stage.state.take_best()
