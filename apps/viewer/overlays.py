"""What somebody drew over an image (DICOM overlay 60xx), for the browser: a bit a voxel."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from isal import igzip

from medfuse.case import Image
from medfuse.display.views import view_of


def write(image: Image, folder: Path, n: int) -> bool:
    """Write ``n.overlay.gz``: bits in the order of the pixels as displayed, the lowest of a byte first.
    Whether there is anything to draw."""
    if image.overlay is None or not image.overlay.any():
        return False
    drawn = image.overlay
    if image.kind != "cine":
        shown = view_of(replace(image, pixels=drawn.astype(np.uint8), overlay=None))
        drawn = shown.pixels.transpose(2, 1, 0)
    bits = np.packbits(drawn.ravel().astype(bool), bitorder="little")
    (folder / f"{n}.overlay.gz").write_bytes(igzip.compress(bits.tobytes(), compresslevel=1))
    return True
