"""Stage 1: each encoder learns to segment organs and lesions, on lesion-centred and random crops."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import UserError
from ...learning import EncoderLearning
from ...modalities import is_cine
from ...models.encoders import build_encoder
from ...models.precision import training_autocast
from ...preprocess.beam import frame_channels
from ...task import ModalityTask, Task
from ..budget import Budget
from ..checkpoint import Resume
from ..data.tensors import load_input
from ..distributed import barrier, rank, world
from ..draws import Draws
from ..identity import Identity, weights_digest, written_whole
from ..keep import AllWeights
from ..loop import CPU, Plan, Stage, fit
from ..scalars import Scalars

Crops = tuple[Tensor, Tensor, Tensor]  # values (B, R, *S), present (B, R), classes (B, *S)
Report = Callable[[int, float, float], None]  # step, running mean of the loss, share of the budget spent

CROP = (40, 40, 24)
FRAMES = 8  # ultrasound frames a sample
BATCH = 3
OFF = 3  # voxels that are cut off a centred volume at most, at each side


def dense_loss(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Weighted cross-entropy plus soft Dice over the classes that occur. logits (B, K, *S), target (B,
    *S)."""
    logits = logits.float()
    ce = F.cross_entropy(logits, target, weight=weight)
    p = logits.softmax(1)
    one = F.one_hot(target, logits.shape[1]).movedim(-1, 1).to(p.dtype)
    axes = (0, *range(2, logits.ndim))
    overlap = (p * one).sum(axes)
    total = (p + one).sum(axes)
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
    """(K,) weight of each class in the likelihood, as the task says (`ClassWeights`)."""
    given = task.class_weights
    weight = torch.ones(len(task.dense))
    weight[0] = given.background
    weight[task.dense.index(task.organ)] = given.organ
    weight[task.lesion_indices] = given.lesion
    return weight


def jitter(
    values: np.ndarray, rng: np.random.Generator, how: EncoderLearning = EncoderLearning()
) -> np.ndarray:
    """Gain, offset and noise, apart for each channel. Never a left-right flip: sides mean something."""
    channels = (values.shape[0], *[1] * (values.ndim - 1))
    gain = rng.normal(1, how.gain, channels).astype(np.float32)
    offset = rng.normal(0, how.offset, channels).astype(np.float32)
    noise = rng.standard_normal(values.shape, dtype=np.float32) * rng.uniform(0, how.noise)
    return values * gain + offset + noise


def _crop_centre(dense: np.ndarray, task: Task, rng: np.random.Generator) -> np.ndarray:
    """(3,) voxel: seven in ten on a lesion, or where there is none on another small structure, two on the
    organ, else anywhere."""
    chance = rng.random()
    classes = [int(c) for c in np.unique(dense)]
    rare = [c for c in classes if c in task.lesion_indices]
    rare = rare or [c for c in classes if c in task.small_indices]
    if rare and chance < 0.7:
        at = np.argwhere(dense == rng.choice(rare))
        return at[rng.integers(len(at))] + rng.integers(-8, 9, 3)
    at = np.argwhere(dense == task.organ_index) if chance < 0.9 else np.zeros((0, 3), int)
    return at[rng.integers(len(at))] if len(at) else rng.integers(0, dense.shape)


