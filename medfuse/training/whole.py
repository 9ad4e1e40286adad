"""Tasks without label maps: encoder, fusion and findings learn together from the labels of whole images."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..evaluation.findings import finding_auroc
from ..models.calibration import fit_temperature
from ..models.features import CaseFeatures, collate
from ..models.model import FusionModel
from ..models.precision import autocast
from ..models.senses import SENSES
from ..task import Task
from .budget import Budget, learning_rate
from .checkpoint import Resume
from .data import load_input
from .dense import jitter
from .fusion import draw_use, masked_bce
from .scalars import Scalars

BATCH, PEAK, SMOOTHING = 16, 1e-3, 0.02
FRAMES = 1  # of each image in a training sample; all of them when it is scored
KEEP = 0.995  # of the running mean of the weights, which is what is kept
CUT = 0.12  # of each side of a volume, at most, that a training sample leaves out
KL = 0.3  # weight of "a subset should say what all of it says"


@dataclass
class WholeImages:
    """All cases of a manifest: ultrasound frames in memory, volumes read when they are needed, further senses as tokens."""

    task: Task
    folder: Path
    frames: list[Tensor]  # (T, 1, S, S) of each case; no frames where it has no ultrasound
    volumes: list[dict[str, list[str]]]  # by modality, the names of preprocessed volumes
    said: list[CaseFeatures]

    @classmethod
    def read(cls, task: Task, folder: Path, entries: list[dict], said: list[CaseFeatures] | None = None) -> WholeImages:
        frames = []
        size = task.modalities["US"].size if "US" in task.modalities else 8
        for e in entries:
            arrays = [load_input(folder, name, 1)[0] for name in e["files"].get("US", [])]
            some = np.concatenate(arrays) if arrays else np.zeros((0, size, size), np.float16)
            frames.append(torch.from_numpy(some.astype(np.float32))[:, None])
        volumes = [{m: e["files"].get(m, []) for m in task.image_senses if m != "US"} for e in entries]
        return cls(task, folder, frames, volumes, said or [CaseFeatures() for _ in entries])

    def volume(self, modality: str, name: str) -> tuple[np.ndarray, np.ndarray]:
        """values (R, X, Y, Z) float32, present (R,)."""
        values, present, _ = load_input(self.folder, name, len(self.task.modalities[modality].roles))
        return values.astype(np.float32), present


def augment(x: Tensor, generator: torch.Generator, *, mirror: bool) -> Tensor:
    """Frames (B, 1, S, S): a window of 0.6 to 1.1 of each, turned and stretched a little, with other gain and offset; mirror images if
    allowed."""
    n = len(x)

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(n, generator=generator) * (high - low) + low

    angle, zoom, stretch = uniform(-0.3, 0.3), uniform(0.6, 1.1), uniform(-0.15, 0.15).exp()
    flip = torch.where((torch.rand(n, generator=generator) < 0.5) & mirror, -1.0, 1.0)
    room = (1.05 - zoom).clamp_min(0.05)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = zoom * stretch * angle.cos() * flip, -zoom * angle.sin()
    theta[:, 1, 0], theta[:, 1, 1] = zoom * angle.sin() * flip, zoom / stretch * angle.cos()
    theta[:, :, 2] = torch.stack([uniform(-1, 1) * room, uniform(-1, 1) * room], 1)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    y = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    return y * uniform(0.8, 1.25)[:, None, None, None] + uniform(-0.25, 0.25)[:, None, None, None]


def cut_volume(values: np.ndarray, present: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A training sample of a volume: its sides cut a little, gain, offset and noise, some roles left out. Never a mirror image."""
    box = []
    for n in values.shape[1:]:
        most = int(CUT * n)
        a, b = rng.integers(0, most + 1, 2)
        box.append(slice(int(a), n - int(b)) if n - a - b >= 32 else slice(0, n))
    keep = present & (rng.random(len(present)) < 0.85)
    return jitter(values[(slice(None), *box)], rng), keep if keep.any() else present


