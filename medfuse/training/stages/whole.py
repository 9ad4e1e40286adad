"""Tasks without label maps: encoder, fusion and findings learn together from the labels of whole images."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...bundles.calibration import fit_temperature
from ...evaluation.findings import finding_auroc
from ...models.features import CaseFeatures, collate
from ...models.model import FusionModel
from ...models.precision import training_autocast
from ...models.senses import SENSES
from ...task import Task
from ..budget import Budget
from ..checkpoint import Resume
from ..data.tensors import Preprocessed, load_input
from ..distributed import share
from ..draws import Draws
from ..identity import Identity, weights_digest
from ..keep import AllWeights
from ..loop import CPU, Plan, Stage, all_numbers, fit
from ..scalars import Scalars
from .dense import jitter
from .fusion import KL, TokenBatch, draw_use, kl_of_subset, masked_bce

Change = Callable[[Tensor], Tensor]  # of frames (B, 1, S, S)
Log = Callable[[int, float, float], None]  # epoch, loss, validation score

BATCH = 16
PEAK = 1e-3
SMOOTHING = 0.02
FRAMES = 1  # of each image in a training sample; all of them when it is scored
KEEP = 0.995  # of the running mean of the weights, which is what is kept
CUT = 0.12  # of each side of a volume, at most, that a training sample leaves out


@dataclass(frozen=True)
class Labelled:
    """labels (B, F) of 0, 1 and -1 (unknown), and which rows (B,) bool are for training; the others are for
    validation."""

    labels: np.ndarray
    is_train: np.ndarray

    @property
    def train(self) -> np.ndarray:
        """Numbers of the training rows."""
        return np.flatnonzero(self.is_train)

    @property
    def val(self) -> np.ndarray:
        """Numbers of the validation rows."""
        return np.flatnonzero(~self.is_train)


@dataclass
class WholeImages:
    """All cases of a manifest: ultrasound frames in memory, volumes read when they are needed, further senses
    as tokens."""

    task: Task
    folder: Path
    frames: list[Tensor]  # (T, 1, S, S) of each case; no frames where it has no ultrasound
    volumes: list[dict[str, list[str]]]  # by modality, the names of preprocessed volumes
    said: list[CaseFeatures]

    @classmethod
    def read(
        cls, task: Task, folder: Path, entries: list[Preprocessed], said: list[CaseFeatures] | None = None
    ) -> WholeImages:
        frames = []
        size = task.modalities[task.cine].size if task.cine else 8
        for e in entries:
            arrays = [load_input(folder, name, 1)[0] for name in e["files"].get(task.cine, [])]
            some = np.concatenate(arrays) if arrays else np.zeros((0, size, size), np.float16)
            frames.append(torch.from_numpy(some.astype(np.float32))[:, None])
        volumes = [{m: e["files"].get(m, []) for m in task.image_senses if m != task.cine} for e in entries]
        return cls(task, folder, frames, volumes, said or [CaseFeatures() for _ in entries])

    def volume(self, modality: str, name: str) -> tuple[np.ndarray, np.ndarray]:
        """values (R, X, Y, Z) float32, present (R,)."""
        values, present, _ = load_input(self.folder, name, len(self.task.modalities[modality].roles))
        return values.astype(np.float32), present


def augment(x: Tensor, generator: torch.Generator, *, mirror: bool) -> Tensor:
    """Frames (B, 1, S, S): a window of 0.6 to 1.1 of each, turned and stretched a little, with other gain and
    offset; mirror images if allowed."""
    n = len(x)

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(n, generator=generator) * (high - low) + low

    angle = uniform(-0.3, 0.3)
    zoom = uniform(0.6, 1.1)
    stretch = uniform(-0.15, 0.15).exp()
    flip = torch.where((torch.rand(n, generator=generator) < 0.5) & mirror, -1.0, 1.0)
    room = (1.05 - zoom).clamp_min(0.05)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0] = zoom * stretch * angle.cos() * flip
    theta[:, 0, 1] = -zoom * angle.sin()
    theta[:, 1, 0] = zoom * angle.sin() * flip
    theta[:, 1, 1] = zoom / stretch * angle.cos()
    theta[:, :, 2] = torch.stack([uniform(-1, 1) * room, uniform(-1, 1) * room], 1)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    y = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    return y * uniform(0.8, 1.25)[:, None, None, None] + uniform(-0.25, 0.25)[:, None, None, None]


def cut_volume(
    values: np.ndarray, present: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A training sample of a volume: its sides cut a little, gain, offset and noise, some roles left out.
    Never a mirror image."""
    box = []
    for n in values.shape[1:]:
        most = int(CUT * n)
        a, b = rng.integers(0, most + 1, 2)
        box.append(slice(int(a), n - int(b)) if n - a - b >= 32 else slice(0, n))
    keep = present & (rng.random(len(present)) < 0.85)
    return jitter(values[(slice(None), *box)], rng), keep if keep.any() else present


