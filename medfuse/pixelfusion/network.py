"""Registered pictures or volumes → one picture: max, average, Laplacian pyramid, guided filter, and a small
unsupervised network.

The network (about 60,000 parameters) sees two grey pictures and gives, at every pixel, a weight between them,
a detail to add and a share of the larger value; it learns from the sources alone: keep the stronger gradient,
stay alike in structure, keep the larger value. Three sources are fused two at a time, in the given order;
volumes slice by slice along their last axis; colour (PET, SPECT) keeps its hue and saturation, its luminance
is fused (Y of YCbCr).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Num
from safetensors.torch import load_file, save_file
from scipy.ndimage import gaussian_filter, uniform_filter, zoom
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import UserError, WrongUse
from ..models.precision import autocast

SHIPPED = Path(__file__).resolve().parent.parent / "bundles" / "pixel-fusion-simulated" / "fusion.safetensors"


def fuse_max(a: Float[np.ndarray, "h w"], b: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    return np.maximum(a, b)


def fuse_average(a: Float[np.ndarray, "h w"], b: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    return (a + b) / 2


def fuse_laplacian(
    a: Float[np.ndarray, "h w"], b: Float[np.ndarray, "h w"], levels: int = 4
) -> Float[np.ndarray, "h w"]:
    """Burt & Adelson 1983: the larger coefficient at every level, the average of the coarsest."""
    details = []
    x = a
    y = b
    for _ in range(levels):
        small = [gaussian_filter(v, 1.0)[::2, ::2] for v in (x, y)]
        back = [_larger(s, v.shape) for s, v in zip(small, (x, y), strict=True)]
        p = x - back[0]
        q = y - back[1]
        details.append(np.where(np.abs(p) >= np.abs(q), p, q))
        x, y = small
        if min(x.shape) < 8:
            break
    out = np.maximum(x, y)
    for detail in reversed(details):
        out = _larger(out, detail.shape) + detail
    return np.clip(out, 0, 1)


def _larger(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return zoom(
        x, [n / m for n, m in zip(shape, x.shape, strict=True)], order=1, grid_mode=True, mode="nearest"
    )


def fuse_guided(a: Float[np.ndarray, "h w"], b: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Li, Kang & Hu 2013: saliency weights smoothed by guided filters, base and detail apart."""
    base = [uniform_filter(x, 31) for x in (a, b)]
    saliency = [gaussian_filter(np.abs(x - gaussian_filter(x, 1.0)), 5.0) for x in (a, b)]
    first = (saliency[0] >= saliency[1]).astype(float)
    out = np.zeros_like(a)
    for radius, epsilon, parts in ((45, 0.3, base), (7, 1e-6, [a - base[0], b - base[1]])):
        w = [np.clip(_guided(x, m, radius, epsilon), 0, 1) + 1e-6 for x, m in ((a, first), (b, 1 - first))]
        out += (w[0] * parts[0] + w[1] * parts[1]) / (w[0] + w[1])
    return np.clip(out, 0, 1)


def _guided(guide: np.ndarray, x: np.ndarray, radius: int, epsilon: float) -> np.ndarray:
    n = 2 * radius + 1
    mg = uniform_filter(guide, n)
    mx = uniform_filter(x, n)
    k = (uniform_filter(guide * x, n) - mg * mx) / (uniform_filter(guide * guide, n) - mg**2 + epsilon)
    return uniform_filter(k, n) * guide + uniform_filter(mx - k * mg, n)


BASELINES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "max": fuse_max,
    "average": fuse_average,
    "laplacian": fuse_laplacian,
    "guided": fuse_guided,
}


class PixelFusion(nn.Module):
    """Two grey pictures (B, 1, H, W) in 0 to 1 → the fused one (B, 1, H, W). Order does not matter: both pass
    the same encoder."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.wide = nn.Conv2d(width, width, 3, padding=2, dilation=2)
        self.mix = nn.Sequential(
            nn.Conv2d(2 * width, width, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(width, width, 3, padding=4, dilation=4),
            nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(width, 3, 3, padding=1),
        )
        nn.init.zeros_(self.mix[-1].weight)  # type: ignore[arg-type]
        with torch.no_grad():
            self.mix[-1].bias.copy_(torch.tensor([0.0, 0.0, 2.0]))  # type: ignore[union-attr, operator]

    def encode(self, x: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b c h w"]:
        x = F.gelu(self.first(x))
        return F.gelu(self.wide(x + F.gelu(self.second(x))))

    def forward(self, a: Float[Tensor, "b 1 h w"], b: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
        p, q = self.encode(torch.cat([a, b])).chunk(2)
        one, two = self.mix(torch.cat([torch.cat([p, q], 1), torch.cat([q, p], 1)])).float().chunk(2)
        weight = torch.sigmoid(one[:, :1] - two[:, :1])
        detail = 0.2 * torch.tanh(one[:, 1:2] + two[:, 1:2])
        larger = torch.sigmoid(one[:, 2:] + two[:, 2:])
        blended = weight * a + (1 - weight) * b
        fused = larger * torch.maximum(a, b) + (1 - larger) * blended + detail * torch.maximum(a, b)
        return fused.clamp(0, 1)


def gradients(x: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 2 h w"]:
    """(B, 2, H, W) Sobel derivatives along x and y."""
    kernel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], device=x.device, dtype=x.dtype) / 4
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), torch.stack([kernel, kernel.T])[:, None])


def similarity(a: Float[Tensor, "b 1 h w"], b: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
    """(B, 1, H, W) structural similarity in windows of 11 pixels (average window), values 0 to 1."""

    def w(x: Tensor) -> Tensor:
        return F.avg_pool2d(F.pad(x, (5, 5, 5, 5), mode="reflect"), 11, 1)

    mu_a = w(a)
    mu_b = w(b)
    va = w(a * a) - mu_a**2
    vb = w(b * b) - mu_b**2
    cov = w(a * b) - mu_a * mu_b
    return (2 * mu_a * mu_b + 1e-4) * (2 * cov + 9e-4) / ((mu_a**2 + mu_b**2 + 1e-4) * (va + vb + 9e-4))


WEIGHTS = {"gradient": 30.0, "structure": 1.0, "intensity": 5.0}


def fusion_loss(
    a: Float[Tensor, "b 1 h w"], b: Float[Tensor, "b 1 h w"], f: Float[Tensor, "b 1 h w"]
) -> Float[Tensor, ""]:
    """Unsupervised: at every pixel the gradient of the source that has the stronger one, the structure of
    both, the larger value."""
    ga = gradients(a)
    gb = gradients(b)
    gf = gradients(f)
    stronger = torch.where((ga**2).sum(1, keepdim=True) >= (gb**2).sum(1, keepdim=True), ga, gb)
    gradient = (gf - stronger).abs().mean()
    structure = 2 - similarity(a, f).mean() - similarity(b, f).mean()
    intensity = (f - torch.maximum(a, b)).abs().mean()
    return (
        WEIGHTS["gradient"] * gradient + WEIGHTS["structure"] * structure + WEIGHTS["intensity"] * intensity
    )


def load_fusion(path: Path | None = None) -> PixelFusion:
    """The shipped network (trained on simulated pairs only), or a user's weights."""
    where = path or SHIPPED
    try:
        state = load_file(where)
        model = PixelFusion(state["first.weight"].shape[0])
        model.load_state_dict({k: v.float() for k, v in state.items()})
    except Exception as e:
        raise UserError(
            f"{where}: cannot be read as fusion weights ({str(e).splitlines()[0]}); make them with "
            "benchmarks/fusion.py --save"
        ) from e
    return model.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a third faster


