"""The networks: a folded autoencoder a modality, and the flow over the latents of all of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from ..models.monai_nets import AutoencoderKL
from .config import FOLD, LATENT, GeneratorConfig

Latents = dict[str, Tensor]  # modality → (B, LATENT, *latent)


def fold(x: Tensor) -> Tensor:
    """(B, C, *S) → (B, C * FOLD**d, *S / FOLD): neighbours become channels."""
    for axis in range(2, x.ndim):
        x = torch.cat([x.index_select(axis, torch.arange(i, x.shape[axis], FOLD)) for i in range(FOLD)], 1)
    return x


def unfold(x: Tensor, dims: int) -> Tensor:
    """What `fold` folded: (B, C * FOLD**dims, *S) → (B, C, *S * FOLD)."""
    for axis in range(dims + 1, 1, -1):
        x = torch.stack(x.chunk(FOLD, 1), axis + 1).flatten(axis, axis + 1)
    return x


class BoxAutoencoder(nn.Module):
    """MONAI's AutoencoderKL on a folded box (B, 1, *shape); latents (B, LATENT, *shape / 4), standardised by
    the mean and spread of the training set's."""

    mean: Tensor
    spread: Tensor

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.dims = dims
        self.net = AutoencoderKL(
            spatial_dims=dims,
            in_channels=FOLD**dims,
            out_channels=FOLD**dims,
            channels=(16, 32),
            num_res_blocks=1,
            attention_levels=(False, False),
            latent_channels=LATENT,
            norm_num_groups=8,
            with_encoder_nonlocal_attn=False,
            with_decoder_nonlocal_attn=False,
        )
        self.register_buffer("mean", torch.zeros(LATENT))
        self.register_buffer("spread", torch.ones(LATENT))

    def loss(self, x: Tensor) -> Tensor:
        """Mean absolute error, and a little of the divergence from a normal latent."""
        again, mu, sigma = self.net(fold(x))
        divergence = 0.5 * (mu**2 + sigma**2 - torch.log(sigma**2 + 1e-8) - 1).mean()
        return (again - fold(x)).abs().mean() + 1e-3 * divergence

    def _channels(self, of: Tensor) -> Tensor:
        return of.view(1, -1, *[1] * self.dims)

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """(B, 1, *shape) → standardised latents."""
        mu, _ = self.net.encode(fold(x))
        return (mu - self._channels(self.mean)) / self._channels(self.spread)

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """Standardised latents → (B, 1, *shape)."""
        raw = z * self._channels(self.spread) + self._channels(self.mean)
        return unfold(self.net.decode(raw), self.dims)

    @torch.no_grad()
    def standardise(self, latents: Tensor) -> None:
        """Set mean and spread from latents (N, LATENT, *) that `encode` gave."""
        flat = latents.movedim(1, 0).flatten(1)
        self.mean.copy_(flat.mean(1))
        self.spread.copy_(flat.std(1).clamp_min(1e-3))


