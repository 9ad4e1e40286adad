"""When the frames of a cine follow one another, by the attribute that its header points to."""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset

from .acquired import number

POINTED = {0x00181063: "FrameTime", 0x00181065: "FrameTimeVector"}
UNEVEN = 0.05  # share of the mean beyond which frame times vary


def _pointed(ds: Dataset) -> str:
    """The attribute of time that FrameIncrementPointer names (PS3.3 C.7.6.5.1.1), empty where it names
    none."""
    pointer = ds.get("FrameIncrementPointer")
    tags = [pointer] if isinstance(pointer, int) or not pointer else list(pointer)
    return next((POINTED[t] for t in tags if t in POINTED), "")


def _steps(ds: Dataset, key: str) -> list[float]:
    """Positive milliseconds from frame to frame of FrameTime or FrameTimeVector, whose first value is no
    step; empty where they are none."""
    value = ds.get(key)
    if value is None or value == "":
        return []
    values = [value] if isinstance(value, (int, float, str)) else list(value)
    try:
        numbers = [float(v) for v in (values[1:] if key == "FrameTimeVector" else values)]
    except (TypeError, ValueError):
        return []  # a time that is no number is no time; the next attribute may have one
    mean = float(np.mean(numbers)) if numbers else 0.0
    return numbers if 0 < mean < np.inf else []


def frame_steps(ds: Dataset) -> list[float]:
    """Milliseconds from frame to frame, one or all of them: by the attribute that FrameIncrementPointer
    names, else FrameTime, FrameTimeVector, CineRate, RecommendedDisplayFrameRate. Empty where none says
    it."""
    for key in filter(None, (_pointed(ds), "FrameTime", "FrameTimeVector")):
        steps = _steps(ds, key)
        if steps:
            return steps
    for key in ("CineRate", "RecommendedDisplayFrameRate"):
        rate = number(ds, key)
        if rate is not None and rate > 0:
            return [1000.0 / rate]
    return []


def frame_ms(ds: Dataset) -> float | None:
    """Mean milliseconds between frames, see `frame_steps`; None where the header does not say it."""
    steps = frame_steps(ds)
    return float(np.mean(steps)) if steps else None


def uneven(ds: Dataset) -> str:
    """What there is to say of frames that do not follow one another evenly; empty where they do."""
    steps = frame_steps(ds)
    if not steps or max(steps) - min(steps) <= UNEVEN * float(np.mean(steps)):
        return ""
    low, high = min(steps), max(steps)
    return f"frame times vary from {low:g} to {high:g} ms; their mean stands for all"