def _frame_tokens(model: FusionModel, some: list[Tensor], device: torch.device, change) -> list[Tensor]:
    """(T · tokens, C) of each case; all frames of the batch pass at once."""
    if change is not None:
        some = [f[torch.randint(0, len(f), (FRAMES,))] if len(f) else f for f in some]
    every = torch.cat(some)
    if not len(every):
        return [torch.zeros(0, model.sizes["US"], device=device) for _ in some]
    encoded = model.encoders["US"]((change(every) if change is not None else every).to(device)).float()
    return [part.flatten(0, 1) for part in encoded.split([len(f) for f in some])]


def tokens_of(
    model: FusionModel, images: WholeImages, index: Tensor, *, change=None, rng: np.random.Generator | None = None
) -> dict[str, tuple]:
    """Token batch of the cases ``index``; ``change`` augments frames and draws FRAMES of each case, ``rng`` augments volumes."""
    batch = {}
    device = next(model.parameters()).device
    cases = index.tolist()
    for m in model.task_modalities:
        if m in SENSES:
            batch[m] = tuple(t.to(device) for t in collate([images.said[i] for i in cases], (m,), model.sizes)[m])
            continue
        if m == "US":
            rows = _frame_tokens(model, [images.frames[i] for i in cases], device, change)
        else:
            rows = []
            for i in cases:
                parts = [torch.zeros(0, model.sizes[m], device=device)]
                for name in images.volumes[i][m]:
                    values, present = images.volume(m, name)
                    if rng is not None:
                        values, present = cut_volume(values, present, rng)
                    x, p = torch.from_numpy(values)[None].to(device), torch.from_numpy(present)[None].to(device)
                    parts.append(model.encoders[m](x, p)[0].float())
                rows.append(torch.cat(parts))
        features = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        if features.shape[1] == 0:
            features = features.new_zeros(len(rows), 1, model.sizes[m])
        mask = torch.arange(features.shape[1], device=device) < torch.tensor([[len(r)] for r in rows], device=device)
        batch[m] = (features, mask, torch.zeros(mask.shape, dtype=torch.long, device=device))
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


def batch_loss(model: FusionModel, batch: dict, y: Tensor, exclusive: list[int], generator: torch.Generator) -> Tensor:
    """All senses, and with several a random subset too, which should say what all of them say as far as it can."""
    full = model(batch).logits.float()
    loss = loss_of(full, y, exclusive)
    if len(model.task_modalities) > 1:
        use = {m: u.to(y.device) for m, u in draw_use(model.task_modalities, len(y), generator).items()}
        part = model(batch, use).logits.float()
        p = full.detach().sigmoid()
        apart = F.binary_cross_entropy_with_logits(part, p) - F.binary_cross_entropy(p, p)
        loss = loss + loss_of(part, y, exclusive) + KL * apart
    return loss


@torch.no_grad()
def predict_whole(model: FusionModel, images: WholeImages, index: np.ndarray) -> np.ndarray:
    """(n, findings) logits of the cases ``index`` from every frame and volume."""
    model.eval()
    parts = torch.from_numpy(index).split(BATCH)
    return torch.cat([model(tokens_of(model, images, i)).logits for i in parts]).float().cpu().numpy()


