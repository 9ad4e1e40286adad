"""Fusion of any subset of modalities: one interface, three classes.

Every class maps {modality: Tokens} to ({modality: Tokens}, g), where g (B, D) is an always-present global
token. A modality with an all-False mask is absent: what stands in its slot changes nothing and has gradient
exactly 0.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from .tokens import Tokens


class Attention(nn.Module):
    """Multi-head attention with a key mask; at least one key must be present (the global token sees to
    that)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.norm_context = nn.LayerNorm(width)
        self.heads = heads
        self.dropout = dropout

    def forward(
        self, x: Float[Tensor, "b n d"], context: Float[Tensor, "b m d"], mask: Bool[Tensor, "b m"]
    ) -> Float[Tensor, "b n d"]:
        """x (B, N, D) reads context (B, M, D) where mask (B, M) is True."""
        b, n, d = x.shape
        q = self.q(self.norm(x)).reshape(b, n, self.heads, -1).transpose(1, 2)
        k, v = (
            self.kv(self.norm_context(context))
            .reshape(b, -1, 2, self.heads, d // self.heads)
            .permute(2, 0, 3, 1, 4)
        )
        drop = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None], dropout_p=drop)
        return self.out(y.transpose(1, 2).reshape(b, n, d))


class Mlp(nn.Sequential):
    def __init__(self, width: int, dropout: float, ratio: int = 2) -> None:
        super().__init__(
            nn.LayerNorm(width),
            nn.Linear(width, ratio * width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(ratio * width, width),
        )


def _keep(x: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask[..., None], x, torch.zeros_like(x))


class _Fusion(nn.Module, ABC):
    def __init__(
        self, modalities: tuple[str, ...], width: int, layers: int, heads: int, dropout: float
    ) -> None:
        super().__init__()
        self.modalities = modalities
        self.global_token = nn.Parameter(torch.randn(width) * 0.02)
        self.modality = nn.ParameterDict({m: nn.Parameter(torch.randn(width) * 0.02) for m in modalities})
        self.build(width, layers, heads, dropout)

    @abstractmethod
    def build(self, width: int, layers: int, heads: int, dropout: float) -> None:
        """Make the layers of this fusion."""

    def enter(self, tokens: dict[str, Tokens]) -> tuple[dict[str, Tokens], Tensor]:
        """Add the modality embedding, drop what is masked, start the global token."""
        known = {m: tokens[m] for m in self.modalities if m in tokens}
        batch = next(iter(known.values())).x.shape[0]
        g = self.global_token.expand(batch, 1, -1)
        return {m: Tokens(_keep(t.x + self.modality[m], t.mask), t.mask) for m, t in known.items()}, g


class CoAttention(_Fusion):
    """The default: private self-attention a modality, then shared cross-attention to the others' summaries.

    S_m = Q_m + softmax(Q_m X_mᵀ/√d) X_m with K learned queries; X_m += SA(X_m); X_m += CA(X_m; [g; S_j, j≠m])
    masked by presence; X_m += MLP(X_m); g reads all summaries. Cost grows near-linearly in modalities (METER,
    MBT, Perceiver).
    """

    queries = 4

    def build(self, width: int, layers: int, heads: int, dropout: float) -> None:
        """Make the layers."""

        def each(make: Callable[[], nn.Module]) -> nn.ModuleList:
            return nn.ModuleList(nn.ModuleDict({m: make() for m in self.modalities}) for _ in range(layers))

        self.private = each(lambda: Attention(width, heads, dropout))
        self.cross = nn.ModuleList(Attention(width, heads, dropout) for _ in range(layers))
        self.mlp = nn.ModuleList(Mlp(width, dropout) for _ in range(layers))
        self.read = nn.ModuleList(Attention(width, heads, dropout) for _ in range(layers))
        self.query = nn.ParameterDict(
            {m: nn.Parameter(torch.randn(self.queries, width) * 0.1) for m in self.modalities}
        )

    def summary(self, m: str, t: Tokens) -> Float[Tensor, "b k d"]:
        """(B, K, D); zero where the modality is absent."""
        score = self.query[m] @ t.x.transpose(1, 2) / t.x.shape[-1] ** 0.5
        score = score.masked_fill(~t.mask[:, None], -1e4)
        s = self.query[m] + score.softmax(-1) @ t.x
        return _keep(s, t.present[:, None].expand(-1, self.queries))

    def forward(self, tokens: dict[str, Tokens]) -> tuple[dict[str, Tokens], Float[Tensor, "b d"]]:
        """Tokens by modality after fusion, and the global vector (B, D)."""
        state, g = self.enter(tokens)
        for private, cross, mlp, read in zip(self.private, self.cross, self.mlp, self.read, strict=True):
            summaries = {m: self.summary(m, t) for m, t in state.items()}
            there = {m: t.present[:, None].expand(-1, self.queries) for m, t in state.items()}
            always = torch.ones_like(g[..., 0], dtype=torch.bool)
            after = {}
            for m, t in state.items():
                # an absent modality still needs one key to stay finite: the global token
                own = private[m]  # type: ignore[index]
                x = t.x + own(t.x, torch.cat([g, t.x], 1), torch.cat([always, t.mask], 1))
                others = [summaries[j] for j in state if j != m]
                masks = [there[j] for j in state if j != m]
                x = x + cross(x, torch.cat([g, *others], 1), torch.cat([always, *masks], 1))
                after[m] = Tokens(_keep(x + mlp(x), t.mask), t.mask)
            g = g + read(g, torch.cat([g, *summaries.values()], 1), torch.cat([always, *there.values()], 1))
            g = g + mlp(g)
            state = after
        return state, g[:, 0]


BLOCKS = (
    3  # of merge- and cross-attention for each co-attention layer: as many parameters with three modalities
)


class MergeAttention(_Fusion):
    """All tokens of all modalities in one sequence, self-attention."""

    def build(self, width: int, layers: int, heads: int, dropout: float) -> None:
        """Make the layers."""
        self.attention = nn.ModuleList(Attention(width, heads, dropout) for _ in range(layers * BLOCKS))
        self.mlp = nn.ModuleList(Mlp(width, dropout) for _ in range(layers * BLOCKS))

    def forward(self, tokens: dict[str, Tokens]) -> tuple[dict[str, Tokens], Float[Tensor, "b d"]]:
        """Tokens by modality after fusion, and the global vector (B, D)."""
        state, g = self.enter(tokens)
        mask = torch.cat([torch.ones_like(g[..., 0], dtype=torch.bool), *[t.mask for t in state.values()]], 1)
        x = torch.cat([g, *[t.x for t in state.values()]], 1)
        for attention, mlp in zip(self.attention, self.mlp, strict=True):
            x = x + attention(x, x, mask)
            x = _keep(x + mlp(x), mask)
        parts = x[:, 1:].split([t.x.shape[1] for t in state.values()], 1)
        return {m: Tokens(p, t.mask) for (m, t), p in zip(state.items(), parts, strict=True)}, x[:, 0]


class CrossAttention(_Fusion):
    """One query stream (the global token and K learned queries) reads the modalities in turn."""

    queries = 8

    def build(self, width: int, layers: int, heads: int, dropout: float) -> None:
        """Make the layers."""
        self.latent = nn.Parameter(torch.randn(self.queries, width) * 0.1)
        self.read = nn.ModuleList(Attention(width, heads, dropout) for _ in range(layers * BLOCKS))
        self.mlp = nn.ModuleList(Mlp(width, dropout) for _ in range(layers * BLOCKS))

    def forward(self, tokens: dict[str, Tokens]) -> tuple[dict[str, Tokens], Float[Tensor, "b d"]]:
        """Tokens by modality after fusion, and the global vector (B, D)."""
        state, g = self.enter(tokens)
        context = torch.cat([t.x for t in state.values()], 1)
        mask = torch.cat([t.mask for t in state.values()], 1)
        z = torch.cat([g, self.latent.expand(g.shape[0], -1, -1)], 1)
        always = torch.ones_like(z[..., 0], dtype=torch.bool)
        for read, mlp in zip(self.read, self.mlp, strict=True):
            z = z + read(z, torch.cat([z, context], 1), torch.cat([always, mask], 1))
            z = z + mlp(z)
        return state, z.mean(1)


FUSIONS: dict[str, type[_Fusion]] = {"co": CoAttention, "merge": MergeAttention, "cross": CrossAttention}
