"""Words burned into a picture, read by RapidOCR (the extra ``ocr``): networks that lie in its package, on the
CPU.

What is found is where words stand, never the words: nothing read here is kept or written.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np

Box = tuple[int, int, int, int]  # x0, y0, x1, y1, both ends within
SMALLEST = 32  # pixels: no name is legible in a picture that is smaller both ways
LARGEST = 4096  # pixels of the longer side; a larger picture is read at this size
SURE = 0.5  # score of a reading from which it counts
LETTERS = 2  # letters or digits of it at least: a side marker alone is no name
BRIGHTEST = 0.97  # of the range: words are drawn at full white over noise that is rarely as bright
MOST_BRIGHT = 0.3  # of the picture: where more is as bright, those pixels spell nothing
TAIL = 0.5  # per cent at either end of the grey values that one rendering leaves out
HELP = "pip install 'medfuse[ocr]'"


def available() -> bool:
    """Whether the package that reads words is installed and can be loaded."""
    return find_spec("rapidocr_onnxruntime") is not None and _reader() is not None


@cache
def _reader() -> Callable[..., Any] | None:
    """The networks, loaded once a process; None where a library of the system that they need is missing."""
    try:
        from rapidocr_onnxruntime import RapidOCR
    except ImportError:
        logging.getLogger(__name__).warning("words in pictures cannot be read here", exc_info=True)
        return None
    logging.getLogger("RapidOCR").setLevel(logging.ERROR)  # it tells of each picture without words
    return RapidOCR(intra_op_num_threads=1, max_side_len=LARGEST)


def legible(shape: tuple[int, ...]) -> bool:
    """Whether a picture (H, W, …) is large enough for a word."""
    return max(shape[:2]) >= SMALLEST


def words_in(picture: np.ndarray) -> list[Box]:
    """Boxes around words in one picture, (H, W) of any grey values or (H, W, 3), with a margin of a third of
    a letter above and below and one letter at the ends, where detection tends to stop short."""
    reader = _reader()
    if reader is None or not legible(picture.shape):
        return []
    boxes = []
    for view in _views(picture):
        found, _ = reader(view, use_cls=False, text_score=SURE)
        for corners, text, _score in found or []:
            if sum(c.isalnum() for c in text) >= LETTERS:
                boxes.append(_around(np.asarray(corners), picture.shape))
    return sorted(set(boxes))


def _views(picture: np.ndarray) -> list[np.ndarray]:
    """Renderings (H, W, 3) uint8 in which words may stand out: the whole range of values, the range without
    its ends where a few values stretch it, and the brightest values alone."""
    values = picture.astype(np.float32)
    low, high = float(values.min()), float(values.max())
    if high <= low:
        return []
    views = [_eight_bits(values, low, high)]
    inner_low, inner_high = (float(v) for v in np.percentile(values, (TAIL, 100 - TAIL)))
    if 0 < inner_high - inner_low < 0.5 * (high - low):
        views.append(_eight_bits(values, inner_low, inner_high))
    grey = values if values.ndim == 2 else values.max(-1)
    bright = grey >= low + BRIGHTEST * (high - low)
    if 0 < bright.mean() < MOST_BRIGHT:
        views.append(_eight_bits(bright.astype(np.float32), 0, 1))
    return views


def _eight_bits(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """``low`` … ``high`` as 0 … 255 in three channels."""
    scaled = np.clip((values - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    return np.repeat(scaled[..., None], 3, -1) if scaled.ndim == 2 else scaled


def _around(corners: np.ndarray, shape: tuple[int, ...]) -> Box:
    """The upright box of a quadrangle (4, 2) of x, y, with its margin, inside the picture."""
    x0, y0 = corners.min(0)
    x1, y1 = corners.max(0)
    letter = min(x1 - x0, y1 - y0)
    thin, long = 2 + letter / 3, 2 + letter
    across, along = (thin, long) if x1 - x0 >= y1 - y0 else (long, thin)
    return (
        max(0, int(x0 - along)),
        max(0, int(y0 - across)),
        min(shape[1] - 1, int(x1 + along + 1)),
        min(shape[0] - 1, int(y1 + across + 1)),
    )