def _waves(t: Float[Tensor, "b m"], width: int) -> Float[Tensor, "b m w"]:
    """Sines and cosines of a noise time from 0 to 1."""
    rates = torch.exp(torch.arange(width // 2) * (-math.log(1000.0) / (width // 2)))
    angle = 1000 * t[..., None] * rates
    return torch.cat([angle.sin(), angle.cos()], -1)


class _Block(nn.Module):
    """Attention among all tokens and a layer of each, both told by time and claims (2212.09748)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.each = nn.Sequential(nn.Linear(width, 3 * width), nn.GELU(), nn.Linear(3 * width, width))
        self.told = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.told.weight)
        nn.init.zeros_(self.told.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x, condition (B, N, W) → (B, N, W)."""
        shift_a, scale_a, gate_a, shift_b, scale_b, gate_b = self.told(F.silu(condition)).chunk(6, -1)
        h = self.norm(x) * (1 + scale_a) + shift_a
        q, k, v = (p.unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in self.qkv(h).chunk(3, -1))
        h = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + gate_a * self.out(h)
        return x + gate_b * self.each(self.norm(x) * (1 + scale_b) + shift_b)


class LatentFlow(nn.Module):
    """A rectified flow (2209.03003) over the latents of all modalities, with a noise time of its own for
    each: 0 is observed, 1 pure noise. Claims say of each finding whether it is there, or not known."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        w = config.width
        self.codes = tuple(config.modalities)
        sizes = {m: LATENT * FOLD ** len(g.shape) for m, g in config.modalities.items()}
        self.counts = [math.prod(n // FOLD for n in g.latent) for g in config.modalities.values()]
        self.into = nn.ModuleDict({m: nn.Linear(n, w) for m, n in sizes.items()})
        self.out = nn.ModuleDict({m: nn.Linear(w, n) for m, n in sizes.items()})
        self.place = nn.ParameterDict(
            {m: nn.Parameter(0.02 * torch.randn(n, w)) for m, n in zip(self.codes, self.counts, strict=True)}
        )
        self.time = nn.Sequential(nn.Linear(w, w), nn.SiLU(), nn.Linear(w, w))
        self.which = nn.Parameter(0.02 * torch.randn(len(self.codes), w))
        self.claims = nn.Sequential(nn.Linear(2 * len(config.findings), w), nn.SiLU(), nn.Linear(w, w))
        self.blocks = nn.ModuleList(_Block(w, config.heads) for _ in range(config.layers))
        self.norm = nn.LayerNorm(w)

    def forward(self, x: Latents, t: Float[Tensor, "b m"], claims: Float[Tensor, "b f"]) -> Latents:
        """The velocity, noise minus image, of every modality. t: in the order of ``config.modalities``;
        claims: 1 there, 0 not, -1 not known."""
        known = (claims >= 0).float()
        said = self.claims(torch.cat([claims.clamp_min(0) * known, known], 1))
        one = self.time(_waves(t, self.config.width)) + self.which + said[:, None]
        condition = torch.repeat_interleave(one, torch.tensor(self.counts), 1)
        tokens = [self.into[m](fold(x[m]).flatten(2).transpose(1, 2)) + self.place[m] for m in self.codes]
        h = torch.cat(tokens, 1)
        for block in self.blocks:
            h = block(h, condition)
        out: Latents = {}
        for m, part in zip(self.codes, self.norm(h).split(self.counts, 1), strict=True):
            shape = self.config.modalities[m].latent
            folded = self.out[m](part).transpose(1, 2).unflatten(2, [n // FOLD for n in shape])
            out[m] = unfold(folded, len(shape))
        return out


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How images are drawn. guidance: how much more than without claims their direction counts; 1 is none."""

    steps: int = 25
    guidance: float = 2.0
    seed: int = 1


@torch.no_grad()
def sample(
    flow: LatentFlow,
    given: Latents,
    asked: tuple[str, ...],
    claims: Float[Tensor, "b f"],
    how: Sampling,
) -> Latents:
    """Latents of the modalities asked for. given: observed latents; what is neither is pure noise
    throughout."""
    draw = torch.Generator().manual_seed(how.seed)
    count = len(claims)
    x = {
        m: given[m] if m in given else torch.randn((count, LATENT, *g.latent), generator=draw)
        for m, g in flow.config.modalities.items()
    }
    times = torch.linspace(1, 0, how.steps + 1)
    nothing = torch.full_like(claims, -1)
    guided = how.guidance != 1 and bool((claims >= 0).any())
    for now, then in pairwise(times):
        t = torch.tensor([[0.0 if m in given else float(now) if m in asked else 1.0 for m in flow.codes]])
        t = t.expand(count, -1)
        v = flow(x, t, claims)
        if guided:
            without = flow(x, t, nothing)
            v = {m: without[m] + how.guidance * (v[m] - without[m]) for m in v}
        x = {m: x[m] - (now - then) * v[m] if m in asked else x[m] for m in x}
    return {m: x[m] for m in asked}


class Generator(nn.Module):
    """The autoencoders and the flow of one bundle."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.autoencoders = nn.ModuleDict(
            {m: BoxAutoencoder(len(g.shape)) for m, g in config.modalities.items()}
        )
        self.flow = LatentFlow(config)

    def encode(self, modality: str, x: Tensor) -> Tensor:
        """Boxes (B, 1, *shape) → latents."""
        return self.autoencoders[modality].encode(x)  # type: ignore[operator]

    def decode(self, modality: str, z: Tensor) -> Tensor:
        """Latents → boxes (B, 1, *shape), within the range of training's values."""
        of = self.config.modalities[modality]
        return self.autoencoders[modality].decode(z).clamp(of.low, of.high)  # type: ignore[operator]

    def draw(
        self, given: dict[str, Tensor], asked: tuple[str, ...], claims: Tensor, how: Sampling = Sampling()
    ) -> dict[str, Tensor]:
        """Boxes of the modalities asked for, from boxes of those given and claims (B, F)."""
        latents = {m: self.encode(m, x) for m, x in given.items()}
        return {m: self.decode(m, z) for m, z in sample(self.flow, latents, asked, claims, how).items()}


def flow_loss(
    flow: LatentFlow, z: Latents, there: Bool[Tensor, "b m"], claims: Tensor, draw: torch.Generator
) -> Tensor:
    """Mean squared error of the velocity. Each modality of a case is at random observed, asked or absent, at
    least one asked; what a case has not is noise and counts for nothing. Claims are kept back at random."""
    count = len(claims)
    role = torch.rand(there.shape, generator=draw)
    asked = there & (role < 0.5)
    lone = there & ~asked.any(1, keepdim=True)  # nothing asked: all of it is
    asked = asked | lone
    observed = there & ~asked & (role < 0.8)
    t = torch.rand(there.shape, generator=draw)
    t = torch.where(observed, 0.0, torch.where(asked, t, 1.0))
    kept = torch.rand(claims.shape, generator=draw) < torch.rand((count, 1), generator=draw)
    kept &= torch.rand((count, 1), generator=draw) > 0.1
    told = torch.where(kept, claims, -1.0)
    x: Latents = {}
    wanted: Latents = {}
    for n, m in enumerate(flow.codes):
        noise = torch.randn(z[m].shape, generator=draw)
        at = t[:, n].view(-1, *[1] * (noise.ndim - 1))
        x[m] = (1 - at) * z[m] + at * noise
        wanted[m] = noise - z[m]
    found = flow(x, t, told)
    total = torch.zeros(())
    for n, m in enumerate(flow.codes):
        error = (found[m] - wanted[m]).pow(2).flatten(1).mean(1)
        total = total + (error * asked[:, n]).sum()
    return total / asked.sum().clamp_min(1)
