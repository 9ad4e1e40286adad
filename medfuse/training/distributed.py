"""Several processes on one training, started by torchrun: each draws its own crops, gradients are averaged (DDP).

    torchrun --nproc-per-node 4 -m medfuse train TASK --manifest M --out BUNDLE

The first process preprocesses, logs, saves and does what follows the encoders; the others wait, or end with the encoders.
"""

from __future__ import annotations

import os
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn


def world() -> int:
    """How many processes torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
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
    if dist.is_initialized():
        dist.destroy_process_group()


def barrier() -> None:
    if dist.is_initialized():
        dist.barrier()


def agree(value: float, device: torch.device) -> float:
    """The first process's value everywhere: clocks differ, and all must stop at the same step."""
    if not dist.is_initialized():
        return value
    shared = torch.tensor([value], dtype=torch.float64 if device.type == "cpu" else torch.float32, device=device)
    dist.broadcast(shared, 0)
    return float(shared)


def shared(model: nn.Module, device: torch.device) -> nn.Module:
    """The model whose backward pass averages gradients over all processes; itself without torchrun."""
    if not dist.is_initialized():
        return model
    ids = [device.index] if device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(model, device_ids=ids)
