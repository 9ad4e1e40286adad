"""Stage 1: each encoder learns to segment organs and lesions, on lesion-centred and random crops."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..models.encoders import DenseEncoder
from ..models.precision import autocast
from ..task import Task
from .budget import Budget, learning_rate
from .checkpoint import Resume
from .data import load_input
from .distributed import agree, barrier, rank, shared, world
from .scalars import Scalars

CROP = (40, 40, 24)
FRAMES = 8  # ultrasound frames a sample
BATCH = 3


def dense_loss(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Weighted cross-entropy plus soft Dice over the classes that occur. logits (B, K, *S), target (B, *S)."""
    logits = logits.float()
    ce = F.cross_entropy(logits, target, weight=weight)
    p = logits.softmax(1)
    one = F.one_hot(target, logits.shape[1]).movedim(-1, 1).to(p.dtype)
    axes = (0, *range(2, logits.ndim))
    overlap, total = (p * one).sum(axes), (p + one).sum(axes)
    there = one.sum(axes) > 0
    there[0] = False
    dice = 1 - (2 * overlap + 1) / (total + 1)
    return ce + (dice * there).sum() / there.sum().clamp_min(1)


def lesion_loss(logits: Tensor, target: Tensor, lesions: list[int]) -> Tensor:
    """Lesions are a hundredth of the voxels: found first as one class (likelihood and Dice), then told apart.

    logits (B, K, *S), target (B, *S). Zero-lesion crops only learn to stay silent.
    """
    log_p = logits.float().log_softmax(1)
    log_lesion = log_p[:, lesions].logsumexp(1)
    p = log_lesion.exp()
    truth = torch.isin(target, torch.tensor(lesions, device=target.device))
    quiet = -torch.log1p(-p.clamp_max(0.9999))[~truth].mean()
    if not truth.any():
        return quiet
    found = -log_lesion[truth].mean()
    dice = 1 - (2 * p[truth].sum() + 1) / (p.sum() + truth.sum() + 1)
    index = torch.zeros(logits.shape[1], dtype=torch.long, device=target.device)
    index[lesions] = torch.arange(len(lesions), device=target.device)
    inside = logits.float()[:, lesions].movedim(1, -1)[truth]
    return quiet + 0.3 * found + dice + 0.5 * F.cross_entropy(inside, index[target[truth]])


def class_weights(task: Task) -> Tensor:
    weight = torch.ones(len(task.dense))
    weight[0], weight[task.dense.index(task.organ)] = 0.15, 0.4
    weight[task.lesion_indices] = 2.0
    return weight


