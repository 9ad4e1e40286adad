"""PNG and JPEG with a stated modality: pixels without geometry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image as Picture

from ..case import Image, Source
from ..errors import UnreadableError
from .nifti import sha256

SUFFIXES = (".png", ".jpg", ".jpeg")


def read_picture(path: Path, modality: str) -> Image:
    """One still. Only ultrasound is taken: a CT or MR picture has lost its values and its place."""
    if modality != "US":
        raise UnreadableError(
            path,
            f"a picture of {modality or 'unknown modality'} has no HU, spacing or place; give DICOM or NIfTI",
        )
    try:
        with Picture.open(path) as p:
            pixels = np.asarray(p.convert("RGB"))
    except (OSError, ValueError) as e:
        raise UnreadableError(path, "not a readable picture; the file is damaged or of another kind") from e
    if np.array_equal(pixels[..., 0], pixels[..., 1]) and np.array_equal(pixels[..., 0], pixels[..., 2]):
        pixels = pixels[..., 0]
    return Image("US", np.ascontiguousarray(pixels)[None], Source(str(path), sha256(path)), role="still")
