"""Stage 1 of all modalities: which encoder trains when, on what, and for how long."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors.torch import load_file
from torch import nn

from ...bundles.bundle import load_bundle, round_to_half
from ...errors import UserError, fault_of
from ...models.encoders import build_encoders
from ...task import Task
from ..budget import Budget
from ..data.tensors import Preprocessed, has_labels
from ..distributed import rank, start, world
from ..identity import opened
from ..options import Log, TrainOptions
from ..pool import spawned
from .dense import BATCH, CropSource, encoder_identity, train_encoder

TRY_STEPS = 8  # as many train here: a process of their own takes longer to start


def start_weights(bundle: str, task: Task) -> dict[str, dict[str, torch.Tensor]]:
    """Encoder weights of a bundle by modality, for training to start from. Raises UserError where none fits
    the task's encoders."""
    theirs = load_bundle(bundle).model.encoders
    ours = build_encoders(task)
    out = {}
    for m, encoder in ours.items():
        if m in theirs:
            shapes = [{k: v.shape for k, v in e.state_dict().items()} for e in (encoder, theirs[m])]
            if shapes[0] == shapes[1]:
                out[m] = theirs[m].state_dict()
    if not out:
        raise UserError(
            f"{bundle}: none of its encoders has the shape of one of task {task.name}; nothing can "
            "start from it"
        )
    return out


@dataclass
class EncoderJob:
    """One encoder's training: on which crops, for how long, from which weights, to which checkpoint."""

    source: CropSource
    budget: Budget
    threads: int
    checkpoint: Path
    first: dict[str, torch.Tensor] | None
    thrifty: bool

    @property
    def modality(self) -> str:
        """What the encoder sees."""
        return self.source.modality

    @property
    def done(self) -> bool:
        """Whether the checkpoint is there. Raises WrongUse for one that was made from something else."""
        if not self.checkpoint.exists():
            return False
        with opened(self.checkpoint, "pt") as file:
            made_from = file.metadata()
        encoder_identity(self.source, self.first).check(self.checkpoint, made_from)
        return True

    def run(self, device: torch.device, say: Log) -> float:
        """Train, note beside the checkpoint what it took, and return the last loss."""
        self.budget.started = time.monotonic()
        last = (0, 0.0)

        def talk(step: int, loss: float, fraction: float) -> None:
            nonlocal last
            last = step, loss
            say(f"{self.modality} step {step} loss {loss:.4f} spent {fraction:.2f}")

        train_encoder(
            self.source,
            budget=self.budget,
            device=device,
            log=talk,
            checkpoint=self.checkpoint,
            start=self.first,
            thrifty=self.thrifty,
        )
        if rank() == 0:
            _note_encoder(self.checkpoint, self.budget, *last)
        return last[1]


def _in_a_child(job: EncoderJob) -> tuple[str, float]:
    torch.set_num_threads(job.threads)
    with job.checkpoint.with_suffix(".log").open("a", buffering=1, encoding="utf-8") as f:
        return job.modality, job.run(torch.device("cpu"), lambda line: print(line, file=f))


class EncoderNote(BaseModel):
    """encoder_<modality>.json beside the checkpoint: for how long it was trained, for the model card.

    minutes: of training. steps: of the optimiser. last_loss: of the last step that was reported.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    minutes: float
    steps: int
    last_loss: float


def _note_encoder(checkpoint: Path, budget: Budget, steps: int, loss: float) -> None:
    minutes = round((time.monotonic() - budget.started) / 60, 1)
    note = EncoderNote(minutes=minutes, steps=steps, last_loss=round(loss, 3))
    checkpoint.with_suffix(".json").write_text(json.dumps(note.model_dump()), encoding="utf-8")


def encoder_note(work: Path, modality: str) -> EncoderNote | None:
    """What was noted of an encoder trained in ``work``; None where none was."""
    path = checkpoint_of(work, modality).with_suffix(".json")
    if not path.exists():
        return None
    try:
        return EncoderNote.model_validate_json(path.read_bytes())
    except ValidationError as e:
        raise UserError(f"{path}: is damaged ({fault_of(e)}); remove it to finish without it") from e


def checkpoint_of(work: Path, modality: str) -> Path:
    """Where the trained weights of an encoder lie."""
    return work / f"encoder_{modality}.safetensors"


def train_encoders(
    task: Task,
    folder: Path,
    entries: list[Preprocessed],
    options: TrainOptions,
    minutes: float,
    work: Path,
    log: Log,
) -> nn.ModuleDict:
    """All encoders: side by side on CPU cores, one after the other on a GPU, with torchrun, or for a try of a
    few steps. Finished checkpoints in ``work`` are reused if they were made from the same; else WrongUse
    names what differs."""
    a_try = 0 < (options.encoder_steps or 0) <= TRY_STEPS
    in_line = options.device != "cpu" or world() > 1 or a_try
    cores = os.cpu_count() or 1
    side_by_side = 1 if in_line else max(1, min(cores, len(task.own_senses)))
    every = _jobs(task, folder, entries, options, work)
    jobs = [job for job in every if _needs_training(job, log)]
    rounds = -(-len(task.own_senses) // side_by_side)
    for job in jobs:
        job.budget = Budget(
            minutes=None if options.encoder_steps else minutes / rounds, steps=options.encoder_steps
        )
        job.threads = max(1, cores // side_by_side)
    if in_line:
        device = start(torch.device(options.device))
        for job in jobs:
            job.run(device, log)
    elif jobs:
        with spawned(side_by_side) as pool:
            for m, loss in pool.map(_in_a_child, jobs):
                log(f"encoder {m}: trained, last loss {loss:.3f}")
    encoders = build_encoders(task)
    for job in every:
        if job.checkpoint.exists():
            encoders[job.modality].load_state_dict(load_file(job.checkpoint))
    round_to_half(encoders)
    return encoders.eval()


def _needs_training(job: EncoderJob, log: Log) -> bool:
    """Whether an encoder is not there yet and has images to learn from; else ``log`` is told why not."""
    if job.done:
        log(f"encoder {job.modality}: reusing {job.checkpoint}")
        return False
    if len(job.source.names) < BATCH:
        log(f"encoder {job.modality}: {len(job.source.names)} training images, left untrained")
        return False
    return True


def _jobs(
    task: Task, folder: Path, entries: list[Preprocessed], options: TrainOptions, work: Path
) -> list[EncoderJob]:
    """A job for each modality, done or not."""
    first = start_weights(options.start, task) if options.start else {}
    return [
        EncoderJob(
            source=CropSource(
                task=task,
                modality=m,
                folder=folder,
                names=[n for e in entries for n in e["files"].get(m, []) if has_labels(folder, n)],
                seed=options.seed,
            ),
            budget=Budget(steps=0),
            threads=1,
            checkpoint=checkpoint_of(work, m),
            first=first.get(m),
            thrifty=options.thrifty,
        )
        for m in task.own_senses
    ]
