"""Overlays (groups 60xx): what somebody drew over the pixels, as a mask beside them and never in them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
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


def overlay_of(
    paths: Sequence[Path], headers: Sequence[Dataset], shape: tuple[int, int, int]
) -> np.ndarray | None:
    """(F, H, W) bool: where something is drawn over the frames of these files, one after another; None where
    nothing is, or where it cannot be read."""
    if not any(map(has_overlay, headers)):
        return None
    out = np.zeros(shape, bool)
    each = shape[0] // len(paths)
    for n, (path, header) in enumerate(zip(paths, headers, strict=True)):
        if has_overlay(header):
            try:
                drawn = children().run(_read, path, (each, *shape[1:]))
            except ChildFailed:
                continue
            out[n * each : (n + 1) * each] = drawn
    return out if out.any() else None


def said(overlay: np.ndarray | None, headers: Sequence[Dataset]) -> list[str]:
    """What there is to say of the overlays of an image."""
    if overlay is None:
        return ["its overlay (60xx) is empty or cannot be read"] if any(map(has_overlay, headers)) else []
    frames = int(overlay.any((1, 2)).sum())
    return [f"something is drawn over {frames} of its slices (overlay 60xx) and kept as a mask beside them"]


def _read(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """(F, H, W) bool of one file, all its overlays together. Runs in a child; a damaged one is empty."""
    out = np.zeros(shape, bool)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = pydicom.dcmread(path, force=True)
        for group in GROUPS:
            try:
                _add(ds, group, out)
            except (MemoryError, RecursionError):
                raise
            except Exception:  # noqa: S112  a damaged overlay draws nothing
                continue
    return out


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
