"""What a person chooses of a training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Log = Callable[[str], None]


@dataclass(frozen=True)
class TrainOptions:
    minutes: float = 60.0
    seed: int = 1
    device: str = "cpu"
    fusion: str = "co"
    coordination: str = "siglip"
    text_model: Path | None = None  # folder of the user's own text transformer
    encoder_steps: int | None = None  # exact steps instead of minutes: repeatable bit by bit
    work: Path | None = None  # checkpoints and caches; default OUT.work
    start: str | None = None  # a bundle whose encoders are the first weights
    thrifty: bool = False  # gradient checkpointing
