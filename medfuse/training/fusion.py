"""Stage 2: fusion, findings and the shared space, on cached region features, for every subset of the modalities."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..evaluation.feature_set import FusionData, predict_logits
from ..evaluation.findings import finding_auroc
from ..models.baselines import LateConcat
from ..models.coordination import OBJECTIVES, same_findings
from ..models.model import FusionModel
from ..models.subsets import subsets, use_only
from .budget import Budget, learning_rate

BATCH = 64


def masked_bce(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean binary cross-entropy over known labels (-1 is unknown)."""
    known = labels >= 0
    loss = F.binary_cross_entropy_with_logits(logits, labels.clamp_min(0).float(), reduction="none")
    return (loss * known).sum() / known.sum().clamp_min(1)


def draw_use(modalities: tuple[str, ...], batch: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Stratified modality dropout: the size of the subset is drawn first, then its members; rarely none at all."""
    n = len(modalities)
    size = torch.randint(1, n + 1, (batch,), generator=generator)
    size[torch.rand(batch, generator=generator) < 0.03] = 0
    rank = torch.rand(batch, n, generator=generator).argsort(1).argsort(1)
    return {m: rank[:, i] < size for i, m in enumerate(modalities)}


def _augment(batch: dict[str, tuple[Tensor, Tensor, Tensor]], model, generator: torch.Generator):
    out = {}
    for m, (x, mask, kind) in batch.items():
        scale = model.tokenisers[m].spread(kind)
        keep = torch.rand(mask.shape, generator=generator) > 0.08
        noise = torch.randn(x.shape, generator=generator) * scale * 0.15
        out[m] = (x + noise, mask & keep, kind)
    return out


def drop_words(mask: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Mask (B, L) of report tokens without about ``share`` of them; the first stays, so that no report is empty."""
    if share == 0:
        return mask
    kept = mask & (torch.rand(mask.shape, generator=generator) >= share)
    kept[:, 0] = mask[:, 0]
    return kept


def _loss(model, data: FusionData, generator: torch.Generator, whole: bool, word_dropout: float = 0.0) -> Tensor:
    batch = _augment(data.batch, model, generator)
    modalities = model.task_modalities
    if whole:
        return masked_bce(model.logits(batch) if isinstance(model, LateConcat) else model(batch).logits, data.labels)
    use = draw_use(modalities, len(data.labels), generator)
    if isinstance(model, LateConcat):
        return masked_bce(model.logits(batch), data.labels) + masked_bce(model.logits(batch, use), data.labels)
    full = model(batch)
    loss = masked_bce(full.logits, data.labels)
    if len(modalities) > 1:
        part = model(batch, use)
        loss = loss + masked_bce(part.logits, data.labels)
        # KL(full ‖ subset): what the subset says should follow what all of it says, as far as it can
        p = full.logits.detach().sigmoid()
        kl = F.binary_cross_entropy_with_logits(part.logits, p) - F.binary_cross_entropy(p, p)
        loss = loss + 0.3 * kl
        if data.ids is not None and data.ids_mask is not None:
            text = model.embed_text(data.ids, drop_words(data.ids_mask, word_dropout, generator))
            ignore = same_findings(data.labels)
            scale, bias = model.log_scale.exp(), model.bias
            objective = OBJECTIVES[model.config.coordination]
            senses = [
                full.embedding["joint"],
                part.embedding["joint"],
                *[full.embedding[m] for m in modalities],
            ]
            weights = [1.0, 0.5, *[0.4] * len(modalities)]
            for sense, weight in zip(senses, weights, strict=True):
                loss = loss + 0.12 * weight * objective(sense, text, scale, bias, ignore)
    return loss


def subset_score(model, data: FusionData, whole: bool = False) -> float:
    """Mean macro AUROC over all subsets (``whole``: of all modalities together): what model selection looks at, on validation cases."""
    scores = []
    for s in [model.task_modalities] if whole else subsets(model.task_modalities):
        use = use_only(s, model.task_modalities, len(data.labels))
        auroc = finding_auroc(data.labels.numpy(), predict_logits(model, data.batch, use))
        if not np.isnan(auroc).all():
            scores.append(np.nanmean(auroc))
    return float(np.mean(scores)) if scores else 0.5


def train_fusion(
    model: FusionModel | LateConcat,
    train: FusionData,
    val: FusionData,
    *,
    budget: Budget,
    seed: int,
    log: Callable[[int, float, float], None] = lambda step, loss, score: None,
    peak: float = 1.5e-3,
    max_epochs: int = 60,
    whole: bool = False,
    word_dropout: float = 0.0,
) -> float:
    """Train in place, keep the weights that were best on validation, return that score.

    ``whole``: a specialist for all of the model's modalities together, with no modality dropped and no subset scored.
    ``word_dropout``: share of a report's tokens that a training step does not see.
    """
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model.fit_standardisation(train.batch)
    trained = [p for n, p in model.named_parameters() if not n.startswith("encoders.")]
    optimiser = torch.optim.AdamW(trained, lr=peak, weight_decay=0.05)
    per_epoch = max(1, (len(train.labels) + BATCH - 1) // BATCH)
    best, best_state, step = -1.0, None, 0
    for epoch in range(max_epochs):
        model.train()
        total = 0.0
        for index in torch.randperm(len(train.labels), generator=generator).split(BATCH):
            fraction = max(budget.fraction(step), step / (per_epoch * max_epochs))
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(peak, fraction)
            loss = _loss(model, train.pick(index), generator, whole, word_dropout)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(trained, 1.0)
            optimiser.step()
            step += 1
            total += float(loss.detach())
        score = subset_score(model, val, whole)
        log(epoch, total / per_epoch, score)
        if score > best:
            best = score
            best_state = copy.deepcopy({k: v for k, v in model.state_dict().items() if not k.startswith("encoders.")})
        if budget.fraction(step) >= 1:
            break
    assert best_state is not None
    model.load_state_dict(best_state, strict=False)
    model.eval()
    return best
