"""What a volume file holds, before anybody says what its axes mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

LARGEST_MM = 50.0  # a voxel's edge; where no unit is stated, a larger one is no mm

SMALLEST_MM = 0.02  # where no unit is stated, of smaller ones it is said that they were taken for mm

Axis = Literal["", "colour", "time", "space"]


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What a file holds.

    data: the axes of space, then time, as stored; with ``colour`` a last axis of 3 or 4 channels. affine: (4,
    4) to RAS+ mm where the file has one; zooms: mm a voxel, along the axes of space; frame_ms: 0 where not
    said; last: what the header says that the last axis is, "" where it does not; note: what was changed on
    the way, "" where nothing was.
    """

    data: np.ndarray
    affine: np.ndarray | None
    zooms: tuple[float, ...]
    colour: bool = False
    descrip: str = ""
    frame_ms: float = 0.0
    last: Axis = ""
    note: str = ""


def unit_note(unit_mm: float) -> str:
    """What there is to say of places that were stored in a unit of so many mm."""
    return "" if unit_mm == 1.0 else f"its places are in units of {unit_mm:g} mm; they were made mm"


def no_mm(shape: tuple[int, ...], zooms: tuple[float, ...]) -> str:
    """Why voxels whose header states no unit of length are not in mm, empty where they may be. zooms: as
    stored, along the axes of ``shape``."""
    edges = [abs(z) for n, z in zip(shape[:2], zooms, strict=False) if n > 1]  # the third may be time
    if not edges or max(edges) <= LARGEST_MM:
        return ""
    return f"states no unit of length, and in mm its voxels would be {max(edges):g} mm long; state the unit"


def taken_as_mm(zooms: tuple[float, ...]) -> str:
    """What there is to say of small voxels whose header states no unit of length; empty of others."""
    edge = max((abs(z) for z in zooms[:2]), default=1.0)
    return f"states no unit of length: its {edge:g} are taken for mm" if 0 < edge < SMALLEST_MM else ""
