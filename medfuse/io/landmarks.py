"""Landmarks of two images from a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import UserError


def read_landmarks(path: Path) -> np.ndarray:
    """(N, 3) RAS+ mm from a CSV of x,y,z, with or without a header."""
    rows = []
    for n, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        parts = line.replace(";", ",").replace("\t", ",").split(",")
        try:
            rows.append([float(v) for v in parts[:3]])
        except ValueError as e:
            if n > 1:
                raise UserError(f"{path} line {n}: {line!r} is not x,y,z in mm") from e
    if not rows:
        raise UserError(f"{path}: holds no point; one line a point, x,y,z in RAS mm")
    return np.array(rows)
