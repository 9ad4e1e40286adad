"""Tasks without label maps: encoder, fusion and findings learn together from the labels of whole images."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..evaluation.findings import finding_auroc
from ..models.encoders import TOKENS
from ..models.model import FusionModel
from ..task import Task
from .budget import Budget, learning_rate
from .data import load_input
from .fusion import masked_bce
from .precision import autocast

BATCH, PEAK, SMOOTHING = 24, 1e-3, 0.1
FRAMES = 1  # of each image in a training sample; all of them when it is scored
KEEP = 0.995  # of the running mean of the weights, which is what is kept


def load_frames(task: Task, folder: Path, entries: list[dict], modality: str) -> list[Tensor]:
    """(T, S, S) float32 frames of each case; no frames where it has no image of this modality."""
    out = []
    for e in entries:
        names = e["files"].get(modality, [])
        arrays = [load_input(folder, name, len(task.modalities[modality].roles))[0] for name in names]
        size = task.modalities[modality].size
        frames = np.concatenate(arrays) if arrays else np.zeros((0, size, size), np.float16)
        out.append(torch.from_numpy(frames.astype(np.float32)))
    return out


def augment(x: Tensor, generator: torch.Generator, *, mirror: bool) -> Tensor:
    """Frames (B, 1, S, S): small turns, shifts and zooms, gain, contrast, noise and a hidden square; mirror images if allowed."""
    n = len(x)

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(n, generator=generator) * (high - low) + low

    angle, zoom = uniform(-0.2, 0.2), uniform(0.8, 1.15)
    flip = torch.where((torch.rand(n, generator=generator) < 0.5) & mirror, -1.0, 1.0)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = zoom * angle.cos() * flip, -zoom * angle.sin()
    theta[:, 1, 0], theta[:, 1, 1] = zoom * angle.sin() * flip, zoom * angle.cos()
    theta[:, :, 2] = torch.stack([uniform(-0.12, 0.12), uniform(-0.12, 0.12)], 1)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    y = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    y = y * uniform(0.8, 1.25)[:, None, None, None] + uniform(-0.25, 0.25)[:, None, None, None]
    y = y + torch.randn(y.shape, generator=generator) * uniform(0, 0.12)[:, None, None, None]
    side = x.shape[-1] // 4
    for i in torch.nonzero(torch.rand(n, generator=generator) < 0.3).flatten().tolist():
        a, b = (int(v) for v in torch.randint(0, x.shape[-1] - side, (2,), generator=generator))
        y[i, :, a : a + side, b : b + side] = y[i].mean()
    return y


def tokens_of(model: FusionModel, frames: dict[str, list[Tensor]], index: Tensor, change=None) -> dict[str, tuple]:
    """Token batch of the cases ``index``; ``change`` augments the frames and draws FRAMES of each case."""
    batch = {}
    for m in model.task_modalities:
        some = [frames[m][i] for i in index.tolist()]
        if change is not None:
            some = [f[torch.randint(0, len(f), (FRAMES,))] if len(f) else f for f in some]
        counts = [len(f) for f in some]
        longest = max([*counts, 1])
        x = torch.cat(some)[:, None] if sum(counts) else torch.zeros(0, 1, 8, 8)
        encoded = model.encoders[m](change(m, x) if change is not None else x) if len(x) else None
        per_frame = TOKENS
        features = torch.zeros(len(some), longest * per_frame, model.sizes[m])
        mask = torch.zeros(len(some), longest * per_frame, dtype=torch.bool)
        start = 0
        for b, n in enumerate(counts):
            if n and encoded is not None:
                features[b, : n * per_frame] = encoded[start : start + n].flatten(0, 1).float()
                mask[b, : n * per_frame] = True
            start += n
        batch[m] = (features, mask, torch.zeros(mask.shape, dtype=torch.long))
    return batch


def loss_of(logits: Tensor, labels: Tensor, exclusive: list[int]) -> Tensor:
    """Cross-entropy where findings exclude each other, binary cross-entropy for the rest; -1 is unknown."""
    rest = [i for i in range(logits.shape[1]) if i not in exclusive]
    loss = logits.new_zeros(())
    if exclusive:
        y = labels[:, exclusive]
        known = (y == 1).any(1)
        if known.any():
            log_p = F.logsigmoid(logits[known][:, exclusive])
            target = y[known].argmax(1)
            loss = (1 - SMOOTHING) * F.nll_loss(log_p, target) - SMOOTHING * log_p.mean()
    if rest:
        loss = loss + masked_bce(logits[:, rest], labels[:, rest])
    return loss


@torch.no_grad()
def predict_whole(model: FusionModel, frames: dict[str, list[Tensor]], n: int) -> np.ndarray:
    """(n, findings) logits from every frame of every case."""
    model.eval()
    return torch.cat([model(tokens_of(model, frames, i)).logits for i in torch.arange(n).split(32)]).float().numpy()


def train_whole(
    task: Task, model: FusionModel, folder: Path, entries: list[dict], labels: np.ndarray, is_train: np.ndarray, *,
    budget: Budget, seed: int, log: Callable[[int, float, float], None] = lambda epoch, loss, score: None,
    max_epochs: int = 400,
) -> float:  # fmt: skip
    """Train in place on the rows ``is_train``, keep the running mean of the weights that was best on the others."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    budget.started = time.monotonic()
    frames = {m: load_frames(task, folder, entries, m) for m in task.senses}
    y = torch.from_numpy(labels)
    train, val = np.flatnonzero(is_train), np.flatnonzero(~is_train)
    val_frames = {m: [f[i] for i in val] for m, f in frames.items()}
    optimiser = torch.optim.AdamW(model.parameters(), lr=PEAK, weight_decay=0.02)
    mean = copy.deepcopy(model).eval()
    step, best, best_state = 0, -1.0, copy.deepcopy(model.state_dict())
    per_epoch = max(1, len(train) // BATCH)

    def change(m: str, x: Tensor) -> Tensor:
        return augment(x, generator, mirror=task.modalities[m].mirror)

    for epoch in range(max_epochs):
        model.train()
        total = 0.0
        order = torch.from_numpy(train)[torch.randperm(len(train), generator=generator)]
        for index in order[: per_epoch * BATCH].split(BATCH):
            fraction = max(budget.fraction(step), step / (per_epoch * max_epochs))
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(PEAK, fraction)
            with autocast(torch.device("cpu")):
                logits = model(tokens_of(model, frames, index, change)).logits
            loss = loss_of(logits.float(), y[index], task.exclusive_indices)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            step += 1
            total += float(loss.detach())
            keep = min(KEEP, (1 + step) / (10 + step))
            with torch.no_grad():
                for a, b in zip(mean.state_dict().values(), model.state_dict().values(), strict=True):
                    if a.is_floating_point():
                        a.lerp_(b, 1 - keep)
                    else:
                        a.copy_(b)
        score = finding_auroc(labels[val], predict_whole(mean, val_frames, len(val)))
        value = 0.5 if np.isnan(score).all() else float(np.nanmean(score))
        log(epoch, total / per_epoch, value)
        if value >= best:
            best, best_state = value, copy.deepcopy(mean.state_dict())
        if budget.fraction(step) >= 1:
            break
    model.load_state_dict(best_state)
    model.eval()
    return best