def crop_volume(
    values: np.ndarray,
    present: np.ndarray,
    dense: np.ndarray,
    task: Task,
    rng: np.random.Generator,
    modality: str,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One training sample of a volume: (R, *CROP), (R,), (*CROP), or of the size of the task's window; seven
    in ten lie on a lesion, or where there is none on another small structure, two on the organ. What a window
    has beyond the volume is its mirror image, so that no border shows."""
    spec = task.modalities[modality]
    spatial = dense.shape
    crop = spec.window or CROP
    size = [min(c, s) for c, s in zip(crop, spatial, strict=True)]
    centre = _crop_centre(dense, task, rng)
    start = [int(np.clip(c - n // 2, 0, s - n)) for c, n, s in zip(centre, size, spatial, strict=True)]
    box = tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))
    keep = present & (rng.random(len(present)) < 0.8)
    if not keep.any():
        keep = present
    sample = values[(slice(None), *box)].astype(np.float32)
    pad = [(0, 0)] + [(0, c - n) for c, n in zip(crop, size, strict=True)]
    mode: Literal["constant", "symmetric"] = "constant" if spec.window is None else "symmetric"
    x = np.pad(jitter(sample, rng, task.learning), pad, mode)
    y = np.pad(dense[box], pad[1:], mode)
    if spec.mirror:
        axes = [a for a in range(3) if rng.random() < 0.5]
        x = np.flip(x, tuple(a + 1 for a in axes)).copy()
        y = np.flip(y, tuple(axes)).copy()
    return x, keep, y


def off_centre(
    values: np.ndarray,
    present: np.ndarray,
    dense: np.ndarray,
    rng: np.random.Generator,
    how: EncoderLearning = EncoderLearning(),
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A whole volume whose middle is moved: up to OFF voxels are cut off at each side, and each axis may be
    turned round."""
    cut = rng.integers(0, OFF + 1, (3, 2))
    box = tuple(slice(int(a), n - int(b)) for (a, b), n in zip(cut, dense.shape, strict=True))
    x = jitter(values[(slice(None), *box)].astype(np.float32), rng, how)
    axes = [a for a in range(3) if rng.random() < 0.5]
    x = np.flip(x, tuple(a + 1 for a in axes))
    y = np.flip(dense[box], tuple(axes))
    if rng.random() < 0.5:  # a limb may lie either way in the plane
        x, y = x.swapaxes(1, 2), y.swapaxes(0, 1)
    return x.copy(), present, y.copy()


def crop_cine(
    values: np.ndarray, dense: np.ndarray, task: Task, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """FRAMES frames: (F, C, S, S), (F, C), (F, S, S), C input channels as the task has them. Half of them
    show a small structure where the clip has any: a lesion, a stone, a duct, each kind that is there with
    one chance. With a ``crop`` of the task they are cut out around it, and the others anywhere; what lies
    along the beams is read from whole frames."""
    spec = task.modalities[task.cine]
    frames, around = _frames_shown(dense, task, rng)
    clean = values[frames].astype(np.float32)
    sample = frame_channels(clean, beam=spec.beam)
    sample[:, 0] = jitter(clean[None], rng, task.learning)[0]
    target = dense[frames]
    if spec.crop and spec.crop < values.shape[1]:
        boxes = [_box_around(t, kind, spec.crop, rng) for t, kind in zip(target, around, strict=True)]
        sample = np.stack([x[:, *box] for x, box in zip(sample, boxes, strict=True)])
        target = np.stack([t[box] for t, box in zip(target, boxes, strict=True)])
    return sample, np.ones(sample.shape[:2], bool), target


def _frames_shown(
    dense: np.ndarray, task: Task, rng: np.random.Generator
) -> tuple[list[int], list[int | None]]:
    """FRAMES frames of a clip, and the class that each was chosen for; None for those drawn blindly."""
    wanted = [*task.lesion_indices, *task.small_indices]
    kinds = [int(c) for c in np.unique(dense) if c in wanted]
    frames = [int(t) for t in rng.choice(len(dense), FRAMES, replace=len(dense) < FRAMES)]
    around: list[int | None] = [None] * FRAMES
    for n in range(FRAMES // 2 if kinds else 0):
        around[n] = int(rng.choice(kinds))
        shows = np.flatnonzero((dense == around[n]).any((1, 2)))
        left = [t for t in shows if t not in frames[:n]]
        frames[n] = int(rng.choice(left or list(shows)))
    return frames, around


def _box_around(
    dense: np.ndarray, kind: int | None, side: int, rng: np.random.Generator
) -> tuple[slice, slice]:
    """A square of a frame that holds a pixel of a class, not always in its middle; anywhere for None."""
    free = dense.shape[0] - side
    if kind is None:
        corner = rng.integers(0, free + 1, 2)
    else:
        at = np.argwhere(dense == kind)
        middle = at[rng.integers(len(at))] + rng.integers(-side // 4, side // 4 + 1, 2)
        corner = np.clip(middle - side // 2, 0, free)
    y, x = (int(c) for c in corner)
    return slice(y, y + side), slice(x, x + side)


@dataclass(frozen=True, kw_only=True)
class CropSource:
    """Where an encoder's crops come from: the inputs ``names`` (those with a label map) in ``folder``, drawn
    with ``seed``."""

    task: Task
    modality: str
    folder: Path
    names: list[str]
    seed: int

    @property
    def spec(self) -> ModalityTask:
        """How the task looks at the modality."""
        return self.task.modalities[self.modality]

    def samples(self, *, skip: int = 0) -> Iterator[Crops]:
        """Endless stream of batches; files are read two batches ahead in a thread. ``skip``: batches that an
        earlier run has had. Raises UserError where there are too few cases."""
        if len(self.names) < BATCH:
            raise UserError(
                f"{self.modality}: {len(self.names)} training images with a label map; {BATCH} are needed"
            )
        number = sorted(self.task.modalities).index(self.modality)
        master = np.random.default_rng([self.seed, number, rank()][: 2 if world() == 1 else 3])
        with ThreadPoolExecutor(2) as pool:
            waiting: list[Future[Crops]] = []
            while True:
                order = master.permutation(len(self.names))
                batch = 1 if self.spec.centred else BATCH  # whole volumes differ in size
                for i in range(0, len(order) - batch + 1, batch):
                    rngs = master.spawn(batch)
                    skip -= 1
                    if skip >= 0:
                        continue
                    names = [self.names[j] for j in order[i : i + batch]]
                    waiting.append(pool.submit(self._batch, names, rngs))
                    if len(waiting) > 3:
                        yield waiting.pop(0).result()

    def _one(self, name: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        values, present, dense = load_input(self.folder, name, len(self.spec.roles))
        if is_cine(self.modality):
            return crop_cine(values, dense, self.task, rng)
        if self.spec.centred:
            return off_centre(values, present, dense, rng, self.task.learning)
        return crop_volume(values, present, dense, self.task, rng, self.modality)

    def _batch(self, names: list[str], rngs: list[np.random.Generator]) -> Crops:
        parts = [self._one(n, r) for n, r in zip(names, rngs, strict=True)]
        join = np.concatenate if is_cine(self.modality) else np.stack
        x, present, y = (join([p[i] for p in parts]) for i in range(3))
        return torch.from_numpy(x).float(), torch.from_numpy(present), torch.from_numpy(y).long()


class DenseStage(Stage[Crops]):
    """An encoder and the crops it learns from."""

    plan = Plan(peak=3e-3, weight_decay=1e-4, clip=5.0)
    state: AllWeights

    def __init__(self, source: CropSource, encoder: nn.Module, log: Report, device: torch.device) -> None:
        self.name = f"encoder {source.modality}"
        self.plan = replace(DenseStage.plan, peak=source.task.learning.rate)
        self.source = source
        self.encoder = encoder
        self.state = AllWeights(encoder)
        self.draws = Draws(source.seed)
        self.log = log
        self.device = device
        self.weight = class_weights(source.task).to(device)

    def parameters(self) -> list[nn.Parameter]:
        """All of the encoder's."""
        return list(self.encoder.parameters())

    def batches(self, epoch: int, done: int) -> Iterator[Crops]:
        """Crops without end, those after ``done`` batches."""
        return self.source.samples(skip=done)

    def loss(self, batch: Crops, step: int) -> Tensor:
        """Likelihood and Dice of all classes, and of lesions apart."""
        x, present, y = (part.to(self.device) for part in batch)
        with training_autocast(self.device):
            logits, _, _ = self.encoder(x, present)
        lesions = self.source.task.lesion_indices
        return dense_loss(logits, y, self.weight) + lesion_loss(logits, y, lesions)

    def report(self, step: int, loss: float, fraction: float) -> None:
        """Hand the running mean on."""
        self.log(step, loss, fraction)


def train_encoder(
    source: CropSource,
    *,
    budget: Budget,
    device: torch.device = CPU,
    log: Report = lambda step, loss, fraction: None,
    checkpoint: Path | None = None,
    start: dict[str, Tensor] | None = None,
    thrifty: bool = False,
) -> nn.Module:
    """Train the encoder that the task names, from the weights ``start`` if given.

    checkpoint: where the weights go at the end; beside it lies how far a stopped training was, and it goes on
        there. ``thrifty``: activations are computed twice and not kept (gradient checkpointing), for large
        crops on small cards. Under torchrun every process calls this, and all return the same weights.
    """
    torch.manual_seed(source.seed)
    encoder = build_encoder(source.task, source.modality).to(device)
    if start is not None:
        encoder.load_state_dict(start)
    encoder.train()
    thrift = getattr(encoder, "save_memory", lambda on: None)  # an encoder of one's own may have none
    thrift(thrifty)
    made_from = encoder_identity(source, start)
    first = rank() == 0
    folder = None if checkpoint is None else checkpoint.parent / "tensorboard" / source.modality
    resume = Resume(None if checkpoint is None else checkpoint.with_suffix(".resume"), made_from)
    fit(
        DenseStage(source, encoder, log, device),
        budget,
        device=device,
        resume=resume,
        scalars=Scalars(folder),
    )
    thrift(False)
    if checkpoint is not None and first:
        weights = {k: v.detach().cpu().contiguous() for k, v in encoder.state_dict().items()}
        written_whole(checkpoint, lambda part: save_file(weights, part, made_from.metadata))
        resume.delete()
    barrier()
    return encoder.eval()


def encoder_identity(source: CropSource, start: dict[str, Tensor] | None) -> Identity:
    """What an encoder's weights are made from, but for how long."""
    spec = source.task.modalities[source.modality]
    weights = source.task.weights
    learning = source.task.learning
    return Identity.of(
        ({} if weights is None else {"the class weights": weights.model_dump()})
        | ({} if learning == EncoderLearning() else {"how encoders learn": learning.model_dump()})
        | {
            "the task's classes": [source.task.dense, source.task.lesion_classes, source.task.organ],
            "the task's settings of the modality": spec.model_dump(mode="json"),
            "the training images": [source.folder.name, source.names],
            "the seed": source.seed,
            "the first weights": weights_digest(start),
        }
    )
