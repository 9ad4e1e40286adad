"""What is installed here: versions, devices, bundles, codecs."""

from __future__ import annotations

import platform
from importlib.metadata import version

from .. import __version__
from ..bundles.registry import bundle_hash, list_bundles
from ..io.decode import transfer_syntaxes

PACKAGES = ("torch", "monai", "numpy", "pydicom", "nibabel", "SimpleITK", "SQLAlchemy")


def collect_json() -> dict:
    """Versions, devices, bundles and codecs of this installation."""
    import torch

    devices = ["cpu"] + [
        f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())
    ]
    return {
        "versions": {
            "medfuse": __version__,
            "python": platform.python_version(),
            **{p: version(p) for p in PACKAGES},
        },
        "devices": devices,
        "bundles": [{"name": p.name, "path": str(p), "hash": bundle_hash(p)} for p in list_bundles()],
        "codecs": transfer_syntaxes(),
    }
