"""The whole model in one sitting: encoders → region tokens → fusion → joint → findings, and the shared
space."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from ..modalities import is_cine
from ..task import Task, modality_of_key
from .coordination import Projection
from .encoders import build_encoders
from .fusion import FUSIONS
from .local_text import LocalTextTower
from .pretrained.used import ForeignEncoder
from .regions import feature_size
from .senses import sense_of
from .text import TextTower
from .tokens import CineTokens, KindTokens, RegionTokens, Tokens, joined


@dataclass(frozen=True)
class ModelConfig:
    width: int = 96
    layers: int = 2
    heads: int = 4
    dropout: float = 0.15
    shared: int = 64
    fusion: str = "co"
    vocabulary: int = 1500
    coordination: str = "siglip"  # or infonce: what brings images and words onto one sphere
    text_model: str = ""  # folder of a user's own text transformer, instead of our tower
    text_model_hash: str = ""
    grid: int = 2  # tokens a side of a whole frame, where a task has no label maps
    additive: bool = False  # each modality's own logits join the fused ones, as in a logistic stack
    foreign: tuple[ForeignEncoder, ...] = ()  # encoders from disk, whose weights are not in the bundle


@dataclass
class Output:
    """logits (B, findings), joint (B, 3D), tokens after fusion, embeddings by sense (B, shared) on the unit
    sphere."""

    logits: Tensor
    joint: Tensor
    fused: dict[str, Tokens]
    embedding: dict[str, Tensor]


def _head(c: ModelConfig, findings: int) -> nn.Sequential:
    """The joint vector to a score for each finding."""
    return nn.Sequential(
        nn.LayerNorm(3 * c.width),
        nn.Dropout(c.dropout),
        nn.Linear(3 * c.width, 2 * c.width),
        nn.GELU(),
        nn.Dropout(c.dropout),
        nn.Linear(2 * c.width, findings),
    )


def _text_tower(c: ModelConfig) -> nn.Module:
    """The user's own text transformer where one is named, else the small tower."""
    if c.text_model:
        return LocalTextTower(Path(c.text_model), c.width, c.text_model_hash)
    return TextTower(c.vocabulary, c.width)


