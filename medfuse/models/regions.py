"""The resampler: dense predictions choose where to look, and each region becomes one feature vector with a
place.

Regions are the dense classes (organs, ducts, stones, fluid) and up to ``MAX_LESIONS`` lesion candidates
(connected components of the lesion probability). A region's features are means over its soft mask of the
encoder's fine and deep features, the class probabilities, and the normalised intensities inside and in a ring
around it. Places are relative to the organ (its centre and extent), never to the scanner's origin.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

MAX_LESIONS = 6
CANDIDATE_THRESHOLD = 0.30
Component = tuple[np.ndarray, tuple[slice, ...]]  # a lesion candidate: its mask in its box, and the box


@dataclass
class Regions:
    """features (N, F) float32; valid (N,) bool; place (N, 4): organ-relative x, y, z and log size; kind (N,)
    int class or len(dense) for a lesion; frame (N,) network frame (ultrasound) or 0; boxes: voxel box (lo,
    hi) of each lesion."""

    features: np.ndarray
    valid: np.ndarray
    place: np.ndarray
    kind: np.ndarray
    frame: np.ndarray


def feature_size(roles: int, classes: int, filters: int) -> int:
    """Numbers that describe one region."""
    return filters + filters + filters * 8 + classes + 3 * roles + roles + 4


def _mean(weights: Tensor, maps: Tensor) -> Tensor:
    """Mean of maps (C, V) under each weight (N, V) → (N, C)."""
    return weights @ maps.T / weights.sum(1, keepdim=True).clamp_min(1e-4)


def _mean_and_deviation(weights: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of maps (C, V) under each weight (N, V) → (N, C) twice."""
    mean = _mean(weights, maps)
    return mean, (_mean(weights, maps**2) - mean**2).clamp_min(0).sqrt()


def lesion_components(probability: Float[np.ndarray, "*s"]) -> list[Component]:
    """Connected components above the candidate threshold, most probable mass first: (mask in its box,
    box)."""
    labels, n = ndimage.label(probability > CANDIDATE_THRESHOLD)
    boxes = ndimage.find_objects(labels)
    found = []
    for i, box in enumerate(boxes):
        mask = labels[box] == i + 1
        found.append((float(probability[box][mask].sum()), mask, box))
    found.sort(key=lambda f: -f[0])
    return [(mask, box) for mass, mask, box in found if mass > 0.4]


def _near(inside: Tensor) -> Tensor:
    """Where a box of five voxels a side meets ``inside`` (N, *S), axis by axis. Shifted copies joined by *or*
    give what a maximum over the box does, and are far cheaper."""
    for axis in range(1, inside.ndim):
        grown = inside.clone()
        for step in (1, 2):
            n = inside.shape[axis] - step
            if n > 0:
                grown.narrow(axis, step, n).logical_or_(inside.narrow(axis, 0, n))
                grown.narrow(axis, 0, n).logical_or_(inside.narrow(axis, step, n))
        inside = grown
    return inside


def _ring(mask: np.ndarray) -> np.ndarray:
    near = ndimage.binary_dilation(mask, iterations=1)
    return ndimage.binary_dilation(near, iterations=2) & ~near


@torch.no_grad()
def extract(
    values: Float[Tensor, " r *s"],
    present: Bool[Tensor, " r"],
    logits: Float[Tensor, " k *s"],
    fine: Float[Tensor, " c *s"],
    deep: Float[Tensor, " deep *part"],
    *,
    organ: int,
    lesions: list[int],
) -> tuple[Regions, Float32[np.ndarray, " k *s"], list[Component]]:
    """Pool one volume, or one ultrasound frame.

    values (R, *S), present (R,), logits (K, *S), fine (C, *S), deep (8C, *S/8). Returns the regions, the
    class probabilities (K, *S) as float32 and the lesion components.
    """
    spatial = values.shape[1:]
    probability = logits.float().softmax(0)
    classes = probability.shape[0]
    p = probability.cpu().numpy()
    lesion_p = p[lesions].sum(0)
    components = lesion_components(lesion_p)[:MAX_LESIONS]
    organ_ids = [c for c in range(1, classes) if c not in lesions]
    weights, rings = _soft_masks(probability[organ_ids].cpu(), lesion_p, components)
    n = len(weights)
    flat = weights.reshape(n, -1)
    size = flat.sum(1)
    valid = size > 0.5
    place = _places(flat, spatial, p[organ] + lesion_p)
    features = torch.cat(
        [
            _appearance(weights, rings, probability.cpu(), values, present, fine, deep),
            size.clamp_min(1e-3).log()[:, None],
            place[:, :3],
        ],
        1,
    )
    features[~valid] = 0
    place[~valid] = 0
    kind = np.array([*organ_ids, *[classes] * MAX_LESIONS])
    regions = Regions(features.numpy(), valid.numpy(), place.numpy(), kind, np.zeros(n, np.int64))
    return regions, p, components


