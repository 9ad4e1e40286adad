"""PET values in Bq/ml → standardised uptake values by body weight (SUVbw, g/ml), from what a file states.

The formula is the vendor-neutral one of QIBA (SUV Technical Note, "SUV Calculation", 2012; adopted by SNMMI):
SUVbw = value [Bq/ml] · weight [g] / dose [Bq], the dose decayed to the moment the values are corrected to.
Nothing is guessed: what is missing is named and the image is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydicom.dataset import Dataset
from pydicom.valuerep import DA, DT, TM

# What a PET header must be read for beside what every series needs. The private ones: Philips' SUV and
# activity factors, with the name of their block.
WANTED: tuple[Any, ...] = (
    "Units",
    "SUVType",
    "DecayCorrection",
    "CorrectedImage",
    "PatientWeight",
    "SeriesDate",
    "SeriesTime",
    "AcquisitionDate",
    "FrameReferenceTime",
    "ActualFrameDuration",
    "RadiopharmaceuticalInformationSequence",
    0x70531000,
    0x70531009,
)
ALREADY = ("GML", "G/ML", "SUVBW", "SUV_BW", "SUV")
ACTIVITY = ("BQML", "BQ/ML")
HALF_LIVES = 10  # later than so many after the injection, the times are wrong: a thousandth is left


class NoSuv(ValueError):
    """Why values cannot become SUV, as one clause about their file."""


@dataclass(frozen=True, kw_only=True)
class Uptake:
    """How scaled values become SUVbw: times ``factor``.

    decay: to which moment they are corrected for decay (START, ADMIN or NONE; "" where values came as SUV and
    nothing says it). stored: the unit of the file.
    """

    factor: float
    stored: str
    decay: str


@dataclass(frozen=True, kw_only=True)
class Injection:
    """What was injected: activity in Bq at ``start``, and the nuclide's half-life in seconds."""

    dose_bq: float
    half_life_s: float
    start: datetime


def uptake_of(ds: Dataset, series: Sequence[Dataset] = ()) -> Uptake:
    """The factor of one slice, rescaled already. series: the headers of all its slices.

    Raises NoSuv that names what is missing or contradicts itself.
    """
    units = _word(ds, "Units")
    decay = _word(ds, "DecayCorrection")
    if units in ALREADY:
        kind = _word(ds, "SUVType") or "BW"  # absent means body weight, PS3.3 C.8.9.1
        if kind != "BW":
            raise NoSuv(f"holds SUV by {kind}, not by body weight; export it as SUVbw or Bq/ml")
        return Uptake(factor=1.0, stored=units, decay=decay)
    if units == "CNTS":
        factor = _of_counts(ds, decay, series or [ds])
    elif units in ACTIVITY:
        factor = _weight_by_dose(ds, decay, series or [ds])
    else:
        raise NoSuv(f"states no unit that can become SUV (Units is {units or 'missing'}; BQML or GML can)")
    return Uptake(factor=factor, stored=units, decay=decay)


def _word(ds: Dataset, key: str) -> str:
    return str(ds.get(key) or "").upper()


def _of_counts(ds: Dataset, decay: str, series: Sequence[Dataset]) -> float:
    """Philips' own factor from counts to SUV; else by its factor to Bq/ml."""
    suv = _positive(_private(ds, 0x70531000))
    if suv:
        return suv
    activity = _positive(_private(ds, 0x70531009))
    if not activity:
        raise NoSuv("holds counts, without Philips' factors (7053,1000) or (7053,1009) to Bq/ml")
    return activity * _weight_by_dose(ds, decay, series)


def said(uptake: Uptake) -> dict[str, tuple[str, float]]:
    """What an image's traits say of its values: the unit stored in the file, and to which moment they are
    corrected for decay."""
    decay = (uptake.decay, 1.0) if uptake.decay else ("unknown", 0.0)
    return {"stored_unit": (uptake.stored, 1.0), "decay_correction": decay}


def _weight_by_dose(ds: Dataset, decay: str, series: Sequence[Dataset]) -> float:
    """Body weight in g by the activity in Bq at the moment to which the values are corrected."""
    corrected = {str(v).upper() for v in _several(ds.get("CorrectedImage"))}
    if decay not in ("START", "ADMIN", "NONE"):
        raise NoSuv(f"DecayCorrection is {decay or 'missing'}; START, ADMIN or NONE is due")
    if "ATTN" not in corrected:
        raise NoSuv(
            "is not corrected for attenuation (CorrectedImage lacks ATTN), so its values are no uptake"
        )
    if (decay != "NONE") != ("DECY" in corrected):
        raise NoSuv(f"contradicts itself: DecayCorrection is {decay}, CorrectedImage {sorted(corrected)}")
    grams = 1000 * _needed(ds, "PatientWeight")
    item = _injected(ds)
    if decay == "ADMIN":  # the values are of the moment of the injection
        return grams / _needed(item, "RadionuclideTotalDose")
    at = (
        _scan_start(ds, series, _needed(item, "RadionuclideHalfLife"))
        if decay == "START"
        else _middle(ds, item)
    )
    given = _injection(item, at)
    after = (at - given.start).total_seconds()
    if not 0 <= after <= HALF_LIVES * given.half_life_s:
        raise NoSuv(
            f"says the injection was at {given.start} and the scan at {at}, "
            f"with a half-life of {given.half_life_s:.0f} s; one of the times is wrong"
        )
    return grams / (given.dose_bq * 0.5 ** (after / given.half_life_s))


def _injected(ds: Dataset) -> Dataset:
    items = ds.get("RadiopharmaceuticalInformationSequence") or []
    if len(items) != 1:
        raise NoSuv(
            f"says what was injected {len(items)} times (RadiopharmaceuticalInformationSequence), not once"
        )
    return items[0]


