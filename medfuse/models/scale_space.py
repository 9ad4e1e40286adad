"""An encoder of volumes that were cut out around one thing: a scale space (Gaussian means and deviations, the
difference from the middle, the distance from it), read voxel by voxel by two small networks. It learns on
two cores in minutes what a U-Net learns there in a day, and sees no border."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

MEANS = (1.0, 2.0, 4.0, 7.0)  # standard deviations in voxels of the network grid
DEVIATIONS = (1.0, 2.0, 4.0)
MIDDLE = 3.0  # of the ball in the middle that everything is compared with
REACH = 10.0  # voxels: the unit of distances from the middle
OF_A_ROLE = 1 + len(MEANS) + len(DEVIATIONS) + 5
OF_THE_FIRST = len(DEVIATIONS) + 8  # what the second network sees of the first one's outline


def _blur_matrix(size: int, sigma: float, like: Tensor) -> Tensor:
    """(size, size) Gaussian mean along an axis that goes on as its mirror image at both ends."""
    reach = int(4 * sigma + 0.5)
    offset = torch.arange(-reach, reach + 1)
    weight = torch.exp(-0.5 * (offset / sigma) ** 2)
    weight = weight / weight.sum()
    at = (torch.arange(size)[:, None] + offset[None]) % (2 * size)
    at = torch.minimum(at, 2 * size - 1 - at)
    out = torch.zeros(size, size).scatter_add_(1, at, weight.expand(size, -1))
    return out.to(like)


def blurred(values: Float[Tensor, "b c x y z"], sigma: float) -> Float[Tensor, "b c x y z"]:
    """Gaussian mean with a standard deviation in voxels."""
    for axis in (2, 3, 4):
        matrix = _blur_matrix(values.shape[axis], sigma, values)
        values = (values.movedim(axis, -1) @ matrix.T).movedim(-1, axis)
    return values


def _from_middle(like: Tensor) -> Tensor:
    """(3, X, Y, Z) voxels from the middle of a volume along each axis."""
    axes = [torch.arange(n, device=like.device, dtype=like.dtype) - (n - 1) / 2 for n in like.shape[2:]]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


class ScaleSpaceEncoder(nn.Module):
    """Input (B, R, X, Y, Z) with zeros for roles that were not acquired, and present (B, R) bool; answers as
    `DenseEncoder` does. The middle of the volume lies in, or near, what it was cut out around.

    A first network outlines it; a second corrects that, knowing where the first outline lies and how far it
    reaches.
    """

    def __init__(self, *, roles: int, classes: int, filters: int) -> None:
        super().__init__()
        self.width = filters
        self.deep_width = filters * 8
        seen = roles * (OF_A_ROLE + 1) + 3
        self.first = nn.Sequential(
            nn.Conv3d(seen, 2 * filters, 1), nn.ReLU(), nn.Conv3d(2 * filters, filters, 1), nn.ReLU()
        )
        self.outline = nn.Conv3d(filters, classes, 1)
        self.second = nn.Sequential(
            nn.Conv3d(seen + filters + OF_THE_FIRST, 2 * filters, 1),
            nn.ReLU(),
            nn.Dropout3d(0.1),
            nn.Conv3d(2 * filters, filters, 1),
            nn.ReLU(),
        )
        self.correction = nn.Conv3d(filters, classes, 1)
        nn.init.zeros_(self.correction.weight)
        assert self.correction.bias is not None
        nn.init.zeros_(self.correction.bias)

    def forward(
        self, values: Float[Tensor, "b r x y z"], present: Bool[Tensor, "b r"]
    ) -> tuple[Float[Tensor, "b k x y z"], Float[Tensor, "b c x y z"], Float[Tensor, "b deep *part"]]:
        """Logits, fine features, and those of the eighths of each block of 8 voxels a side."""
        gate = present.to(values.dtype)[:, :, None, None, None]
        seen = self._seen(values * gate, gate)
        fine = self.first(seen)
        logits = self.outline(fine)
        fine = self.second(torch.cat([seen, fine, self._of_outline(logits)], 1))
        return logits + self.correction(fine), fine, _deep(fine)

    def _seen(self, values: Tensor, gate: Tensor) -> Tensor:
        """(B, R·(OF_A_ROLE + 1) + 3, X, Y, Z) of the image alone."""
        offset = _from_middle(values)
        radius = offset.norm(dim=0)
        parts = [values]
        means = [blurred(values, s) for s in MEANS]
        squares = values * values
        for sigma, mean in zip(MEANS, means, strict=True):
            parts.append(mean)
            if sigma in DEVIATIONS:
                parts.append((blurred(squares, sigma) - mean * mean).clamp_min(1e-6).sqrt())
        weight = torch.exp(-0.5 * (radius / MIDDLE) ** 2)
        middle = (means[0] * weight).sum((2, 3, 4), keepdim=True) / weight.sum()
        top = torch.where(radius < REACH, means[0], means[0].amin()).amax((2, 3, 4), keepdim=True)
        parts += [means[0] - middle, (means[0] - middle).abs(), middle.expand_as(values)]
        parts += [means[0] - top, top.expand_as(values)]
        gated = torch.cat([*(p * gate for p in parts), gate.expand_as(values)], 1)
        place = torch.stack([offset[:2].norm(dim=0), offset[2].abs(), radius]) / REACH
        return torch.cat([gated, place.expand(len(values), -1, -1, -1, -1)], 1)

    def _of_outline(self, logits: Tensor) -> Tensor:
        """(B, OF_THE_FIRST, X, Y, Z): the outline blurred, how far a voxel lies from its centre in units of
        its extent, and that extent."""
        p = 1 - logits.softmax(1)[:, :1]
        offset = _from_middle(p)[None]
        near = p * torch.exp(-0.5 * (offset.norm(dim=1, keepdim=True) / (3 * REACH)) ** 2)
        total = near.sum((2, 3, 4), keepdim=True) + 1
        centre = (near * offset).sum((2, 3, 4), keepdim=True) / total
        extent = ((near * (offset - centre) ** 2).sum((2, 3, 4), keepdim=True) / total + 1).sqrt()
        away = ((offset - centre) / extent).abs()
        distance = away.norm(dim=1, keepdim=True)
        smooth = [blurred(p, s) for s in DEVIATIONS]
        size = (extent / REACH).expand_as(away)
        volume = (total.log() / 10).expand_as(p)
        return torch.cat([*smooth, away, distance, size, volume], 1)


def _deep(fine: Tensor) -> Tensor:
    """(B, C, X, Y, Z) → (B, 8C, X/8, Y/8, Z/8): means of the eighths of each block of 8 voxels a side."""
    pad = [p for n in reversed(fine.shape[2:]) for p in (0, -n % 8)]
    pooled = F.avg_pool3d(F.pad(fine, pad), 4)
    b, c, x, y, z = pooled.shape
    parts = pooled.reshape(b, c, x // 2, 2, y // 2, 2, z // 2, 2)
    return parts.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(b, 8 * c, x // 2, y // 2, z // 2)
