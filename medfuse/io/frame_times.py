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
    """Milliseconds from frame to frame of FrameTime or FrameTimeVector, whose first value is no step; empty
    where they are none, run backwards, or are not one a frame."""
    value = ds.get(key)
    if value is None or value == "":
        return []
    values = [value] if isinstance(value, (int, float, str)) else list(value)
    if key == "FrameTimeVector" and len(values) != _frames(ds, len(values)):
        return []
    try:
        numbers = [float(v) for v in (values[1:] if key == "FrameTimeVector" else values)]
    except (TypeError, ValueError):
        return []  # a time that is no number is no time; the next attribute may have one
    whole = numbers and bool(np.isfinite(numbers).all()) and min(numbers) >= 0
    return numbers if whole and sum(numbers) > 0 else []


def _frames(ds: Dataset, unsaid: int) -> int:
    return int(number(ds, "NumberOfFrames") or unsaid)


def unused(ds: Dataset) -> str:
    """Why a FrameTimeVector is not used; empty where it may be, or where there is none."""
    value = ds.get("FrameTimeVector")
    values = [value] if isinstance(value, (int, float, str)) else list(value or ())
    frames = _frames(ds, len(values))
    if len(values) < 2 or frames == 1 or _steps(ds, "FrameTimeVector"):
        return ""
    if len(values) != frames:
        return f"its FrameTimeVector has {len(values)} times for {frames} frames and is not used"
    return "its FrameTimeVector holds times that run backwards or are none, and is not used"


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
