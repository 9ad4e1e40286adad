"""How a slice or frame was acquired: echo, b-value and direction, trigger time, energy, moment in time."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from pydicom.dataset import Dataset

from . import private

GE_OFFSET = 100_000  # GE adds a multiple of a billion to b-values


@dataclass(frozen=True, kw_only=True)
class Acquired:
    """What the header of one slice says; None or empty where it is silent. Times in ms, energy in kV, b in
    s/mm², ``seconds`` since the epoch (or since midnight, where ``dated`` is false)."""

    echo_ms: float | None
    b_value: float | None
    direction: tuple[float, ...]
    trigger_ms: float | None
    kvp: float | None
    temporal_index: float | None
    seconds: float | None
    dated: bool


def number(ds: Dataset, key: str) -> float | None:
    """The first number of an attribute, None where there is none that is finite."""
    value = ds.get(key)
    if value is not None and not isinstance(value, (str, int, float)):
        with suppress(TypeError):
            value = value[0] if len(value) else None
    try:
        found = None if value in (None, "") else float(value)
    except (TypeError, ValueError):
        return None
    return found if found is not None and np.isfinite(found) else None


def acquired(ds: Dataset) -> Acquired:
    """What a header says, by public attributes first and the vendor's own where these are silent."""
    seconds, dated = _moment(ds)
    return Acquired(
        echo_ms=_first(ds, "EchoTime", "EffectiveEchoTime"),
        b_value=_b_value(ds),
        direction=_direction(ds),
        trigger_ms=_first(ds, "TriggerTime", "NominalCardiacTriggerDelayTime"),
        kvp=number(ds, "KVP"),
        temporal_index=number(ds, "TemporalPositionIdentifier"),
        seconds=seconds,
        dated=dated,
    )


def _first(ds: Dataset, *keys: str) -> float | None:
    """The number of the first of these attributes that has one."""
    return next((n for key in keys if (n := number(ds, key)) is not None), None)


def _b_value(ds: Dataset) -> float | None:
    public = number(ds, "DiffusionBValue")
    if public is not None:
        return public
    for where in (private.SIEMENS_B_VALUE, private.PHILIPS_B_VALUE, private.UIH_B_VALUE):
        found = private.numbers(ds, where)
        if found:
            return found[0]
    found = private.numbers(ds, private.GE_B_VALUE)
    return found[0] % GE_OFFSET if found else None


def _direction(ds: Dataset) -> tuple[float, ...]:
    value = ds.get("DiffusionGradientOrientation")
    candidates = [
        private.numbers(ds, private.SIEMENS_DIRECTION),
        private.numbers(ds, *private.PHILIPS_DIRECTION),
        private.numbers(ds, private.UIH_DIRECTION),
        private.numbers(ds, *private.GE_DIRECTION),
    ]
    if value is not None and not isinstance(value, (str, float, int)):
        with suppress(TypeError, ValueError):  # a direction that is no numbers is none
            candidates.insert(0, tuple(float(v) for v in value))
    return next((c for c in candidates if len(c) == 3 and np.isfinite(c).all()), ())


def _moment(ds: Dataset) -> tuple[float | None, bool]:
    """(seconds, whether the date is known) of AcquisitionDateTime, else of AcquisitionDate and Time."""
    whole = str(ds.get("AcquisitionDateTime", "") or "")
    day = str(ds.get("AcquisitionDate", "") or "")
    clock = str(ds.get("AcquisitionTime", "") or "")
    if len(whole) >= 14:
        day = whole[:8]
        clock = whole[8:].split("+")[0].split("-")[0]
    clock = clock.replace(":", "").strip()
    try:
        seconds = int(clock[:2]) * 3600 + int(clock[2:4] or 0) * 60 + float(clock[4:] or 0)
    except ValueError:
        return None, False
    try:
        start = datetime.strptime(day.replace(".", ""), "%Y%m%d")
    except ValueError:
        return seconds, False
    return (start - datetime(1970, 1, 1)).total_seconds() + seconds, True
