"""What only ultrasound headers say: calibrated regions, frame times, colour."""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset

from ..case import Region

KINDS = {1: "2d", 2: "m-mode", 3: "doppler", 4: "doppler", 5: "other"}
CENTIMETRES = 3


def regions(ds: Dataset) -> tuple[Region, ...]:
    """SequenceOfUltrasoundRegions (PS3.3 C.8.5.5): only regions whose units are centimetres become millimetres."""
    out = []
    for item in ds.get("SequenceOfUltrasoundRegions", []) or []:
        try:
            units = (int(item.PhysicalUnitsXDirection), int(item.PhysicalUnitsYDirection))
            delta = (abs(float(item.PhysicalDeltaX)), abs(float(item.PhysicalDeltaY)))
            box = tuple(
                int(item[k].value)
                for k in (
                    "RegionLocationMinX0",
                    "RegionLocationMinY0",
                    "RegionLocationMaxX1",
                    "RegionLocationMaxY1",
                )
            )
            kind = KINDS.get(int(item.RegionSpatialFormat), "other")
            if kind == "2d" and int(item.get("RegionDataType", 1)) == 2:
                kind = "colour"
        except (AttributeError, KeyError, TypeError, ValueError):
            continue  # an incomplete region calibrates nothing; the image stays readable without it
        if kind in ("2d", "colour") and (units != (CENTIMETRES, CENTIMETRES) or min(delta) <= 0):
            continue
        box = (
            max(0, box[0]),
            max(0, box[1]),
            min(int(ds.Columns) - 1, box[2]),
            min(int(ds.Rows) - 1, box[3]),
        )
        if box[2] <= box[0] or box[3] <= box[1]:
            continue
        out.append(Region(box, (delta[0] * 10, delta[1] * 10), kind))  # type: ignore[arg-type]
    return tuple(out)


def frame_ms(ds: Dataset) -> float | None:
    """Milliseconds between frames: FrameTime, the mean of FrameTimeVector, CineRate, RecommendedDisplayFrameRate."""
    time = ds.get("FrameTime")
    if time:
        return float(time)
    vector = ds.get("FrameTimeVector")
    if vector is not None and not isinstance(vector, (int, float, str)) and len(vector) > 1:
        return float(np.mean([float(v) for v in vector][1:]))
    for key in ("CineRate", "RecommendedDisplayFrameRate"):
        if ds.get(key):
            return 1000.0 / float(ds.get(key))
    return None
