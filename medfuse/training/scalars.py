"""Losses and scores for TensorBoard, where it is installed (extra ``tensorboard``): `tensorboard --logdir
WORK/tensorboard`."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from .distributed import rank


class Scalars:
    """Writes nothing where there is no folder or no TensorBoard, nor in torchrun's further processes."""

    def __init__(self, folder: Path | None) -> None:
        self.writer = None
        if folder is not None and rank() == 0 and importlib.util.find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(folder))

    def add(self, name: str, value: float, step: int) -> None:
        if self.writer is not None:
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
