"""Tokens: what one modality says about one batch of cases, with a mask and places."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn


@dataclass
class Tokens:
    """x (B, N, D); mask (B, N) True where a token exists. A modality that is absent has an all-False mask."""

    x: Float[Tensor, "b n d"]
    mask: Bool[Tensor, "b n"]

    @property
    def present(self) -> Bool[Tensor, " b"]:
        """(B,) bool."""
        return self.mask.any(1)


def joined(parts: list[Tokens]) -> Tokens:
    """The tokens of several encoders as those of one modality."""
    return Tokens(torch.cat([t.x for t in parts], 1), torch.cat([t.mask for t in parts], 1))


class RegionTokens(nn.Module):
    """Region features (B, N, F) → Tokens: standardise, project, add what kind of region it is.

    The standardisation is that of the training set (buffers, set once). Features of absent tokens are
    replaced by zero before anything reads them, so that noise there changes nothing and their gradient is
    exactly 0.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, features: int, kinds: int, width: int, dropout: float) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.project = nn.Sequential(
            nn.Linear(features, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, width)
        )
        self.kind = nn.Embedding(kinds + 1, width)
        self.norm = nn.LayerNorm(width)

    def fit(
        self, features: Float[Tensor, "b n f"], mask: Bool[Tensor, "b n"], kind: Int64[Tensor, "b n"]
    ) -> None:
        """Set the standardisation from all valid regions of the training set; fewer than two leave it as it
        is."""
        rows = features[mask]
        if len(rows) < 2:
            return
        self.mean.copy_(rows.mean(0))
        self.scale.copy_(rows.std(0).clamp_min(1e-3))

    def spread(self, kind: Int64[Tensor, "b n"]) -> Float[Tensor, ...]:
        """Standard deviation of the features, broadcastable to (B, N, F): how strong noise on them is to
        be."""
        return self.scale

    def forward(
        self, features: Float[Tensor, "b n f"], mask: Bool[Tensor, "b n"], kind: Int64[Tensor, "b n"]
    ) -> Tokens:
        """Tokens of the cases of a batch; absent ones are exactly zero."""
        features = torch.where(mask[..., None], features, torch.zeros_like(features))
        z = ((features - self.mean) / self.scale).clamp(-8, 8)
        x = self.norm(self.project(z) + self.kind(kind))
        return Tokens(torch.where(mask[..., None], x, torch.zeros_like(x)), mask)


class KindTokens(nn.Module):
    """Values (B, N, F) whose meaning hangs on their kind (a laboratory analyte, a word) → Tokens,
    standardised kind by kind.

    Kinds that the training set had fewer than SEEN times are left out: nothing was learned of them.
    """

    mean: Tensor
    scale: Tensor
    seen: Tensor
    SEEN = 5

    def __init__(self, features: int, kinds: int, width: int, dropout: float) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(kinds, features))
        self.register_buffer("scale", torch.ones(kinds, features))
        self.register_buffer("seen", torch.zeros(kinds, dtype=torch.bool))
        self.project = nn.Sequential(
            nn.Linear(features, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, width)
        )
        self.kind = nn.Embedding(kinds, width)
        self.norm = nn.LayerNorm(width)

    def fit(
        self, features: Float[Tensor, "b n f"], mask: Bool[Tensor, "b n"], kind: Int64[Tensor, "b n"]
    ) -> None:
        """Set the standardisation of each kind from all valid values of the training set."""
        self.seen.zero_()
        for k in kind[mask].unique().tolist():
            rows = features[mask & (kind == k)]
            if len(rows) >= self.SEEN:
                self.seen[k] = True
                self.mean[k] = rows.mean(0)
                self.scale[k] = rows.std(0).clamp_min(1e-3)

    def spread(self, kind: Int64[Tensor, "b n"]) -> Float[Tensor, ...]:
        """Standard deviation of the features by kind, (B, N, F)."""
        return self.scale[kind]

    def forward(
        self, features: Float[Tensor, "b n f"], mask: Bool[Tensor, "b n"], kind: Int64[Tensor, "b n"]
    ) -> Tokens:
        """Tokens of the cases of a batch; absent ones are exactly zero."""
        mask = mask & self.seen[kind]
        features = torch.where(mask[..., None], features, torch.zeros_like(features))
        z = ((features - self.mean[kind]) / self.scale[kind]).clamp(-8, 8)
        x = self.norm(self.project(z) + self.kind(kind))
        return Tokens(torch.where(mask[..., None], x, torch.zeros_like(x)), mask)


class CineTokens(nn.Module):
    """Frame-wise region tokens of a cine → at most K tokens: attention over time, one learned query a region
    kind.

    Input features (B, N, F) of all regions of all frames, in any order. Output: one token for each kind in
    ``pooled`` (time attention over its frames) and the ``keep`` largest lesion candidates as they are.
    """

    def __init__(
        self,
        features: int,
        kinds: int,
        width: int,
        dropout: float,
        *,
        pooled: tuple[int, ...],
        lesion_kind: int,
        keep: int = 6,
    ) -> None:
        super().__init__()
        self.pooled = pooled
        self.regions = RegionTokens(features, kinds, width, dropout)
        self.lesion_kind = lesion_kind
        self.keep = keep
        self.query = nn.Parameter(torch.randn(kinds + 1, width) * 0.1)
        self.key = nn.Linear(width, width, bias=False)
        self.temporal = nn.Linear(width, width)

    def fit(
        self, features: Float[Tensor, "b n f"], mask: Bool[Tensor, "b n"], kind: Int64[Tensor, "b n"]
    ) -> None:
        """Set the standardisation from all valid regions of the training set."""
        self.regions.fit(features, mask, kind)

    def spread(self, kind: Int64[Tensor, "b n"]) -> Float[Tensor, ...]:
        """Standard deviation of the features, broadcastable to (B, N, F)."""
        return self.regions.scale

    def forward(
        self, features: Float[Tensor, "b n f"], mask: Bool[Tensor, "b n"], kind: Int64[Tensor, "b n"]
    ) -> Tokens:
        """Tokens of the cases of a batch; absent ones are exactly zero."""
        t = self.regions(features, mask, kind)
        pooled = []
        seen = []
        for k in self.pooled:
            member = mask & (kind == k)
            score = (self.key(t.x) @ self.query[k]) / t.x.shape[-1] ** 0.5
            score = score.masked_fill(~member, -1e4)
            weight = torch.where(member, score.softmax(1), torch.zeros_like(score))
            pooled.append((weight[..., None] * t.x).sum(1))
            seen.append(member.any(1))
        x = torch.stack(pooled, 1)
        m = torch.stack(seen, 1)
        x = torch.where(m[..., None], x + self.temporal(x), torch.zeros_like(x))
        lesion = mask & (kind == self.lesion_kind)
        size = torch.where(lesion, features[..., -4], torch.full_like(features[..., -4], -1e4))
        top = size.topk(min(self.keep, size.shape[1]), dim=1).indices
        lesion_x = torch.gather(t.x, 1, top[..., None].expand(-1, -1, t.x.shape[-1]))
        lesion_m = torch.gather(lesion, 1, top)
        lesion_x = torch.where(lesion_m[..., None], lesion_x, torch.zeros_like(lesion_x))
        return Tokens(torch.cat([x, lesion_x], 1), torch.cat([m, lesion_m], 1))
