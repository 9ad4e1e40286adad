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
        number = float(default if value is None or value == "" else value)
    except (TypeError, ValueError):
        return default
    return number if np.isfinite(number) else default


def _philips(ds: Dataset) -> float:
    """Philips' private scale slope, 0 where there is none. Anonymisers empty Manufacturer, so only another
    maker's name speaks against it."""
    private = ds.get(PHILIPS_SCALE_SLOPE)
    maker = str(ds.get("Manufacturer", "") or "").lower()
    return _number(private.value, 0.0) if private is not None and (not maker or "philips" in maker) else 0.0


def scaled_apart(slices: Iterable[Dataset]) -> bool:
    """Whether Philips scaled these slices each to a display range of its own, so that displayed values do not
    compare."""
    seen = {
        (_number(d.get("RescaleSlope"), 1.0), _number(d.get("RescaleIntercept"), 0.0), _philips(d))
        for d in slices
    }
    return len(seen) > 1 and all(scale for *_, scale in seen)


def some_scaled(slices: Iterable[Dataset]) -> bool:
    """Whether only some of these slices have Philips' private scale slope, and are scaled apart: then no
    values of them compare."""
    scales = [(_philips(d), _number(d.get("RescaleSlope"), 1.0)) for d in slices]
    return 0 < sum(bool(s) for s, _ in scales) < len(scales) and len({r for _, r in scales}) > 1


def wrong_scaling(ds: Dataset) -> str:
    """What is wrong with a RescaleSlope or RescaleIntercept that is there; empty where nothing is."""
    for key in ("RescaleSlope", "RescaleIntercept"):
        value = ds.get(key)
        if value is None or value == "":
            continue
        if not np.isfinite(_number(value, np.nan)):
            return f"its {key} ({value}) is not one number, so its values mean nothing"
        if key == "RescaleSlope" and _number(value, 1.0) == 0:
            return "its RescaleSlope is 0, so its values mean nothing"
    return ""


def unscaled(slices: Iterable[Dataset]) -> tuple[int, bool]:
    """How many of these slices state no RescaleIntercept, and whether others state one that is not 0: then
    their values do not compare."""
    stated = [d.get("RescaleIntercept") for d in slices]
    silent = sum(v in (None, "") for v in stated)
    return silent, silent > 0 and any(_number(v, 0.0) != 0 for v in stated)


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
