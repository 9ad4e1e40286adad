"""MP4, AVI, GIF and their like with a stated modality: the frames of a cine, and their times.

A film says nothing of a patient, a side or millimetres. Its container is what its ending says.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..case import Image, Source
from ..errors import UnreadableError
from ..modalities import cines
from ..settings import settings
from .child import ChildFailed, children
from .frame_times import UNEVEN
from .nifti import sha256
from .streams import Loaded, film_frames

# ending → FFmpeg's demuxer
CONTAINERS = {
    ".mp4": "mov",
    ".m4v": "mov",
    ".mov": "mov",
    ".avi": "avi",
    ".mkv": "matroska",
    ".webm": "matroska",
    ".mpg": "mpeg",
    ".mpeg": "mpeg",
    ".gif": "gif",
}
SUFFIXES = tuple(CONTAINERS)


def read_film(path: Path, modality: str) -> Image:
    """A cine (T, H, W) or (T, H, W, 3) uint8 of a cine's modality. Raises UnreadableError for another
    modality, and for what cannot be decoded whole."""
    if modality not in cines():
        raise UnreadableError(
            path,
            f"a film of {modality or 'unknown modality'} has no HU, spacing or place; give DICOM or NIfTI"
            + ("" if modality else ", or say --us where it is ultrasound"),
        )
    try:
        loaded = children().run(_load, path, limit=settings().decode_timeout_s)
    except ChildFailed as e:
        raise UnreadableError(path, str(e)) from e
    if isinstance(loaded, str):
        raise UnreadableError(path, loaded)
    frames, times, codec = loaded
    if all(np.array_equal(frames[..., 0], frames[..., c]) for c in (1, 2)):
        frames = np.ascontiguousarray(frames[..., 0])
    step, uneven = _step_ms(times)
    said = f"a film ({codec}), maybe compressed with loss: side, patient and mm are unknown"
    return Image(
        modality,
        frames,
        Source(str(path), sha256(path)),
        role="cine" if len(frames) > 1 else "still",
        frame_ms=step,
        warnings=(said, uneven) if uneven else (said,),
    )


def _step_ms(times: list[float]) -> tuple[float | None, str]:
    """The mean step in ms, None where the container says none; and a sentence where steps differ."""
    steps = 1000 * np.diff(times)
    if not len(steps) or not np.isfinite(steps).all() or (steps <= 0).any():
        return None, ""
    mean = float(steps.mean())
    if np.abs(steps - mean).max() <= UNEVEN * mean:
        return mean, ""
    return mean, f"frame times vary from {steps.min():.0f} to {steps.max():.0f} ms; their mean is used"


def _load(path: Path) -> Loaded | str:
    """See `streams.film_frames`. Runs in a child."""
    with path.open("rb") as file:
        return film_frames(file, CONTAINERS[path.suffix.lower()])
