"""Overlays (groups 60xx): what somebody drew over the pixels, as a mask beside them and never in them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from .child import ChildFailed, children

GROUPS = range(0x6000, 0x6020, 2)
# OverlayRows of each group: what says that there is one
ROWS = {f"OverlayRows{group:04X}": group << 16 | 0x0010 for group in GROUPS}


def has_overlay(ds: Dataset) -> bool:
    """Whether a header says that something is drawn over its pixels."""
    return any(tag in ds for tag in ROWS.values())


@dataclass(frozen=True, kw_only=True)
class Overlay:
    """What is drawn over the frames of an image.

    mask: (F, H, W) bool, one frame after another; None where nothing is drawn, or nothing of it can be read.
    notes: what there is to say of it.
    """

    mask: np.ndarray | None = None
    notes: tuple[str, ...] = ()


def overlay_of(paths: Sequence[Path], headers: Sequence[Dataset], shape: tuple[int, int, int]) -> Overlay:
    """What is drawn over the frames (F, H, W) of these files, one after another. A file whose overlay cannot
    be read is named, as what is drawn over it is missing in the mask."""
    if not any(map(has_overlay, headers)):
        return Overlay()
    out = np.zeros(shape, bool)
    each = shape[0] // len(paths)
    unread = []
    for n, (path, header) in enumerate(zip(paths, headers, strict=True)):
        if has_overlay(header):
            try:
                drawn, wrong = children().run(_read, path, (each, *shape[1:]))
                out[n * each : (n + 1) * each] = drawn
            except ChildFailed as e:
                wrong = str(e)
            if wrong:
                unread.append(f"{path.name}: {wrong}")
    return Overlay(mask=out if out.any() else None, notes=tuple(_notes(out, unread)))


def _notes(mask: np.ndarray, unread: list[str]) -> list[str]:
    """What there is to say of a mask, and of the files whose overlay cannot be read."""
    frames = int(mask.any((1, 2)).sum())
    said = []
    if frames:
        said.append(
            f"something is drawn over {frames} of its slices (overlay 60xx) and kept as a mask beside them"
        )
    if unread:
        said.append(
            f"what is drawn over {len(unread)} of its files (overlay 60xx) cannot be read and is missing "
            f"in that mask, first {unread[0]}"
        )
    return said or ["its overlay (60xx) is empty: nothing is drawn in it"]


def _read(path: Path, shape: tuple[int, int, int]) -> tuple[np.ndarray, str]:
    """(F, H, W) bool of one file, all its overlays together, and why one of them cannot be read, where one
    cannot. Runs in a child."""
    out = np.zeros(shape, bool)
    wrong = ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = pydicom.dcmread(path, force=True)
        for group in GROUPS:
            try:
                _add(ds, group, out)
            except (MemoryError, RecursionError):
                raise
            except Exception as e:  # a damaged overlay can break any part of the parser
                said = " ".join(str(e).split())[:100]
                wrong = wrong or f"group {group:04X} is damaged ({said or type(e).__name__})"
    return out, wrong


def _add(ds: Dataset, group: int, out: np.ndarray) -> None:
    if (group, 0x0010) not in ds:
        return
    if (group, 0x3000) in ds:
        drawn = ds.overlay_array(group)
        drawn = drawn if drawn.ndim == 3 else drawn[None]
    else:  # of before 2004: a bit of the pixels above the values
        bit = int(ds[group, 0x0102].value)
        stored = np.frombuffer(ds.PixelData, f"<u{int(ds.BitsAllocated) // 8}")
        drawn = (stored[: out.size].reshape(out.shape) >> bit) & 1
    row, column = (int(v) - 1 for v in (ds[group, 0x0050].value if (group, 0x0050) in ds else (1, 1)))
    first = int(ds[group, 0x0051].value) - 1 if (group, 0x0051) in ds else 0
    if len(drawn) == 1 and (group, 0x0015) not in ds:
        drawn = np.broadcast_to(drawn, (len(out), *drawn.shape[1:]))  # one for all frames
    for n, frame in enumerate(drawn):
        if 0 <= first + n < len(out):
            _place(frame.astype(bool), out[first + n], row, column)


def _place(frame: np.ndarray, out: np.ndarray, row: int, column: int) -> None:
    """Draw a frame whose first pixel lies at (row, column) of ``out``, and perhaps outside."""
    top, left = max(0, row), max(0, column)
    bottom, right = min(out.shape[0], row + frame.shape[0]), min(out.shape[1], column + frame.shape[1])
    if bottom > top and right > left:
        out[top:bottom, left:right] |= frame[top - row : bottom - row, left - column : right - column]