def train_whole(
    task: Task, model: FusionModel, images: WholeImages, labels: np.ndarray, is_train: np.ndarray, *,
    budget: Budget, seed: int, device: torch.device = torch.device("cpu"),
    log: Callable[[int, float, float], None] = lambda epoch, loss, score: None, max_epochs: int = 400, work: Path | None = None,
) -> float:  # fmt: skip
    """Train in place on the rows ``is_train``; keep the running mean of the weights whose likelihood was best on the others, and
    return its macro AUROC there. (AUROC itself chooses badly among models: with few validation cases it jumps. Likelihood is taken at
    its best temperature: without, an early model wins, since later ones are right more often but too sure.)

    In ``work`` lies how far a stopped training was, epoch by epoch: it goes on there and ends the same. Losses go to WORK/tensorboard.
    """
    torch.manual_seed(seed)
    budget.started = time.monotonic()
    y = torch.from_numpy(labels)
    train, val = np.flatnonzero(is_train), np.flatnonzero(~is_train)
    model.to(device)
    if any(m in SENSES for m in model.task_modalities):
        _fit_senses(model, images, train)
    optimiser = torch.optim.AdamW(model.parameters(), lr=PEAK, weight_decay=0.02, fused=True)
    mean = copy.deepcopy(model).eval()
    standing = _Standing(model, mean)
    resume = Resume(None if work is None else work / "whole.resume", every_s=0.0)
    step = resume.load(standing, optimiser, budget, device)
    size = BATCH if task.image_senses == ("US",) else BATCH // 2
    per_epoch = max(1, len(train) // size)
    mirror = "US" in task.modalities and task.modalities["US"].mirror
    shown = Scalars(None if work is None else work / "tensorboard" / "whole")

    def change(x: Tensor) -> Tensor:
        return augment(x, generator, mirror=mirror)

    for epoch in range(step // per_epoch, max_epochs):
        generator, rng = torch.Generator().manual_seed(seed * 100_003 + epoch), np.random.default_rng([seed, epoch])
        torch.manual_seed(seed * 100_003 + epoch)
        model.train()
        total = 0.0
        order = torch.from_numpy(train)[torch.randperm(len(train), generator=generator)]
        for index in order[: per_epoch * size].split(size):
            fraction = max(budget.fraction(step), step / (per_epoch * max_epochs))
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(PEAK, fraction)
            with autocast(device):
                batch = tokens_of(model, images, index, change=change, rng=rng)
                loss = batch_loss(model, batch, y[index].to(device), task.exclusive_indices, generator)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            step += 1
            total += float(loss.detach())
            _follow(mean, model, min(KEEP, (1 + step) / (10 + step)))
            if budget.fraction(step) >= 1:
                break
        logits = predict_whole(mean, images, val)
        cooled = torch.from_numpy(logits / fit_temperature(labels[val], logits))  # as it will be used
        loss_there = float(loss_of(cooled, y[val], task.exclusive_indices))
        score = finding_auroc(labels[val], logits)
        value = 0.5 if np.isnan(score).all() else float(np.nanmean(score))
        log(epoch, total / per_epoch, value)
        for name, number in (("loss", total / per_epoch), ("validation_loss", loss_there), ("validation_auroc", value)):
            shown.add(name, number, step)
        if loss_there <= float(standing.loss):
            standing.keep(loss_there, value)
        resume.save(standing, optimiser, budget, step)
        if budget.fraction(step) >= 1:
            break
    shown.close()
    resume.done()
    model.load_state_dict(standing.best.state_dict())
    model.to("cpu").eval()
    return float(standing.score)


class _Standing(nn.Module):
    """All that a training in whole images is made of at the end of an epoch: the weights, their running mean, and the best so far."""

    loss: Tensor
    score: Tensor

    def __init__(self, model: nn.Module, mean: nn.Module) -> None:
        super().__init__()
        self.model, self.mean, self.best = model, mean, copy.deepcopy(mean)
        self.register_buffer("loss", torch.tensor(float("inf")))
        self.register_buffer("score", torch.tensor(0.5))

    def keep(self, loss: float, score: float) -> None:
        self.loss.fill_(loss)
        self.score.fill_(score)
        self.best.load_state_dict(self.mean.state_dict())


def _fit_senses(model: FusionModel, images: WholeImages, train: np.ndarray) -> None:
    for m in (m for m in model.task_modalities if m in SENSES):
        batch = collate([images.said[i] for i in train.tolist()], (m,), model.sizes)[m]
        model.tokenisers[m].fit(*batch)  # type: ignore[operator]


@torch.no_grad()
def _follow(mean: nn.Module, model: nn.Module, keep: float) -> None:
    """Move the running mean towards the model; counters and other whole numbers are copied."""
    torch._foreach_lerp_(list(mean.parameters()), list(model.parameters()), 1 - keep)
    for a, b in zip(mean.buffers(), model.buffers(), strict=True):
        if a.is_floating_point():
            a.lerp_(b, 1 - keep)
        else:
            a.copy_(b)
