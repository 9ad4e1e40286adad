"""Words burned into the voxels of a NIfTI file. Its axes may run either way, so a slice is read as it lies
and in its mirror images; a network that finds lines of any direction says which slices are worth it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from . import lettering
from .lettering import Box
from .pixels import blacken

COLOUR = ("R", "G", "B")
READABLE = "biuf"  # kinds of numbers that make a picture
NOT_LOOKED = f"words in the image were not looked for ({lettering.HELP})"
READ = "words too faint, too small or too hidden to be read, and words that no slice as acquired shows"


def black_words(path: Path, voxels: np.ndarray, spacing: Sequence[float]) -> tuple[list[Box], str]:
    """Make words black in place; their boxes (in pixels of a slice) and what could not be judged. voxels:
    (…, K, J, I) of plain or RGB(A) values, contiguous; slices lie across the axis of the widest ``spacing``
    (of I, J, K), the last where several are as wide. Raises UnreadableError where words are still read at
    last."""
    if not lettering.available():
        return [], NOT_LOOKED
    plain = _as_numbers(voxels)
    if plain is None:
        return [], "words in the image were not looked for: its voxels make no picture"
    slices = plain[None]
    if voxels.ndim > 2:
        across = max(range(3), key=lambda n: (round(abs(float(spacing[n])), 3), n))
        slices = np.moveaxis(plain, voxels.ndim - 1 - across, 0)
    boxes: list[Box] = []
    size = 2 + plain.ndim - voxels.ndim  # axes of one picture
    for one in slices:  # (times, H, W), with colours behind where there are any
        frames = one.reshape(-1, *one.shape[-size:])
        if lettering.legible(frames.shape[1:]):
            boxes += blacken(path, frames, np.nan_to_num(frames).min(), read=words_either_way)
    return boxes, READ


def words_either_way(picture: np.ndarray) -> list[Box]:
    """Boxes around words in a picture (H, W) or (H, W, 3) that may be mirrored."""
    clean = np.nan_to_num(picture, posinf=0, neginf=0) if picture.dtype.kind == "f" else picture
    if not lettering.lines_in(clean):
        return []
    height, width = clean.shape[:2]
    found: set[Box] = set()
    for down in (False, True):
        for across in (False, True):
            view = clean[:: -1 if down else 1, :: -1 if across else 1]
            for x0, y0, x1, y1 in lettering.words_in(view):
                xs = (width - 1 - x1, width - 1 - x0) if across else (x0, x1)
                ys = (height - 1 - y1, height - 1 - y0) if down else (y0, y1)
                found.add((xs[0], ys[0], xs[1], ys[1]))
    return sorted(found)


def _as_numbers(voxels: np.ndarray) -> np.ndarray | None:
    """The voxels as plain numbers on the same memory, RGB(A) with three colours as last axis; None where they
    are neither."""
    if voxels.dtype.names is None:
        return voxels if voxels.dtype.kind in READABLE and voxels.dtype.itemsize <= 8 else None
    if voxels.dtype.names[:3] != COLOUR:
        return None
    return voxels.view(np.uint8).reshape(*voxels.shape, -1)[..., :3]
