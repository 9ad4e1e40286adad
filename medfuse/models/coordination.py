"""Coordination: embeddings of different senses brought together on one unit sphere."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def siglip_loss(a: Tensor, b: Tensor, scale: Tensor, bias: Tensor, ignore: Tensor | None = None) -> Tensor:
    """Sigmoid loss of Zhai et al. 2023 (2303.15343). a, b (B, D) unit rows; row i of a belongs to row i of b.

    ignore (B, B) bool: off-diagonal pairs that are left out, such as two patients with the same findings.
    """
    logits = scale * a @ b.T + bias
    sign = 2 * torch.eye(len(a), device=a.device) - 1
    loss = -F.logsigmoid(sign * logits)
    if ignore is not None:
        eye = torch.eye(len(a), dtype=torch.bool, device=a.device)
        loss = torch.where(ignore & ~eye, torch.zeros_like(loss), loss)
    return loss.sum() / len(a)


def info_nce_loss(a: Tensor, b: Tensor, scale: Tensor, ignore: Tensor | None = None) -> Tensor:
    """Symmetric InfoNCE (van den Oord 2018; CLIP). Same arguments as `siglip_loss`."""
    logits = scale * a @ b.T
    if ignore is not None:
        eye = torch.eye(len(a), dtype=torch.bool, device=a.device)
        logits = logits.masked_fill(ignore & ~eye, float("-inf"))
    target = torch.arange(len(a), device=a.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def same_findings(labels: Tensor) -> Tensor:
    """(B, B) bool: pairs whose label vectors are equal."""
    return (labels[:, None] == labels[None]).all(-1)


class Projection(nn.Module):
    """A sense's own linear map onto the unit sphere."""

    def __init__(self, width: int, shared: int) -> None:
        super().__init__()
        self.map = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, shared))

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(self.map(x), dim=-1)
