"""BUSI by parts: a classifier that weighs each cell of the frozen encoder's maps, learns from the image's
class alone, and so says where it sees what it says; and the pointing game, whether that lies on the lesion.

A cell has a score for benign and one for malignant (linear in its features); an image has their log mean exp
over the cells, and zero for normal: a lesion anywhere makes an image one of a lesion. No outline is ever
learned from. Evidence is the map of the class that the image was given, smoothed; it points at its maximum.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import real_encoder
import torch
from PIL import Image
from scipy.ndimage import distance_transform_edt, gaussian_filter, label, zoom
from skimage.feature import hog
from skimage.filters import threshold_otsu
from torch import Tensor, nn
from torch.nn import functional as F

LEVELS = ("40", "112", "320")
CELLS = 14  # a side
SMOOTH = 0.7  # cells, of the evidence
STEPS = 300
MANY = 64  # images a step
DECAY = 0.3
RATE = 2e-3


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a classifier says of images: probability (N, 3) and evidence (N, CELLS, CELLS) of its class."""

    probability: np.ndarray
    evidence: np.ndarray


def read(pictures: np.ndarray) -> tuple[dict[str, np.ndarray], Tensor]:
    """Of pictures (N, SIDE, SIDE) uint8: `real_encoder.features` of them and (N, CELLS², F) the encoder's
    maps beside each other on one grid; both the mean of a picture's and of its mirror image's."""
    if not real_encoder.INSTALLED:
        return real_encoder.gradients(pictures), torch.from_numpy(np.stack([_gradients(p) for p in pictures]))
    whole: dict[str, list[np.ndarray]] = {}
    parts = []
    for x in torch.from_numpy(pictures).split(real_encoder.BATCH):
        with torch.no_grad():
            one, other = real_encoder.maps(x), real_encoder.maps(x.flip(-1))
        second = real_encoder.pooled(other)
        for name, f in real_encoder.pooled(one).items():
            whole.setdefault(name, []).append((f + second[name]) / 2)
        parts.append((_cells(one) + _cells({n: m.flip(-1) for n, m in other.items()})) / 2)
    return {name: np.concatenate(rows) for name, rows in whole.items()}, torch.cat(parts)


def unlearned(pictures: np.ndarray, seed: int) -> Tensor:
    """(N, CELLS², F) of the encoder as it was before it learned anything."""
    if not real_encoder.INSTALLED:
        return torch.rand(len(pictures), CELLS**2, 8, generator=torch.Generator().manual_seed(seed))
    net = random_encoder(pictures, seed)
    with torch.no_grad():
        found = [real_encoder.maps(x, net) for x in torch.from_numpy(pictures).split(real_encoder.BATCH)]
        return torch.cat([_cells(f) for f in found])


def _cells(found: dict[str, Tensor]) -> Tensor:
    out = []
    for name in LEVELS:
        x = found[name]
        if x.shape[-1] < CELLS:
            x = F.interpolate(x, (CELLS, CELLS), mode="bilinear")
        out.append(F.adaptive_avg_pool2d(x, CELLS))
    return torch.cat(out, 1).flatten(2).transpose(1, 2)


def _gradients(picture: np.ndarray) -> np.ndarray:
    """What stands in: a cell's histogram of oriented gradients and its mean grey."""
    side = len(picture) // CELLS
    edges = hog(picture, pixels_per_cell=(side, side), cells_per_block=(1, 1)).reshape(CELLS**2, -1)
    grey = picture.reshape(CELLS, side, CELLS, side).mean((1, 3)).reshape(-1, 1) / 50
    return np.concatenate([edges, grey], 1).astype(np.float32)


