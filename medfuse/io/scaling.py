"""Stored values → the scanner's numbers, slice by slice, in float32."""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset

PHILIPS_SCALE_SLOPE, PHILIPS_SCALE_INTERCEPT = 0x2005100E, 0x2005100D


def _number(value, default: float) -> float:
    """A finite number, or the default where there is none."""
    try:
        number = float(default if value in (None, "") else value)
    except (TypeError, ValueError):
        return default
    return number if np.isfinite(number) else default


def linear(ds: Dataset) -> tuple[float, float, str]:
    """(slope, intercept, note) of one slice.

    RescaleSlope and RescaleIntercept, PS3.3 C.7.6.16.2.9. Philips MR scales each slice to its own display range: what the
    scanner measured is (stored · RS + RI) / (RS · SS) by the private scale slope SS (2005,100E), and only that compares
    between slices (Chenevert 2014, 10.1593/tlo.13811).
    """
    slope, intercept = _number(ds.get("RescaleSlope"), 1.0) or 1.0, _number(ds.get("RescaleIntercept"), 0.0)
    private = ds.get(PHILIPS_SCALE_SLOPE)
    scale = _number(private.value, 0.0) if private is not None else 0.0
    if scale and "philips" in str(ds.get("Manufacturer", "")).lower():
        return 1 / scale, intercept / (slope * scale), "values by Philips' private scale slope (2005,100E)"
    return slope, intercept, ""


def rescale(pixels: np.ndarray, ds: Dataset, out: np.ndarray) -> str:
    """Write scaled ``pixels`` into ``out`` (float32, same shape); return what there is to say about it."""
    slope, intercept, note = linear(ds)
    np.multiply(pixels, np.float32(slope), out=out, casting="unsafe")
    if intercept:
        out += np.float32(intercept)
    return note