def _soft_masks(organs: Tensor, lesion_p: np.ndarray, components: list[Component]) -> tuple[Tensor, Tensor]:
    """The soft mask of each region (N, *S), organs then lesion candidates, and the ring around each."""
    spatial = tuple(organs.shape[1:])
    n = len(organs) + MAX_LESIONS
    weights = torch.zeros(n, *spatial)
    rings = torch.zeros(n, *spatial)
    if len(organs):  # none where the lesions are all that is labelled
        weights[: len(organs)] = torch.where(organs > 0.3, organs, torch.zeros_like(organs))
        rings[: len(organs)] = (_near(organs > 0.5) & (organs < 0.3)).float()
    for r, (mask, box) in enumerate(components, start=len(organs)):
        weights[r][box] = torch.from_numpy(lesion_p[box] * mask).float()
        grown = tuple(slice(max(0, s.start - 3), s.stop + 3) for s in box)
        whole = np.zeros([g.stop - g.start for g in grown], bool)
        inner = tuple(slice(s.start - g.start, s.stop - g.start) for s, g in zip(box, grown, strict=True))
        whole[inner] = mask
        clipped = tuple(slice(0, min(g.stop, size) - g.start) for g, size in zip(grown, spatial, strict=True))
        rings[r][grown] = torch.from_numpy(_ring(whole)[clipped].astype(np.float32))
    return weights, rings


def _appearance(
    weights: Tensor,
    rings: Tensor,
    probability: Tensor,
    values: Tensor,
    present: Tensor,
    fine: Tensor,
    deep: Tensor,
) -> Tensor:
    """How each region looks: mean and deviation of the fine features, mean of the deep ones, of the class
    probabilities and of the intensities, their deviation and difference from the ring, and the roles that
    are there (N, `feature_size` - 4)."""
    n = len(weights)
    c = fine.shape[0]
    flat = weights.reshape(n, -1)
    maps = torch.cat([fine.float().cpu().reshape(c, -1), values.float().cpu().reshape(values.shape[0], -1)])
    mean, deviation = _mean_and_deviation(flat, maps)
    around = _mean(rings.reshape(n, -1), maps[c:])
    class_mean = _mean(flat, probability.reshape(len(probability), -1))
    gate = present.float().cpu()[None].expand(n, -1)
    return torch.cat(
        [
            mean[:, :c],
            deviation[:, :c],
            _coarse_mean(weights, deep),
            class_mean,
            mean[:, c:] * gate,
            deviation[:, c:] * gate,
            (mean[:, c:] - around) * gate,
            gate,
        ],
        1,
    )


def _coarse_mean(weights: Tensor, deep: Tensor) -> Tensor:
    """(N, C) mean of the deep features (C, *S/8) under each soft mask (N, *S)."""
    coarse: Callable = F.adaptive_avg_pool3d if weights.ndim == 4 else F.adaptive_avg_pool2d
    low = coarse(weights[None], tuple(deep.shape[1:]))[0].reshape(len(weights), -1)
    return _mean(low, deep.float().cpu().reshape(deep.shape[0], -1))


def _places(weights: Tensor, spatial: tuple[int, ...], organ: np.ndarray) -> Tensor:
    """(N, 4): centre relative to the organ's centre in units of its extent, and log size. 2D gets z = 0."""
    axes = [torch.arange(s, dtype=torch.float32) for s in spatial]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij")).reshape(len(spatial), -1)
    centre = _mean(weights, grid)
    organ_w = torch.from_numpy(np.where(organ > 0.4, organ, 0)).float().reshape(1, -1)
    if float(organ_w.sum()) < 5:  # no organ in view: relative to the image
        middle = torch.tensor(spatial, dtype=torch.float32)[None] / 2
        extent = middle / 2
    else:
        middle, extent = _mean_and_deviation(organ_w, grid)
    out = torch.zeros(len(weights), 4)
    out[:, : len(spatial)] = ((centre - middle) / extent.clamp_min(1.0)).clamp(-6, 6)
    out[:, 3] = weights.sum(1).clamp_min(1e-3).log()
    return out
