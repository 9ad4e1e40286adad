"""Coordination: embeddings of different senses brought together on one unit sphere."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor, nn
from torch.nn import functional as F


def siglip_loss(
    a: Float[Tensor, "b d"],
    b: Float[Tensor, "b d"],
    scale: Tensor,
    bias: Tensor,
    ignore: Bool[Tensor, "b b"] | None = None,
) -> Float[Tensor, ""]:
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


def info_nce_loss(
    a: Float[Tensor, "b d"], b: Float[Tensor, "b d"], scale: Tensor, ignore: Bool[Tensor, "b b"] | None = None
) -> Float[Tensor, ""]:
    """Symmetric InfoNCE (van den Oord 2018; CLIP). Same arguments as `siglip_loss`."""
    logits = scale * a @ b.T
    if ignore is not None:
        eye = torch.eye(len(a), dtype=torch.bool, device=a.device)
        logits = logits.masked_fill(ignore & ~eye, float("-inf"))
    target = torch.arange(len(a), device=a.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def _info_nce(a: Tensor, b: Tensor, scale: Tensor, bias: Tensor, ignore: Tensor | None = None) -> Tensor:
    """Symmetric InfoNCE (van den Oord 2018; CLIP), which has no use for a bias."""
    return info_nce_loss(a, b, scale, ignore)


# by name: (a, b, scale, bias, ignore) → loss
OBJECTIVES = {"siglip": siglip_loss, "infonce": _info_nce}


def same_findings(labels: Num[Tensor, "b f"]) -> Bool[Tensor, "b b"]:
    """(B, B) bool: pairs whose label vectors are equal."""
    return (labels[:, None] == labels[None]).all(-1)


def near_findings(labels: Num[Tensor, "b f"], up: Bool[Tensor, "f c"]) -> Bool[Tensor, "b b"]:
    """(B, B) bool: pairs that are the same one step up a knowledge graph, such as a simple and a septated
    cyst (both cystic), and where the same is unknown (-1). up (F, C): what each finding is in one step."""
    wide = (labels == 1).float() @ up.float() > 0
    return same_findings(wide) & same_findings(labels < 0)


@dataclass(frozen=True)
class LinearCCA:
    """Two linear maps whose outputs agree most (Hotelling 1936): no training loop, the yardstick for learned
    coordination.

    a, b: (D, K) maps of the two senses, mean_a, mean_b: their means; correlation (K,): of each pair of
        coordinates.
    """

    a: Tensor
    b: Tensor
    mean_a: Tensor
    mean_b: Tensor
    correlation: Tensor

    @staticmethod
    def fit(x: Float[Tensor, "n d"], y: Float[Tensor, "n e"], k: int, ridge: float = 0.0) -> LinearCCA:
        """x (N, D), y (N, E), row i of one belongs to row i of the other; ``ridge`` is added to both
        covariances."""
        mean_a = x.mean(0)
        mean_b = y.mean(0)
        xc = (x - mean_a).double()
        yc = (y - mean_b).double()
        whiten_x = _whitener(xc, ridge)
        whiten_y = _whitener(yc, ridge)
        u, s, vt = torch.linalg.svd(whiten_x.T @ (xc.T @ yc / (len(x) - 1)) @ whiten_y)
        return LinearCCA(
            (whiten_x @ u[:, :k]).float(),
            (whiten_y @ vt[:k].T).float(),
            mean_a.float(),
            mean_b.float(),
            s[:k].float(),
        )

    def embed_a(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        """(N, K) rows on the unit sphere, each coordinate weighted by how far it can be trusted."""
        return F.normalize((x - self.mean_a) @ self.a * self.correlation, dim=-1)

    def embed_b(self, y: Float[Tensor, "n e"]) -> Float[Tensor, "n k"]:
        """As `embed_a`, for the other side."""
        return F.normalize((y - self.mean_b) @ self.b * self.correlation, dim=-1)


def _whitener(centred: Tensor, ridge: float) -> Tensor:
    """W with Wᵀ C W = 1 for the covariance C; directions without variance are left out."""
    covariance = centred.T @ centred / (len(centred) - 1)
    values, vectors = torch.linalg.eigh(
        covariance + ridge * torch.eye(len(covariance), dtype=covariance.dtype)
    )
    keep = values > 1e-10 * values.max()
    return vectors[:, keep] / values[keep].sqrt()


class Projection(nn.Module):
    """A sense's own linear map onto the unit sphere."""

    def __init__(self, width: int, shared: int) -> None:
        super().__init__()
        self.map = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, shared))

    def forward(self, x: Float[Tensor, "b w"]) -> Float[Tensor, "b s"]:
        """(B, W) → (B, S) unit rows."""
        return F.normalize(self.map(x), dim=-1)
