"""The nets and blocks of MONAI that medfuse builds on, imported without what they do not need.

Importing MONAI imports every net, transform and plot that it has, and with them transformers, scikit-learn,
pandas, matplotlib and scipy.signal where those are installed: half of what the import costs, for parts not
used here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

NOT_NEEDED = ("transformers", "sklearn", "pandas", "matplotlib", "scipy.signal")


@contextmanager
def hidden(*packages: str) -> Iterator[None]:
    """While inside, those of ``packages`` that were not imported before cannot be."""
    absent = [p for p in packages if p not in sys.modules]
    for package in absent:
        sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        for package in absent:
            del sys.modules[package]


with hidden(*NOT_NEEDED):
    from monai.inferers import sliding_window_inference
    from monai.networks import nets
    from monai.networks.nets import AutoencoderKL, DenseNet, SegResNet, ViT, resnet
    from monai.networks.nets.segresnet_ds import SegResEncoder
    from monai.networks.nets.swin_unetr import SwinTransformer

__all__ = [
    "AutoencoderKL",
    "DenseNet",
    "SegResEncoder",
    "SegResNet",
    "SwinTransformer",
    "ViT",
    "nets",
    "resnet",
    "sliding_window_inference",
]
