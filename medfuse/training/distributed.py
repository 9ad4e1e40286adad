"""Several processes on one training, started by torchrun: each takes its share of every batch, gradients are
averaged.

    torchrun --nproc-per-node 4 -m medfuse train TASK --manifest M --out BUNDLE

Every stage of `loop` is shared. The first process preprocesses, logs and saves while the others wait, and
does alone what takes minutes at the end (baselines, calibration, the bundle).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn


def world() -> int:
    """How many processes torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """The number of this process, 0 without torchrun."""
    return int(os.environ.get("RANK", "0"))


def start(device: torch.device) -> torch.device:
    """Join the other processes; the device that this one computes on. Without torchrun nothing happens."""
    if world() == 1:
        return device
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        # the others wait while the first preprocesses
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timedelta(hours=12))
    return device


def finish() -> None:
    """Leave the other processes."""
    if dist.is_initialized():
        dist.destroy_process_group()


def barrier() -> None:
    """Wait until every process is here."""
    if dist.is_initialized():
        dist.barrier()


@contextmanager
def first_alone() -> Iterator[None]:
    """The first process does what stands inside; the others follow when it is done, and find what it left."""
    if rank() > 0:
        barrier()
    yield
    if rank() == 0:
        barrier()


def of_first(log: Callable[[str], None]) -> Callable[[str], None]:
    """``log`` in the first process; the others say nothing."""
    return log if rank() == 0 else lambda line: None


def agree(value: float, device: torch.device) -> float:
    """The first process's value everywhere: clocks differ, and all must stop at the same step."""
    if not dist.is_initialized():
        return value
    shared = torch.tensor(
        [value], dtype=torch.float64 if device.type == "cpu" else torch.float32, device=device
    )
    dist.broadcast(shared, 0)
    return float(shared)


def share(index: torch.Tensor) -> torch.Tensor:
    """This process's part of a batch's numbers (N,), never empty; all of them where one process trains."""
    if not dist.is_initialized():
        return index
    mine = index[dist.get_rank() :: dist.get_world_size()]
    return mine if len(mine) else index


def average_gradients(parameters: list[nn.Parameter]) -> None:
    """Replace each gradient by its mean over all processes, in one exchange; nothing without torchrun."""
    if not dist.is_initialized():
        return
    gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
    together = torch.cat([g.reshape(-1).float() for g in gradients])
    dist.all_reduce(together)
    together /= dist.get_world_size()
    for p, part in zip(parameters, together.split([g.numel() for g in gradients]), strict=True):
        p.grad = part.view_as(p).to(p.dtype)


def same_everywhere(tensors: Iterable[torch.Tensor]) -> None:
    """The first process's values (weights, running statistics) in every process, so that all keep the same
    model."""
    if dist.is_initialized():
        for tensor in tensors:
            dist.broadcast(tensor, 0)