def _injection(item: Dataset, scan: datetime) -> Injection:
    """The start by its DateTime; else by its Time on the day of the scan, or on the day before where the scan
    would come first (past midnight)."""
    stated = item.get("RadiopharmaceuticalStartDateTime")
    if stated:
        start = _plain(_parsed(DT, stated, "RadiopharmaceuticalStartDateTime"))
    elif item.get("RadiopharmaceuticalStartTime"):
        time = _parsed(TM, item.RadiopharmaceuticalStartTime, "RadiopharmaceuticalStartTime")
        start = datetime.combine(scan.date(), time)
        start -= timedelta(days=1) if start > scan else timedelta()
    else:
        raise NoSuv("lacks RadiopharmaceuticalStartDateTime and RadiopharmaceuticalStartTime")
    return Injection(
        dose_bq=_needed(item, "RadionuclideTotalDose"),
        half_life_s=_needed(item, "RadionuclideHalfLife"),
        start=start,
    )


def _scan_start(ds: Dataset, series: Sequence[Dataset], half_life_s: float) -> datetime:
    """When the scan of the whole series began, to which START corrects.

    The series' time, unless it comes after an acquisition (a series made later); then the time of the
    acquisition less its FrameReferenceTime, whose count rate is the frame's mean; without these, the earliest
    acquisition.
    """
    acquired = min(_when(d, "Acquisition") for d in series)
    if ds.get("SeriesDate") and ds.get("SeriesTime"):
        begun = _when(ds, "Series")
        if begun <= acquired:
            return begun
    reference = _positive(ds.get("FrameReferenceTime"))
    duration = _positive(ds.get("ActualFrameDuration"))
    if reference and duration:
        mean = _mean_time(duration / 1000, half_life_s)
        return _when(ds, "Acquisition") + timedelta(seconds=mean - reference / 1000)
    return acquired


def _middle(ds: Dataset, item: Dataset) -> datetime:
    """When a frame that is not corrected for decay counted its mean rate."""
    duration = _needed(ds, "ActualFrameDuration") / 1000
    mean = _mean_time(duration, _needed(item, "RadionuclideHalfLife"))
    return _when(ds, "Acquisition") + timedelta(seconds=mean)


def _mean_time(duration_s: float, half_life_s: float) -> float:
    """Seconds into a frame at which the decaying count rate equals its mean."""
    rate = math.log(2) / half_life_s
    lost = rate * duration_s
    return math.log(lost / -math.expm1(-lost)) / rate


def _when(ds: Dataset, what: str) -> datetime:
    missing = [k for k in (f"{what}Date", f"{what}Time") if not ds.get(k)]
    if missing:
        raise NoSuv(f"lacks {' and '.join(missing)}")
    date = _parsed(DA, ds.get(f"{what}Date"), f"{what}Date")
    return datetime.combine(date, _parsed(TM, ds.get(f"{what}Time"), f"{what}Time"))


def _parsed(kind: type, value: object, name: str) -> Any:
    try:
        found = kind(str(value))
    except ValueError:
        found = None
    if found is None:
        raise NoSuv(f"its {name} ({value}) is no time")
    # DA, TM and DT are dates and times themselves; plain ones compare
    if kind is DA:
        return datetime(found.year, found.month, found.day).date()
    if kind is TM:
        return datetime(2000, 1, 1, found.hour, found.minute, found.second, found.microsecond).time()
    return found


def _plain(moment: datetime) -> datetime:
    """Local time without a zone, as the other times of a header are."""
    m = moment
    return datetime(m.year, m.month, m.day, m.hour, m.minute, m.second, m.microsecond)


def _needed(ds: Dataset, key: str) -> float:
    value = ds.get(key)
    number = _positive(value)
    if not number:
        raise NoSuv(
            f"lacks {key}" if value in (None, "") else f"its {key} is {value}; a positive number is due"
        )
    return number


def _positive(value: Any) -> float:
    """A finite number above zero; 0 for anything else."""
    try:
        number = float(value.strip(b" \0") if isinstance(value, bytes) else value)
    except (TypeError, ValueError):
        return 0.0
    return number if math.isfinite(number) and number > 0 else 0.0


def _private(ds: Dataset, tag: int) -> Any:
    """A private value of Philips, None from any other maker."""
    element = ds.get(tag)
    return (
        element.value
        if element is not None and "philips" in str(ds.get("Manufacturer", "")).lower()
        else None
    )


def _several(value: Any) -> list[Any]:
    return [] if value in (None, "") else [value] if isinstance(value, str) else list(value)


def header_of_sidecar(side: Mapping[str, object]) -> Dataset:
    """A NIfTI's JSON sidecar as a header: Units, and DICOM attributes by their names where it has them.

    The injected dose may lie at the top, as dcm2niix writes it. Raises NoSuv for values of another form.
    """
    ds = Dataset()
    item = Dataset()
    dose = ("RadionuclideTotalDose", "RadionuclideHalfLife")
    inside = [*dose, "RadiopharmaceuticalStartTime", "RadiopharmaceuticalStartDateTime"]
    outside = [k for k in WANTED if isinstance(k, str) and "Sequence" not in k] + ["AcquisitionTime"]
    for target, keys in ((ds, outside), (item, inside)):
        for key in keys:
            if side.get(key) in (None, ""):
                continue
            try:
                setattr(target, key, side[key])
            except (TypeError, ValueError, OverflowError) as e:
                raise NoSuv(f"its sidecar's {key} ({side[key]}) cannot be read") from e
    if len(item):
        ds.RadiopharmaceuticalInformationSequence = [item]
    return ds
