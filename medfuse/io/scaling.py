"""Stored values → the scanner's numbers, slice by slice, in float32."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

PHILIPS_SCALE_SLOPE = 0x2005100E


def _number(value: Any, default: float) -> float:
    """A finite number, or the default where there is none."""
    try:
        number = float(default if value in (None, "") else value)
    except (TypeError, ValueError):
        return default
    return number if np.isfinite(number) else default


def _philips(ds: Dataset) -> float:
    """Philips' private scale slope, 0 where there is none."""
    private = ds.get(PHILIPS_SCALE_SLOPE)
    is_philips = "philips" in str(ds.get("Manufacturer", "")).lower()
    return _number(private.value, 0.0) if private is not None and is_philips else 0.0


def scaled_apart(slices: Iterable[Dataset]) -> bool:
    """Whether Philips scaled these slices each to a display range of its own, so that displayed values do not
    compare."""
    seen = {
        (_number(d.get("RescaleSlope"), 1.0), _number(d.get("RescaleIntercept"), 0.0), _philips(d))
        for d in slices
    }
    return len(seen) > 1 and all(scale for *_, scale in seen)


def linear(ds: Dataset, apart: bool = False) -> tuple[float, float, str]:
    """(slope, intercept, note) of one slice.

    RescaleSlope RS and RescaleIntercept RI, PS3.3 C.7.6.16.2.9. Where Philips scaled slices ``apart``, what
    the scanner measured is (stored · RS + RI) / (RS · SS) by the private scale slope SS (2005,100E), and only
    that compares between slices (Chenevert 2014, 10.1593/tlo.13811); where all share one scaling, it is the
    same up to a constant and is left.
    """
    slope = _number(ds.get("RescaleSlope"), 1.0) or 1.0
    intercept = _number(ds.get("RescaleIntercept"), 0.0)
    scale = _philips(ds)
    if apart and scale:
        return 1 / scale, intercept / (slope * scale), "values by Philips' private scale slope (2005,100E)"
    return slope, intercept, ""


def rescale(pixels: np.ndarray, ds: Dataset, out: np.ndarray, apart: bool = False) -> str:
    """Write scaled ``pixels`` into ``out`` (float32, same shape); return what there is to say about it."""
    slope, intercept, note = linear(ds, apart)
    np.multiply(pixels, np.float32(slope), out=out, casting="unsafe")
    if intercept:
        out += np.float32(intercept)
    return note
