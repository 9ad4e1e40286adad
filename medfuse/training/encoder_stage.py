"""Stage 1 of all modalities: which encoder trains when, on what, and for how long."""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import nn

from ..errors import UserError
from ..models.bundle import load_bundle, round_to_half
from ..models.encoders import build_encoders
from ..task import Task
from .budget import Budget
from .dense import train_encoder
from .distributed import rank, start, world
from .options import Log, TrainOptions


def start_weights(bundle: str, task: Task) -> dict[str, dict[str, torch.Tensor]]:
    """Encoder weights of a bundle by modality, for training to start from. Raises UserError where none fits the task's encoders."""
    theirs, ours = load_bundle(bundle).model.encoders, build_encoders(task)
    out = {}
    for m, encoder in ours.items():
        if m in theirs:
            shapes = [{k: v.shape for k, v in e.state_dict().items()} for e in (encoder, theirs[m])]
            if shapes[0] == shapes[1]:
                out[m] = theirs[m].state_dict()
    if not out:
        raise UserError(
            f"{bundle}: none of its encoders has the shape of one of task {task.name}; nothing can start from it"
        )
    return out


@dataclass
class EncoderJob:
    """One encoder's training: on which files, for how long, from which weights, to which checkpoint."""

    task: Task
    modality: str
    folder: Path
    names: list[str]
    budget: Budget
    seed: int
    threads: int
    checkpoint: Path
    first: dict[str, torch.Tensor] | None
    thrifty: bool

    def run(self, device: torch.device, say: Log) -> float:
        """Train, note beside the checkpoint what it took, and return the last loss."""
        self.budget.started = time.monotonic()
        last = (0, 0.0)

        def talk(step: int, loss: float, fraction: float) -> None:
            nonlocal last
            last = step, loss
            say(f"{self.modality} step {step} loss {loss:.4f} spent {fraction:.2f}")

        train_encoder(
            self.task, self.modality, self.folder, self.names, budget=self.budget, seed=self.seed, device=device,
            log=talk, checkpoint=self.checkpoint, start=self.first, thrifty=self.thrifty,
        )  # fmt: skip
        if rank() == 0:
            _note_encoder(self.checkpoint, self.budget, *last)
        return last[1]


def _in_a_child(job: EncoderJob) -> tuple[str, float]:
    torch.set_num_threads(job.threads)
    with job.checkpoint.with_suffix(".log").open("a", buffering=1) as f:
        return job.modality, job.run(torch.device("cpu"), lambda line: print(line, file=f))


def _note_encoder(checkpoint: Path, budget: Budget, steps: int, loss: float) -> None:
    """Beside the checkpoint: for how long it was trained, for the model card."""
    minutes = round((time.monotonic() - budget.started) / 60, 1)
    note = {"minutes": minutes, "steps": steps, "last_loss": round(loss, 3)}
    checkpoint.with_suffix(".json").write_text(json.dumps(note))


def train_encoders(
    task: Task, folder: Path, entries: list[dict], options: TrainOptions, minutes: float, work: Path, log: Log
) -> nn.ModuleDict:
    """All encoders: side by side on CPU cores, one after the other on a GPU or with torchrun. Finished checkpoints are reused."""
    jobs: list[EncoderJob] = []
    in_line = options.device != "cpu" or world() > 1
    cores = os.cpu_count() or 1
    side_by_side = 1 if in_line else max(1, min(cores, len(task.image_senses)))
    first = start_weights(options.start, task) if options.start else {}
    names_by = {m: [f for e in entries for f in e["files"].get(m, [])] for m in task.image_senses}
    rounds = -(-len(task.image_senses) // side_by_side)
    for m in task.image_senses:
        checkpoint = work / f"encoder_{m}.pt"
        if checkpoint.exists():
            log(f"encoder {m}: reusing {checkpoint}")
            continue
        if len(names_by[m]) < 2:
            log(f"encoder {m}: no training images, left untrained")
            continue
        budget = Budget(minutes=None if options.encoder_steps else minutes / rounds, steps=options.encoder_steps)
        threads = max(1, cores // side_by_side)
        jobs.append(
            EncoderJob(
                task, m, folder, names_by[m], budget, options.seed, threads, checkpoint, first.get(m), options.thrifty
            )
        )
    if in_line:
        device = start(torch.device(options.device))
        for job in jobs:
            job.run(device, log)
    elif jobs:
        with ProcessPoolExecutor(side_by_side, mp_context=get_context("spawn")) as pool:
            for m, loss in pool.map(_in_a_child, jobs):
                log(f"encoder {m}: trained, last loss {loss:.3f}")
    encoders = build_encoders(task)
    for m in task.image_senses:
        checkpoint = work / f"encoder_{m}.pt"
        if checkpoint.exists():
            encoders[m].load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True))
    round_to_half(encoders)
    return encoders.eval()