def jitter(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gain, offset and noise, apart for each channel. Never a left-right flip: sides mean something."""
    channels = (values.shape[0], *[1] * (values.ndim - 1))
    gain = rng.normal(1, 0.08, channels).astype(np.float32)
    offset = rng.normal(0, 0.08, channels).astype(np.float32)
    noise = rng.standard_normal(values.shape, dtype=np.float32) * rng.uniform(0, 0.12)
    return values * gain + offset + noise


def crop_volume(values, present, dense, lesions: list[int], rng: np.random.Generator):
    """One training sample of a volume: (R, *CROP), (R,), (*CROP); half the crops lie on a small structure."""
    spatial = dense.shape
    size = [min(c, s) for c, s in zip(CROP, spatial, strict=True)]
    chance = rng.random()
    classes = [int(c) for c in np.unique(dense)]
    rare = [c for c in classes if c in lesions] or [c for c in classes if c >= 6]
    rare = rare if chance < 0.7 else []
    if rare:
        at = np.argwhere(dense == rng.choice(rare))
        centre = at[rng.integers(len(at))] + rng.integers(-8, 9, 3)
    else:
        at = np.argwhere(dense == 1) if chance < 0.9 else np.zeros((0, 3), int)
        centre = at[rng.integers(len(at))] if len(at) else rng.integers(0, spatial)
    start = [int(np.clip(c - n // 2, 0, s - n)) for c, n, s in zip(centre, size, spatial, strict=True)]
    box = tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))
    keep = present & (rng.random(len(present)) < 0.8)
    if not keep.any():
        keep = present
    sample = values[(slice(None), *box)].astype(np.float32)
    pad = [(0, 0)] + [(0, c - n) for c, n in zip(CROP, size, strict=True)]
    return np.pad(jitter(sample, rng), pad), keep, np.pad(dense[box], pad[1:])


def crop_cine(values, dense, lesions: list[int], rng: np.random.Generator):
    """FRAMES frames, half of them with a lesion where the clip has any: (F, 1, S, S), (F, 1), (F, S, S)."""
    shows = np.flatnonzero(np.isin(dense, lesions).any((1, 2)))
    n = min(FRAMES // 2, len(shows))
    pick = list(rng.choice(shows, n, replace=False)) if n else []
    pick += list(rng.choice(len(values), FRAMES - n, replace=len(values) < FRAMES))
    sample = jitter(values[pick].astype(np.float32)[None], rng)[0]
    return sample[:, None], np.ones((len(pick), 1), bool), dense[pick]


def _samples(task: Task, modality: str, folder: Path, names: list[str], seed: int, *, skip: int = 0) -> Iterator[tuple]:
    """Endless stream of batches; files are read two batches ahead in a thread. ``skip``: batches that an earlier run has had."""
    roles = len(task.modalities[modality].roles)
    master = np.random.default_rng([seed, sorted(task.modalities).index(modality), rank()][: 2 if world() == 1 else 3])

    def one(name: str, rng: np.random.Generator):
        values, present, dense = load_input(folder, name, roles)
        if modality == "US":
            return crop_cine(values, dense, task.lesion_indices, rng)
        return crop_volume(values, present, dense, task.lesion_indices, rng)

    def batch(order: list[str], rngs: list):
        parts = [one(n, r) for n, r in zip(order, rngs, strict=True)]
        join = np.concatenate if modality == "US" else np.stack
        x, present, y = (join([p[i] for p in parts]) for i in range(3))
        return torch.from_numpy(x).float(), torch.from_numpy(present), torch.from_numpy(y).long()

    with ThreadPoolExecutor(2) as pool:
        waiting: list = []
        while True:
            order = master.permutation(len(names))
            for i in range(0, len(order) - BATCH + 1, BATCH):
                rngs = master.spawn(BATCH)
                skip -= 1
                if skip >= 0:
                    continue
                waiting.append(pool.submit(batch, [names[j] for j in order[i : i + BATCH]], rngs))
                if len(waiting) > 3:
                    yield waiting.pop(0).result()
            if len(order) < BATCH:
                raise ValueError("too few cases to train on")


def train_encoder(
    task: Task,
    modality: str,
    folder: Path,
    names: list[str],
    *,
    budget: Budget,
    seed: int,
    device: torch.device,
    log: Callable[[int, float, float], None],
    checkpoint: Path | None = None,
    start: dict[str, Tensor] | None = None,
    thrifty: bool = False,
) -> DenseEncoder:
    """Train one encoder on the inputs ``names`` (those with a label map), from the weights ``start`` if given.

    checkpoint: where the weights go at the end; beside it lies how far a stopped training was, and it goes on there. ``thrifty``:
    activations are computed twice and not kept (gradient checkpointing), for large crops on small cards. Under torchrun every
    process calls this, and all return the same weights.
    """
    torch.manual_seed(seed)
    spec = task.modalities[modality]
    encoder = DenseEncoder(
        dims=2 if modality == "US" else 3,
        roles=len(spec.roles),
        classes=len(task.dense),
        filters=spec.filters,
    ).to(device)
    if start is not None:
        encoder.load_state_dict(start)
    optimiser = torch.optim.AdamW(encoder.parameters(), lr=3e-3, weight_decay=1e-4)
    weight = class_weights(task).to(device)
    encoder.train()
    encoder.save_memory(thrifty)
    resume = Resume(None if checkpoint is None else checkpoint.with_suffix(".resume"))
    begun = resume.load(encoder, optimiser, budget, device)
    average = None
    model, first = shared(encoder, device), rank() == 0
    scalars = Scalars(checkpoint.parent / "tensorboard" / modality if checkpoint is not None and first else None)
    for step, (x, present, y) in enumerate(_samples(task, modality, folder, names, seed, skip=begun), begun):
        fraction = agree(budget.fraction(step), device)
        if fraction >= 1:
            break
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(3e-3, fraction)
        with autocast(device):
            logits, _, _ = model(x.to(device), present.to(device))
        y = y.to(device)
        loss = dense_loss(logits, y, weight) + lesion_loss(logits, y, task.lesion_indices)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(encoder.parameters(), 5.0)
        optimiser.step()
        value = float(loss.detach())
        average = value if average is None else 0.98 * average + 0.02 * value
        if step % 50 == 49 and first:
            log(step + 1, average, fraction)
            scalars.add("loss", average, step + 1)
        if first:
            resume.save(encoder, optimiser, budget, step + 1)
    scalars.close()
    encoder.save_memory(False)
    if checkpoint is not None and first:
        torch.save(encoder.state_dict(), checkpoint)
        resume.done()
    barrier()
    return encoder.eval()