def save_fusion(model: PixelFusion, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.half().contiguous() for k, v in model.state_dict().items()}, path)


def fuse_learned(
    a: Float[np.ndarray, "h w"], b: Float[np.ndarray, "h w"], model: PixelFusion
) -> Float[np.ndarray, "h w"]:
    """(H, W) in 0 to 1. Convolutions in bfloat16 where the processor has it: a grey level of 255 at most, a
    third of the time."""
    with torch.inference_mode(), autocast(torch.device("cpu")):
        x, y = (torch.from_numpy(np.ascontiguousarray(v, np.float32))[None, None] for v in (a, b))
        return model(x, y)[0, 0].float().numpy().astype(np.float64)


def scaled(
    x: Num[np.ndarray, "*s"], *, low: float | None = None, high: float | None = None
) -> Float[np.ndarray, "*s"]:
    """Grey values to 0 to 1: bytes by 255, others by their own 1st and 99.5th percentile of what is not
    background."""
    if x.dtype == np.uint8:
        return x / 255.0
    values = x[x > x.min()] if (x > x.min()).any() else x
    a, b = (np.percentile(values, q) if v is None else v for q, v in ((1, low), (99.5, high)))
    return np.clip((x - a) / max(float(b - a), 1e-6), 0, 1)


def fuse(sources: list[np.ndarray], *, method: str = "learned", weights: Path | None = None) -> np.ndarray:
    """Fuse two or three registered sources of one shape, each in 0 to 1: grey (H, W), volumes (I, J, K) or
    colour (H, W, 3).

    Returns (H, W), (I, J, K), or (H, W, 3) where a source has colour. Raises UserError where shapes differ or
    a source is constant.
    """
    colour = [x.ndim == 3 and x.shape[-1] == 3 and x.shape[0] > 3 for x in sources]
    _check_sources(sources, colour, method)
    model = load_fusion(weights) if method == "learned" else None

    def two(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if a.ndim == 3:
            return np.stack([two(a[..., k], b[..., k]) for k in range(a.shape[2])], -1)
        return fuse_learned(a, b, model) if model is not None else BASELINES[method](a, b)

    luminance = [_ycc(x)[..., 0] if c else x.astype(np.float64) for x, c in zip(sources, colour, strict=True)]
    out = luminance[0]
    for other in luminance[1:]:
        out = two(out, other)
    if not any(colour):
        return out
    tint = _ycc(sources[colour.index(True)])
    return _rgb(np.concatenate([out[..., None], tint[..., 1:]], -1))


def _check_sources(sources: list[np.ndarray], colour: list[bool], method: str) -> None:
    """Raise where the sources cannot be fused, or there is no such method."""
    if not 2 <= len(sources) <= 3:
        raise WrongUse(f"{len(sources)} sources: give two or three registered images")
    shapes = {x.shape[:2] if c else x.shape for x, c in zip(sources, colour, strict=True)}
    if len(shapes) > 1:
        raise UserError(
            f"the images have different sizes ({', '.join(map(str, sorted(shapes)))}); register them "
            "first, or bring them to one grid"
        )
    if method != "learned" and method not in BASELINES:
        raise WrongUse(f"--method {method}: give learned, {', '.join(BASELINES)}")
    for n, x in enumerate(sources, 1):
        if float(np.ptp(x)) == 0:
            raise UserError(f"image {n} has the same value everywhere; there is nothing to fuse")


# ITU-R BT.601, full range
_TO = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])


def _ycc(rgb: np.ndarray) -> np.ndarray:
    return rgb.astype(np.float64) @ _TO.T


def _rgb(ycc: np.ndarray) -> np.ndarray:
    return np.clip(ycc @ np.linalg.inv(_TO).T, 0, 1)
