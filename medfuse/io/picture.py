"""PNG and JPEG with a stated modality: pixels without geometry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image as Picture

from ..case import Image, Source
from ..errors import UnreadableError
from ..modalities import cines
from .child import ChildFailed, children
from .nifti import sha256

SUFFIXES = (".png", ".jpg", ".jpeg")


def read_picture(path: Path, modality: str) -> Image:
    """One still of a cine's modality. A picture of a volume (CT, MR) has lost its values and its place."""
    if modality not in cines():
        raise UnreadableError(
            path,
            f"a picture of {modality or 'unknown modality'} has no HU, spacing or place; give DICOM or NIfTI",
        )
    try:
        pixels = children().run(_load, path)
    except ChildFailed as e:
        raise UnreadableError(path, str(e)) from e
    if isinstance(pixels, str):
        raise UnreadableError(path, pixels)
    if np.array_equal(pixels[..., 0], pixels[..., 1]) and np.array_equal(pixels[..., 0], pixels[..., 2]):
        pixels = pixels[..., 0]
    return Image(modality, np.ascontiguousarray(pixels)[None], Source(str(path), sha256(path)), role="still")


def _load(path: Path) -> np.ndarray | str:
    """(H, W, 3) uint8. Runs in a child."""
    try:
        with Picture.open(path) as p:
            return np.asarray(p.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Picture.DecompressionBombError):
        return "not a readable picture; the file is damaged or of another kind"