class FusionModel(nn.Module):
    """Fusion and heads on region features; the encoders ride along so that one object is one bundle."""

    def __init__(
        self,
        task: Task,
        config: ModelConfig,
        *,
        modalities: tuple[str, ...] | None = None,
        encoders: bool = True,
    ) -> None:
        super().__init__()
        self.task_modalities = modalities or task.senses
        self.config = config
        c = config
        self.exclusive = task.exclusive_indices
        self.sizes: dict[str, int] = {}
        # the order below is that of the random numbers which the first weights are
        if task.whole_images:
            self._read_whole_images(task, encoders=encoders)
        else:
            self._read_regions(task, encoders=encoders)
        for m in self.task_modalities:
            if m not in task.modalities:
                sense = sense_of(m)
                self.sizes[m] = sense.size
                self.tokenisers[m] = KindTokens(sense.size, sense.kinds, c.width, c.dropout)
        for used in c.foreign:
            if used.modality in self.task_modalities:
                roles = len(task.modalities[used.modality].roles)
                self.sizes[used.key] = used.width
                self.tokenisers[used.key] = RegionTokens(used.width, used.places * roles, c.width, c.dropout)
        self.sources = {
            m: [key for key in self.sizes if modality_of_key(key) == m] for m in self.task_modalities
        }
        self.fusion = FUSIONS[c.fusion](self.task_modalities, c.width, c.layers, c.heads, c.dropout)
        self.head = _head(c, len(task.findings))
        if c.additive:
            self.own = nn.ModuleDict(
                {m: nn.Linear(2 * c.width, len(task.findings)) for m in self.task_modalities}
            )
        self.text = _text_tower(c)
        self.projection = nn.ModuleDict({m: Projection(2 * c.width, c.shared) for m in self.task_modalities})
        self.projection["joint"] = Projection(3 * c.width, c.shared)
        self.projection["text"] = Projection(c.width, c.shared)
        self.log_scale = nn.Parameter(torch.tensor(2.3))
        self.bias = nn.Parameter(torch.tensor(-6.0))

    def _read_whole_images(self, task: Task, *, encoders: bool) -> None:
        """Encoders and tokenisers of a task without label maps: tokens lie on a grid over the image."""
        c = self.config
        built = build_encoders(task, c.grid)
        for m in self.task_modalities:
            if m in built:
                self.sizes[m] = int(built[m].width)  # type: ignore[arg-type]
        if encoders:
            self.encoders = built
        self.tokenisers = nn.ModuleDict(
            {m: RegionTokens(n, 1, c.width, c.dropout) for m, n in self.sizes.items()}
        )

    def _read_regions(self, task: Task, *, encoders: bool) -> None:
        """Encoders and tokenisers of a task with label maps: a token a region; of a cine one an organ, pooled
        over its frames."""
        c = self.config
        kinds = len(task.dense)
        for m in self.task_modalities:
            if m in task.modalities:
                spec = task.modalities[m]
                self.sizes[m] = feature_size(spec.channels, kinds, spec.filters)
        pooled = (*(k for k in range(1, kinds) if k not in task.lesion_indices), kinds)
        if encoders:
            self.encoders = build_encoders(task)
        self.tokenisers = nn.ModuleDict(
            {
                m: CineTokens(n, kinds, c.width, c.dropout, pooled=pooled, lesion_kind=kinds)
                if is_cine(m)
                else RegionTokens(n, kinds, c.width, c.dropout)
                for m, n in self.sizes.items()
            }
        )

    def tokens(
        self, batch: dict[str, tuple[Tensor, Tensor, Tensor]], use: dict[str, Tensor] | None = None
    ) -> dict[str, Tokens]:
        """Tokens by modality, those of all its encoders one after the other. ``use``: {modality: (B,) bool},
        False drops that modality for that case."""
        out = {}
        for m in self.task_modalities:
            parts = []
            for key in self.sources[m]:
                features, mask, kind = batch[key]
                if use is not None and m in use:
                    mask = mask & use[m][:, None]
                parts.append(self.tokenisers[key](features, mask, kind))
            out[m] = parts[0] if len(parts) == 1 else joined(parts)
        return out

    def forward(
        self, batch: dict[str, tuple[Tensor, Tensor, Tensor]], use: dict[str, Tensor] | None = None
    ) -> Output:
        """Findings, the joint vector and embeddings of a batch: features (B, N, F), mask and kind (B, N) by
        modality, and by encoder from disk; ``use`` as of `tokens`."""
        tokens = self.tokens(batch, use)
        embedding = {m: self.projection[m](pool(t)) for m, t in tokens.items()}
        fused, g = self.fusion(tokens)
        every = Tokens(
            torch.cat([t.x for t in fused.values()], 1), torch.cat([t.mask for t in fused.values()], 1)
        )
        joint = torch.cat([g, pool(every)], -1)
        embedding["joint"] = self.projection["joint"](joint)
        scores = self.head(joint)
        if self.config.additive:
            for m, t in tokens.items():
                scores = scores + self.own[m](pool(t)) * t.present[:, None]
        return Output(exclusive_logits(scores, self.exclusive), joint, fused, embedding)

    def embed_text(self, ids: Int64[Tensor, "b l"], mask: Bool[Tensor, "b l"]) -> Float[Tensor, "b d"]:
        """(B, shared) on the unit sphere."""
        return self.projection["text"](self.text(ids, mask))

    def fit_standardisation(self, batch: dict[str, tuple[Tensor, Tensor, Tensor]]) -> None:
        """Set the standardisation of every tokeniser from the training set as one batch."""
        for m in self.sizes:
            if batch[m][1].any():
                self.tokenisers[m].fit(*batch[m])  # type: ignore[operator]


def exclusive_logits(scores: Float[Tensor, "b f"], exclusive: list[int]) -> Float[Tensor, "b f"]:
    """Scores (B, F) whose ``exclusive`` columns become the log-odds of their softmax, so that a sigmoid gives
    it back."""
    if not exclusive:
        return scores
    log_p = scores[:, exclusive].float().log_softmax(1).clamp_max(-1e-6)
    out = scores.clone()
    out[:, exclusive] = (log_p - torch.log1p(-log_p.exp())).to(scores.dtype)
    return out


def pool(t: Tokens) -> Float[Tensor, "b d2"]:
    """(B, 2D): mean and maximum over the tokens that exist; zeros where there are none."""
    weight = t.mask[..., None].to(t.x.dtype)
    mean = (t.x * weight).sum(1) / weight.sum(1).clamp_min(1)
    top = t.x.masked_fill(~t.mask[..., None], -1e4).amax(1)
    return torch.cat([mean, torch.where(t.present[:, None], top, torch.zeros_like(top))], -1)
