"""What a person chooses of a training, what travels with it, and what comes out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from ..io.manifest import ManifestRow
from ..task import Task
from .budget import Budget
from .data.tensors import PreparedCases, Preprocessed

Log = Callable[[str], None]


@dataclass(frozen=True)
class TrainOptions:
    """How `medfuse train` trains."""

    minutes: float = 60.0
    seed: int = 1
    device: str = "cpu"
    fusion: str = "co"
    coordination: str = "siglip"
    text_model: Path | None = None  # folder of the user's own text transformer
    encoder_steps: int | None = None  # exact steps instead of minutes: repeatable bit by bit
    fusion_steps: int | None = None  # the same for the fusion and for each of its baselines
    work: Path | None = None  # checkpoints and caches; default OUT.work
    start: str | None = None  # a bundle whose encoders are the first weights
    thrifty: bool = False  # gradient checkpointing

    def fusion_budget(self, minutes: float) -> Budget:
        """How long a fusion or a baseline may train: ``fusion_steps`` where given, else ``minutes``."""
        return Budget(minutes=None if self.fusion_steps else minutes, steps=self.fusion_steps)


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """One call of `medfuse train`: what is trained on what. ``is_train`` (cases,) bool, ``started`` by
    time.monotonic, ``command`` as the card quotes it."""

    task: Task
    rows: list[ManifestRow]
    folder: Path
    entries: list[Preprocessed]
    is_train: np.ndarray
    out: Path
    options: TrainOptions
    work: Path
    started: float
    command: str
    log: Log

    @property
    def simulated(self) -> bool:
        """Whether no case is a real patient's."""
        return all(r.simulated for r in self.rows)

    @property
    def prepared(self) -> PreparedCases:
        """Its cases with their tensors."""
        return PreparedCases(rows=self.rows, folder=self.folder, entries=self.entries)

    def minutes_left(self) -> float:
        """Of the whole budget; below 0 where it is spent."""
        return self.options.minutes - (time.monotonic() - self.started) / 60


class Trained(TypedDict, total=False):
    """What a training gave: the bundle's folder, its validation scores, what its validated domain lacks, and
    how long it took. Empty in all but torchrun's first process."""

    bundle: str
    validation: dict[str, Any]
    notes: list[str]
    seconds: float
