"""Slices acquired several times at each place → one set a volume, paired by what differs.

Never by file name or by the order of files. What cannot be told apart, or disagrees within a volume, is
refused with what was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import factorial

import numpy as np
from pydicom.dataset import Dataset

from . import private
from .acquired import Acquired, acquired
from .alike import classes

BY_CHANCE = 1e-3  # InstanceNumbers pair only slices so many that their order can hardly be chance
HARDLY = 0.01  # clocks contradict only where so few orders would seem to run volume by volume
HALF_A_DAY = 12 * 3600.0
DAY = 2 * HALF_A_DAY
SAME_LOCATION_MM = 0.05  # of SliceLocations at one place


class CannotPair(Exception):
    """The message is a clause of what was measured."""


class Contradiction(CannotPair):
    """Two attributes pair the slices differently, so that no other way of parting them can be trusted."""


@dataclass(frozen=True, kw_only=True)
class Slice:
    """One slice or frame to be paired: its header, what that says, and the labels of its index columns."""

    header: Dataset
    facts: Acquired
    dimensions: tuple[int, ...] = ()


def slice_of(header: Dataset, dimensions: tuple[int, ...] = ()) -> Slice:
    """What pairing needs of one header."""
    return Slice(header=header, facts=acquired(header), dimensions=dimensions)


def _text(key: str) -> Callable[[Slice], object]:
    return lambda s: str(s.header.get(key, "") or "")


def kind_of(header: Dataset) -> str:
    """What an image is, by ImageType: its values from the third on."""
    values = header.get("ImageType") or ()
    return "" if isinstance(values, str) else "\\".join(str(v) for v in list(values)[2:])


def _vendors(what: private.PrivateElement) -> Callable[[Slice], object]:
    return lambda s: private.text(s.header, what)


def _scalar(name: str) -> Callable[[Slice], object]:
    return lambda s: getattr(s.facts, name)


BY_SLICE = "TemporalPositionIdentifier"  # some writers number every slice in it, not every volume
# A volume has one value of each of these: they part the slices.
PHYSICS: dict[str, Callable[[Slice], object]] = {
    "EchoTime": _scalar("echo_ms"),
    "b-value": _scalar("b_value"),
    "diffusion direction": _scalar("direction"),
    "KVP": _scalar("kvp"),
    "TemporalPositionIdentifier": _scalar("temporal_index"),
    "ImageType": _text("ImageType"),
    "ConvolutionKernel": _text("ConvolutionKernel"),
}
# Of these also where each place was acquired once: the others may be one a slice. What an image is stands
# behind the first two values of ImageType, which may differ where an archive has compressed some slices.
CONSTANT: dict[str, Callable[[Slice], object]] = {
    **{n: PHYSICS[n] for n in ("EchoTime", "b-value", "diffusion direction", "KVP", "ConvolutionKernel")},
    BY_SLICE: _scalar("temporal_index"),
    "ImageType": lambda s: kind_of(s.header),
}
# These part the slices only where every place holds the same values: some scanners write one a slice.
LABELS: dict[str, Callable[[Slice], object]] = {
    "EchoNumbers": _text("EchoNumbers"),
    "GE echo (0019,10A2)": lambda s: private.numbers(s.header, private.GE_ECHO),
    "GE image type (0043,102F)": _vendors(private.GE_IMAGE_TYPE),
    "Philips image type (2005,1011)": _vendors(private.PHILIPS_IMAGE_TYPE),
    "Philips phase number (2001,1008)": _vendors(private.PHILIPS_PHASE),
    "Philips dynamic scan (2005,10A0)": _vendors(private.PHILIPS_DYNAMIC),
    "Philips gradient number (2005,1413)": _vendors(private.PHILIPS_GRADIENT),
    "Philips label type (2005,1429)": _vendors(private.PHILIPS_LABEL),
    "Siemens directionality (0019,100D)": _vendors(private.SIEMENS_DIRECTIONALITY),
    "Siemens coil (0051,100F)": _vendors(private.SIEMENS_COIL),
    "InversionTime": _text("InversionTime"),
    "InversionTimes": _text("InversionTimes"),
    "FlipAngle": _text("FlipAngle"),
    "RepetitionTime": _text("RepetitionTime"),
    "AcquisitionContrast": _text("AcquisitionContrast"),
    "FrameReferenceTime": _text("FrameReferenceTime"),
    "ReconstructionDiameter": _text("ReconstructionDiameter"),
    "FilterType": _text("FilterType"),
    "SequenceName": _text("SequenceName"),
    "ReceiveCoilName": _text("ReceiveCoilName"),
    "StackID": _text("StackID"),
    "ComplexImageComponent": _text("ComplexImageComponent"),
    "ASLContext": _text("ASLContext"),
    "VelocityEncodingDirection": _text("VelocityEncodingDirection"),
    "NominalPercentageOfCardiacPhase": _text("NominalPercentageOfCardiacPhase"),
    "NominalRespiratoryTriggerDelayTime": _text("NominalRespiratoryTriggerDelayTime"),
    "DiffusionDirectionality": _text("DiffusionDirectionality"),
    "TriggerTime": _scalar("trigger_ms"),
    "AcquisitionNumber": _text("AcquisitionNumber"),
    "SliceThickness": _text("SliceThickness"),
    "ContrastBolusAgent": _text("ContrastBolusAgent"),
    "ScanOptions": _text("ScanOptions"),
    "SeriesDescription": _text("SeriesDescription"),
    "ProtocolName": _text("ProtocolName"),
    "ImageComments": _text("ImageComments"),
}
LAST_RESORTS = ("ContentTime", "InstanceNumber")  # anybody writes these anew: only where nothing else decides


def pair(
    slices: Sequence[Slice],
    places: Sequence[Sequence[int]],
    same_location_mm: float = SAME_LOCATION_MM,
    without: str = "",
) -> list[list[int]]:
    """Sets of slices that are one volume each, from the slices at each place, bottom to top.

    same_location_mm: the SliceLocations stated at one place lie no farther apart. without: an attribute of
    PHYSICS that parts nothing here. Raises CannotPair.
    """
    _check_locations(slices, places, same_location_mm)
    if all(len(p) == 1 for p in places):
        one = [p[0] for p in places]
        _check_constant(slices, one)
        return [one]
    physics = _signatures(slices, {n: read for n, read in PHYSICS.items() if n != without})
    parts: dict[object, list[list[int]]] = {}
    for place in places:
        for key in sorted({physics[i] for i in place}):
            parts.setdefault(key, []).append([i for i in place if physics[i] == key])
    sets = [volume for part in parts.values() for volume in _by_labels(slices, part)]
    _check_clock(slices, places, sets)
    return sorted(sets, key=lambda s: _order(slices[s[0]], [slices[i] for i in s]))


def _check_locations(slices: Sequence[Slice], places: Sequence[Sequence[int]], within: float) -> None:
    """Slices at one place that state different SliceLocations have lost their true places."""
    for place in places:
        stated = [slices[i].header.get("SliceLocation") for i in place]
        try:
            heights = [float(v) for v in stated if v not in (None, "")]
        except (TypeError, ValueError):
            continue
        if len(heights) > 1 and max(heights) - min(heights) > within:
            raise CannotPair(
                f"{len(place)} slices state one ImagePositionPatient while their SliceLocation runs from "
                f"{min(heights):g} to {max(heights):g} mm"
            )
    if len(places) == 1 and len(places[0]) > 1:
        stated = [slices[i].header.get("InStackPositionNumber") for i in places[0]]
        if None not in stated and len(set(stated)) == len(stated):
            raise CannotPair(
                f"{len(stated)} frames state one ImagePositionPatient while their InStackPositionNumber runs "
                f"from {min(stated)} to {max(stated)}"
            )


def differing(slices: Sequence[Slice], one: Sequence[int], other: Sequence[int]) -> str:
    """What slices of two sets differ in, as words."""
    names = [
        name
        for name, read in (PHYSICS | LABELS).items()
        if len(set(classes([read(slices[i]) for i in (one[0], other[0])]))) > 1
    ]
    return ", ".join(names) or "no attribute that is known here"


def _check_clock(
    slices: Sequence[Slice], places: Sequence[Sequence[int]], sets: Sequence[Sequence[int]]
) -> None:
    """Sets that something else made, where the slices were acquired volume after volume by the clock: both
    must say the same. Raises Contradiction."""
    counts = {len(p) for p in places}
    if len(counts) > 1 or _chance(len(places), min(counts)) > HARDLY:
        return
    rows = [list(p) for p in places]
    seconds = _clocks(slices, rows).get("AcquisitionTime", {})
    by_time = _ordered(seconds, rows, climbing=False, whole=True) if seconds else []
    if by_time and {frozenset(v) for v in by_time} != {frozenset(v) for v in sets}:
        names = differing(slices, sets[0], sets[1])
        raise Contradiction(f"{names} and AcquisitionTime pair the slices at one place differently")


def _check_constant(slices: Sequence[Slice], volume: Sequence[int]) -> None:
    """Raises CannotPair where slices that lie at a place each were acquired or made in different ways."""
    for name, read in CONSTANT.items():
        values = [read(slices[i]) for i in volume]
        kinds = len(set(classes(values)))
        if kinds > 1 and not (name == BY_SLICE and (kinds == len(values) or None in values)):
            shown = ", ".join(sorted({_shown(v) for v in values})[:4])
            raise CannotPair(f"its slices differ in {name} ({shown}), so they are not one volume")


def _shown(value: object) -> str:
    """A value as a user reads it."""
    if isinstance(value, tuple):
        return "\\".join(_shown(v) for v in value) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value or "none")


def _signatures(
    slices: Sequence[Slice], readers: dict[str, Callable[[Slice], object]]
) -> list[tuple[int, ...]]:
    columns = [classes([read(s) for s in slices]) for read in readers.values()]
    return [tuple(c[i] for c in columns) for i in range(len(slices))]


def _by_labels(slices: Sequence[Slice], places: list[list[int]]) -> list[list[int]]:
    """Slices of one physics: parted by the labels that every place shares, then by their order in time."""
    if all(len(p) == 1 for p in places):
        return [[p[0] for p in places]]
    _check_counts(places)
    columns = _columns(slices, [i for p in places for i in p])
    out = []
    for part in _parted(places, _shared(columns, places)):
        if len(part) != len(places) or len({len(p) for p in part}) > 1:
            differs = ", ".join(n for n, label in columns.items() if len(set(label.values())) > 1)
            raise CannotPair(
                f"what tells the {len(places[0])} slices at each place apart disagrees from place to place "
                f"({differs})"
            )
        out += [[p[0] for p in part]] if len(part[0]) == 1 else _by_order(slices, part)
    return out


def _check_counts(places: list[list[int]]) -> None:
    counts = {len(p) for p in places}
    if len(counts) > 1:
        raise CannotPair(
            f"{sum(len(p) > 1 for p in places)} of {len(places)} slice places hold up to {max(counts)} "
            f"slices and others {'one' if min(counts) == 1 else min(counts)}"
        )


def _chance(places: int, volumes: int) -> float:
    """How often numbers in no order would seem to run volume by volume or place by place, up or down."""
    return 4 * factorial(volumes) ** places / factorial(volumes * places)


Label = dict[int, int]  # slice → class of its value


def _columns(slices: Sequence[Slice], members: list[int]) -> dict[str, Label]:
    """The classes of every label and of every index dimension that all members have."""
    columns: dict[str, list[object]] = {n: [read(slices[i]) for i in members] for n, read in LABELS.items()}
    for d in range(min(len(slices[i].dimensions) for i in members)):
        columns[f"dimension {d + 1}"] = [slices[i].dimensions[d] for i in members]
    return {n: dict(zip(members, classes(values), strict=True)) for n, values in columns.items()}


def _shared(columns: dict[str, Label], places: list[list[int]]) -> list[Label]:
    """The labels of which every place holds the same values, and several."""
    shared = []
    for label in columns.values():
        here = [sorted(label[i] for i in p) for p in places]
        if len(set(here[0])) > 1 and all(h == here[0] for h in here):
            shared.append(label)
    return shared


def _parted(places: list[list[int]], labels: list[Label]) -> list[list[list[int]]]:
    """The slices at each place, once for every combination of these labels."""
    parts: dict[tuple[int, ...], list[list[int]]] = {}
    for place in places:
        for i in place:
            rows = parts.setdefault(tuple(label[i] for label in labels), [])
            if not rows or rows[-1][0] not in place:
                rows.append([])
            rows[-1].append(i)
    return list(parts.values())


def _by_order(slices: Sequence[Slice], places: list[list[int]]) -> list[list[int]]:
    """Slices that only their order tells apart: by every clock or number that runs volume by volume, or
    place by place. Where two of these disagree, or none does, refused."""
    found: dict[str, list[list[int]]] = {}
    for name, values in _clocks(slices, places).items():
        volumes = _ordered(
            values, places, climbing=name in LAST_RESORTS, whole=name == "InstanceNumber" and len(places) > 1
        )
        if volumes:
            found[name] = volumes
    for name in reversed(LAST_RESORTS):
        if len(found) > 1:
            found.pop(name, None)
    names = list(found)
    if not names or (names == ["InstanceNumber"] and _chance(len(places), len(places[0])) > BY_CHANCE):
        raise CannotPair(
            f"{len(places[0])} slices lie at each of {len(places)} places and no echo, time, b-value or "
            "number tells them apart"
        )
    first = {frozenset(v) for v in found[names[0]]}
    for other in names[1:]:
        if {frozenset(v) for v in found[other]} != first:
            raise CannotPair(f"{names[0]} and {other} pair the slices at one place differently")
    return found[names[0]]


def _clocks(slices: Sequence[Slice], places: list[list[int]]) -> dict[str, dict[int, float]]:
    """What may order the slices: name → slice → value, only where every slice has one."""
    members = [i for p in places for i in p]
    seconds = {i: s for i in members if (s := slices[i].facts.seconds) is not None}
    # after midnight, where there is no date or one that somebody made the same in every file
    undated = not all(slices[i].facts.dated for i in members) or len({s // DAY for s in seconds.values()}) < 2
    if undated and seconds and max(seconds.values()) - min(seconds.values()) > HALF_A_DAY:
        seconds = {i: s + (DAY if s % DAY < HALF_A_DAY else 0) for i, s in seconds.items()}
    out = {"AcquisitionTime": seconds}
    out["TriggerTime"] = {i: t for i in members if (t := slices[i].facts.trigger_ms) is not None}
    for key in ("AcquisitionNumber", BY_SLICE, "ContentTime", "InstanceNumber"):
        out[key] = {}
        for i in members:
            with suppress(TypeError, ValueError):  # a slice without the number: then it orders nothing
                out[key][i] = float(slices[i].header.get(key))  # type: ignore[arg-type]
    return {name: values for name, values in out.items() if len(values) == len(members)}


def _ordered(
    values: dict[int, float], places: list[list[int]], *, climbing: bool, whole: bool
) -> list[list[int]]:
    """Volumes by rank at each place, where the values run volume after volume or place after place; else
    empty. ``climbing``: only where they also rise, or fall, from place to place (numbers may be shuffled).
    ``whole``: only volume after volume (numbers that run place by place say nothing of which slices of two
    places belong together)."""
    ranked = [sorted(p, key=lambda i: values[i]) for p in places]
    table = np.array([[values[i] for i in p] for p in ranked])
    if (np.diff(table, axis=1) <= 0).any():
        return []
    rises = np.diff(table, axis=0)
    if climbing and not ((rises > 0).all() or (rises < 0).all()):
        return []
    by_volume = (table.max(0)[:-1] < table.min(0)[1:]).all()
    by_place = table[np.argsort(table[:, 0])]
    one_by_one = (by_place[:-1, -1] < by_place[1:, 0]).all()
    return (
        [[p[k] for p in ranked] for k in range(table.shape[1])]
        if by_volume or (one_by_one and not whole)
        else []
    )


def _order(first: Slice, every: list[Slice]) -> tuple[float, ...]:
    """Volumes come out by temporal position, echo (a map, whose echo is 0, after them), b-value, trigger,
    energy, time and number."""
    facts = first.facts
    echo_ms = np.inf if facts.echo_ms == 0 else facts.echo_ms
    seconds = [s.facts.seconds or 0.0 for s in every]
    echo = private.numbers(first.header, private.GE_ECHO)
    told = (facts.temporal_index, echo_ms, facts.b_value, *(echo[:1] or (0.0,)), facts.trigger_ms, facts.kvp)
    numbers = []
    for s in every:
        try:
            numbers.append(float(s.header.get("InstanceNumber") or 0))
        except (TypeError, ValueError):
            numbers.append(0.0)
    return (*(float(v or 0) for v in told), min(seconds), min(numbers), *first.dimensions)