def random_encoder(pictures: np.ndarray, seed: int) -> nn.Module:
    """The encoder with random weights; what its layers are normalised by is measured on pictures."""
    net = copy.deepcopy(real_encoder.network())
    torch.manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.Linear):
            module.reset_parameters()
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # a plain mean over what it sees
    net.train()
    with torch.no_grad():
        real_encoder.maps(torch.from_numpy(pictures[:: max(1, len(pictures) // 16)]), net)
    return net.eval()


class ByParts(nn.Module):
    """Trained when it is made, on cells (N, CELLS², F) and classes (N,) 0 benign, 1 malignant, 2 normal, each
    class of the same weight."""

    def __init__(self, x: Tensor, y: np.ndarray, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.mean, self.spread = x.mean((0, 1)), x.std((0, 1)) + 1e-3
        self.scores = nn.Linear(x.shape[2], 2)
        self.normal = nn.Parameter(torch.zeros(1))
        self._learn(self._scaled(x), torch.from_numpy(y))

    def _scaled(self, x: Tensor) -> Tensor:
        return ((x - self.mean) / self.spread).clamp(-6, 6)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scaled cells → logits (N, 3) and the scores of each cell (N, CELLS², 2)."""
        each = self.scores(x)
        whole = torch.logsumexp(each, 1) - math.log(each.shape[1])
        return torch.cat([whole, self.normal.expand(len(x), 1)], 1), each

    def _learn(self, x: Tensor, y: Tensor) -> None:
        weight = len(y) / (3 * torch.bincount(y, minlength=3).clamp(1))
        optimizer = torch.optim.AdamW(self.parameters(), RATE, weight_decay=DECAY)
        for _ in range(STEPS):
            at = torch.randint(len(y), (MANY,))
            loss = F.cross_entropy(self(x[at])[0], y[at], weight=weight)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    @torch.no_grad()
    def told(self, x: Tensor) -> Told:
        """Of cells that were not scaled."""
        logits, each = self(self._scaled(x))
        given = logits[:, :2].argmax(1)
        maps = each[torch.arange(len(x)), :, given].reshape(-1, CELLS, CELLS).numpy()
        smooth = [gaussian_filter(m, SMOOTH) for m in maps]
        return Told(probability=logits.softmax(1).numpy(), evidence=np.array(smooth))


def outlines(paths: list[Path]) -> dict[int, np.ndarray]:
    """Outlines that are not empty, by the number of their image: NAME_mask.png beside an image NAME.png, as
    the set is published, or in its class in a folder COPY_masks beside the copy COPY."""
    found = {}
    for n, path in enumerate(paths):
        copy_ = path.parents[1]
        homes = (path.parent, copy_.with_name(f"{copy_.name}_masks") / path.parent.name)
        for file in [h / f"{path.stem}_mask.png" for h in homes if (h / f"{path.stem}_mask.png").exists()][
            :1
        ]:
            with Image.open(file) as f:
                mask = np.asarray(f.convert("L")) > 0
            if mask.any():
                found[n] = mask
    return found


def hits(outline: np.ndarray, evidence: np.ndarray) -> float:
    """1 where the maximum of a map (H, W) of the whole image lies on the outline, else 0."""
    ratio = np.array(outline.shape) / evidence.shape
    large = zoom(evidence, ratio, order=1, grid_mode=True, mode="nearest")
    return float(outline[np.unravel_index(large.argmax(), large.shape)])


def dark_blob(picture: np.ndarray) -> np.ndarray:
    """(H, W): highest in the thick of the largest dark piece that does not touch the border."""
    soft = gaussian_filter(picture.astype(float), 0.02 * len(picture))
    pieces, n = label(soft < threshold_otsu(soft))
    edge = np.unique(np.concatenate([pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]]))
    sizes = np.bincount(pieces.ravel(), minlength=n + 1)
    sizes[0] = sizes[edge] = 0
    if not sizes.any():
        return -soft
    return distance_transform_edt(pieces == sizes.argmax())


def middle(picture: np.ndarray) -> np.ndarray:
    """(H, W): highest in the middle."""
    away = np.indices(picture.shape) - (np.array(picture.shape)[:, None, None] - 1) / 2
    return -np.hypot(*away)


SIMPLE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "middle of the image": middle,
    "largest dark blob": dark_blob,
}