def _frame_tokens(
    model: FusionModel, cine: str, some: list[Tensor], device: torch.device, change: Change | None
) -> list[Tensor]:
    """(T · tokens, C) of each case; all frames of the batch pass at once."""
    if change is not None:
        some = [f[torch.randint(0, len(f), (FRAMES,))] if len(f) else f for f in some]
    every = torch.cat(some)
    if not len(every):
        return [torch.zeros(0, model.sizes[cine], device=device) for _ in some]
    encoded = model.encoders[cine]((change(every) if change is not None else every).to(device)).float()
    return [part.flatten(0, 1) for part in encoded.split([len(f) for f in some])]


def tokens_of(
    model: FusionModel,
    images: WholeImages,
    index: Tensor,
    *,
    change: Change | None = None,
    rng: np.random.Generator | None = None,
) -> TokenBatch:
    """Token batch of the cases ``index``; ``change`` augments frames and draws FRAMES of each case, ``rng``
    augments volumes."""
    batch = {}
    device = next(model.parameters()).device
    cases = index.tolist()
    for m in model.sizes:
        if m in SENSES or m not in model.task_modalities:  # said of the case, or by an encoder from disk
            batch[m] = tuple(
                t.to(device) for t in collate([images.said[i] for i in cases], (m,), model.sizes)[m]
            )
            continue
        if m == images.task.cine:
            rows = _frame_tokens(model, m, [images.frames[i] for i in cases], device, change)
        else:
            rows = []
            for i in cases:
                parts = [torch.zeros(0, model.sizes[m], device=device)]
                for name in images.volumes[i][m]:
                    values, present = images.volume(m, name)
                    if rng is not None:
                        values, present = cut_volume(values, present, rng)
                    x = torch.from_numpy(values)[None].to(device)
                    p = torch.from_numpy(present)[None].to(device)
                    parts.append(model.encoders[m](x, p)[0].float())
                rows.append(torch.cat(parts))
        features = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        if features.shape[1] == 0:
            features = features.new_zeros(len(rows), 1, model.sizes[m])
        mask = torch.arange(features.shape[1], device=device) < torch.tensor(
            [[len(r)] for r in rows], device=device
        )
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


def batch_loss(
    model: FusionModel, batch: dict, y: Tensor, exclusive: list[int], generator: torch.Generator
) -> Tensor:
    """All senses, and with several a random subset too, which should say what all of them say as far as it
    can."""
    full = model(batch).logits.float()
    loss = loss_of(full, y, exclusive)
    if len(model.task_modalities) > 1:
        use = {m: u.to(y.device) for m, u in draw_use(model.task_modalities, len(y), generator).items()}
        part = model(batch, use).logits.float()
        apart = kl_of_subset(part, full)
        loss = loss + loss_of(part, y, exclusive) + KL * apart
    return loss


@torch.no_grad()
def predict_whole(model: FusionModel, images: WholeImages, index: np.ndarray) -> np.ndarray:
    """(n, findings) logits of the cases ``index`` from every frame and volume."""
    model.eval()
    parts = torch.from_numpy(index).split(BATCH)
    return torch.cat([model(tokens_of(model, images, i)).logits for i in parts]).float().cpu().numpy()


@dataclass(frozen=True, kw_only=True)
class WholeTraining:
    """How a training in whole images goes. seed: of every draw. max_epochs: at most. log: told the epoch, its
    loss and the validation score."""

    seed: int
    max_epochs: int = 400
    log: Log = lambda epoch, loss, score: None


class WholeStage(Stage[Tensor]):
    """A whole model on the images themselves. What is kept is the running mean of its weights, as it was
    when its likelihood on the validation cases was best.

    (AUROC itself chooses badly among models: with few validation cases it jumps. Likelihood is taken at its
    best temperature: without, an early model wins, since later ones are right more often but too sure.)
    """

    name = "whole images"
    state: AllWeights

    def __init__(self, model: FusionModel, images: WholeImages, data: Labelled, how: WholeTraining) -> None:
        self.model = model
        self.images = images
        self.data = data
        self.how = how
        self.y = torch.from_numpy(data.labels)
        self.standing = _Standing(model)
        self.state = AllWeights(self.standing)
        self.draws = Draws(how.seed)
        task = images.task
        self.size = BATCH if task.image_senses == (task.cine,) else BATCH // 2
        self.plan = Plan(
            peak=PEAK,
            weight_decay=0.02,
            per_epoch=max(1, len(data.train) // self.size),
            max_epochs=how.max_epochs,
        )
        self.mirror = bool(task.cine) and task.modalities[task.cine].mirror

    def parameters(self) -> list[nn.Parameter]:
        """All of the model's."""
        return list(self.model.parameters())

    def begin(self, epoch: int) -> None:
        """Each epoch has random numbers of its own."""
        self.draws.reseed(self.how.seed, epoch)
        self.model.train()

    def batches(self, epoch: int, done: int) -> Iterator[Tensor]:
        """Numbers of cases, in a new order; a last part that fills no batch is left out."""
        train = torch.from_numpy(self.data.train)
        order = train[torch.randperm(len(train), generator=self.draws.order)]
        for index in order[: (self.plan.per_epoch or 1) * self.size].split(self.size):
            yield share(index)

    def loss(self, batch: Tensor, step: int) -> Tensor:
        """Of all senses and of a random subset, on changed images."""

        def change(x: Tensor) -> Tensor:
            return augment(x, self.draws.torch, mirror=self.mirror)

        device = next(self.model.parameters()).device
        with training_autocast(device):
            tokens = tokens_of(self.model, self.images, batch, change=change, rng=self.draws.numpy)
            return batch_loss(
                self.model,
                tokens,
                self.y[batch].to(device),
                self.images.task.exclusive_indices,
                self.draws.torch,
            )

    def after_step(self, step: int) -> None:
        """The running mean follows."""
        _follow(self.standing.mean, self.model, min(KEEP, (1 + step) / (10 + step)))

    def score(self, epoch: int, loss: float) -> dict[str, float]:
        """Likelihood and macro AUROC of the running mean on the validation cases."""
        val = self.data.val
        labels = self.data.labels[val]
        logits = predict_whole(self.standing.mean, self.images, val)
        if not np.isfinite(logits).all():
            return {"validation_loss": float("nan")}
        cooled = torch.from_numpy(logits / fit_temperature(labels, logits))  # as it will be used
        likelihood = float(loss_of(cooled, self.y[val], self.images.task.exclusive_indices))
        auroc = finding_auroc(labels, logits)
        value = 0.5 if np.isnan(auroc).all() else float(np.nanmean(auroc))
        self.how.log(epoch, loss, value)
        if likelihood <= float(self.standing.loss):
            self.standing.keep(likelihood, value)
        return {"validation_loss": likelihood, "validation_auroc": value}


def train_whole(
    model: FusionModel,
    images: WholeImages,
    data: Labelled,
    *,
    budget: Budget,
    how: WholeTraining,
    device: torch.device = CPU,
    work: Path | None = None,
) -> float:
    """Train in place, keep the best running mean of the weights (see `WholeStage`), and return its macro
    AUROC on the validation cases.

    In ``work`` lies how far a stopped training was, epoch by epoch: it goes on there and ends the same.
    Losses go to WORK/tensorboard.
    """
    torch.manual_seed(how.seed)
    budget.started = time.monotonic()
    model.to(device)
    _fit_given(model, images, data.train)
    stage = WholeStage(model, images, data, how)
    made_from = Identity.of(
        {
            "the task": images.task.model_dump(mode="json"),
            "the model": asdict(model.config),
            "the images": [images.folder.name, images.volumes, [len(f) for f in images.frames]],
            "the cases and their labels": [data.labels.tolist(), data.train.tolist()],
            "the seed": how.seed,
            "the first weights": weights_digest(model.state_dict()),
        }
    )
    resume = Resume(None if work is None else work / "whole.resume", made_from, every_s=0.0)
    scalars = Scalars(None if work is None else work / "tensorboard" / "whole")
    fit(stage, budget, device=device, resume=resume, scalars=scalars)
    resume.delete()
    model.load_state_dict(stage.standing.best.state_dict())
    model.to("cpu").eval()
    return float(stage.standing.score)


class _Standing(nn.Module):
    """All that a training in whole images is made of at the end of an epoch: the weights, their running mean,
    and the best so far."""

    loss: Tensor
    score: Tensor

    def __init__(self, model: FusionModel) -> None:
        super().__init__()
        self.model = model
        self.mean = copy.deepcopy(model).eval()
        self.best = copy.deepcopy(self.mean)
        self.register_buffer("loss", torch.tensor(float("inf")))
        self.register_buffer("score", torch.tensor(0.5))

    def keep(self, loss: float, score: float) -> None:
        self.loss.fill_(loss)
        self.score.fill_(score)
        self.best.load_state_dict(self.mean.state_dict())


def _fit_given(model: FusionModel, images: WholeImages, train: np.ndarray) -> None:
    """Standardise what no encoder of the model makes: further senses, tokens of encoders from disk."""
    for m in (m for m in model.sizes if m in SENSES or m not in model.task_modalities):
        batch = collate([images.said[i] for i in train.tolist()], (m,), model.sizes)[m]
        if batch[1].any():
            all_numbers(WholeStage.name, {m: batch})
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
