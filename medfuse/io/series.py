"""Headers of one series → Images. What truly differs inside a series is split; what cannot be stacked is
refused by name."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from ..case import Image, Refusal
from ..errors import UnreadableError, UnsupportedError
from ..modalities import is_cine
from .enhanced import ULTRASOUND_VOLUME, read_enhanced
from .headers import FileEntry, header_from_text
from .index import read_headers, with_private
from .mosaic import MR_IMAGE, counts_tiles, is_mosaic, read_mosaic
from .planes import check_apart, measures, planes
from .stack import Acquisition, acquisitions, read_stack
from .uih import is_tiled_uih, read_tiled_uih
from .ultrasound import read_ultrasound

Grouped = list[FileEntry]


def split_key(ds: Dataset) -> tuple:
    """What is text or whole numbers in a slice and parts a series; see `groups_of` for the rest."""
    kinds = tuple(str(v) for v in (ds.get("ImageType") or [])[2:4])
    return (int(ds.Rows), int(ds.Columns), kinds)


def groups_of(keyed: dict[tuple, Grouped]) -> list[Grouped]:
    """Parts each group where orientation or pixel spacing differ, by tolerance and not by rounding. Raises
    UnsupportedError where one of these is not made of numbers."""
    out: list[Grouped] = []
    for group in keyed.values():
        headers = [e.header for e in group if e.header is not None]
        out += [[group[i] for i in plane] for plane in planes(headers, [e.path for e in group])]
    return out


# What code that trusts a header raises when the header lies. Named to the user as the file's fault; -vv shows
# where.
UNTRUSTED = (
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    MemoryError,
    np.linalg.LinAlgError,
)


def _odd_values(path: Path, error: BaseException) -> UnreadableError:
    logging.getLogger(__name__).debug("%s", path, exc_info=error)
    what = f"{type(error).__name__}: {str(error)[:100]}"
    return UnreadableError(
        path, f"its header holds values that make no image ({what}); copy it again from the source"
    )


def load_headers(entries: Grouped) -> list[Refusal]:
    """Fill in the full headers, read in children. An entry whose header cannot be read is marked damaged."""
    refused = []
    for entry, header in zip(entries, read_headers(entries), strict=True):
        try:
            if isinstance(header, str):
                raise UnreadableError(entry.path, header)
            entry.header = header_from_text(header) if isinstance(header, dict) else header
        except (UnreadableError, *UNTRUSTED) as error:
            problem = error if isinstance(error, UnreadableError) else _odd_values(entry.path, error)
            entry.header = None
            entry.status = "damaged"
            entry.reason = problem.reason
            refused.append(Refusal(str(entry.path), problem.reason, entry.modality))
    return refused


def read_series(entries: Grouped) -> tuple[list[Image], list[Refusal]]:
    """All images of one SeriesInstanceUID. Entries that cannot be used are marked so in place, with the
    reason."""
    images: list[Image] = []
    refused = load_headers(entries)
    cine = is_cine(entries[0].modality)
    groups, odd = _keyed(entries)
    refused += odd
    if refused and not all(len(g) == 1 and cine for g in groups.values()):
        damaged = next(e for e in entries if e.status in ("damaged", "unsupported"))
        return [], refused + _leave_out([e for g in groups.values() for e in g], damaged)
    parted = groups_of(groups)
    try:
        check_apart([[e.header for e in g if e.header is not None] for g in parted], entries[0].path.parent)
    except UnsupportedError as e:
        _attempt([x for g in parted for x in g], partial(_fail, e), images, refused)
        return images, refused
    for group in parted:
        _read_group(group, images, refused, split=len(parted) > 1)
    return images, refused


def _fail(error: UnsupportedError) -> list[Image]:
    raise error


def _keyed(entries: Grouped) -> tuple[dict[tuple, Grouped], list[Refusal]]:
    """Entries by what parts a series as text; those whose header holds odd values are marked and named."""
    groups: dict[tuple, Grouped] = {}
    refused = []
    for entry in entries:
        if entry.header is None:
            continue
        try:
            alone = is_cine(entry.modality) or "PerFrameFunctionalGroupsSequence" in entry.header
            alone = alone or is_mosaic(entry.header) or is_tiled_uih(entry.header)
            key = (str(entry.path),) if alone else split_key(entry.header)
            for measure in ("ImageOrientationPatient", "PixelSpacing"):
                measures(entry.header, measure, entry.path)
        except (UnsupportedError, *UNTRUSTED) as error:
            problem = error if isinstance(error, UnsupportedError) else _odd_values(entry.path, error)
            entry.status = "unsupported" if isinstance(error, UnsupportedError) else "damaged"
            entry.reason = problem.reason
            refused.append(Refusal(problem.path, problem.reason, entry.modality))
        else:
            groups.setdefault(key, []).append(entry)
    return groups, refused


def _read_group(group: Grouped, images: list[Image], refused: list[Refusal], *, split: bool) -> None:
    """The images of entries that belong together, by the reader of their kind; ``split``: one of several
    groups."""
    modality = group[0].modality
    header = group[0].header
    assert header is not None
    if is_cine(modality) and header.get("SOPClassUID") != ULTRASOUND_VOLUME:
        _attempt(group, partial(read_ultrasound, group[0]), images, refused)
    elif "PerFrameFunctionalGroupsSequence" in header:
        _attempt(group, partial(read_enhanced, group[0]), images, refused)
    elif is_mosaic(header):
        _attempt(group, partial(read_mosaic, group[0], split=split), images, refused)
    elif is_tiled_uih(header):
        _attempt(group, partial(read_tiled_uih, group[0], split=split), images, refused)
    elif _tiled(group):
        for entry in group:
            _attempt([entry], partial(read_mosaic, entry, split=split or len(group) > 1), images, refused)
    else:
        found: list[Acquisition] = []
        _attempt(group, partial(acquisitions, group), found, refused)
        for one in found:  # each by itself: one that cannot be decoded does not cost the others
            several = split or len(found) > 1
            _attempt(one.slices, partial(read_stack, one, modality, split=several), images, refused)


def _tiled(group: Grouped) -> bool:
    """Whether pictures of Siemens that do not say so are mosaics."""
    header = group[0].header
    assert header is not None
    if str(header.get("SOPClassUID", "")) != MR_IMAGE or not str(
        header.get("Manufacturer", "") or "SIEMENS"
    ).upper().startswith("SIEMENS"):
        return False
    try:
        with_private(group[:1])
    except UnreadableError:
        return False  # whoever reads the slices names it
    assert group[0].header is not None
    return counts_tiles(group[0].header)


def _attempt(group: Grouped, work: Callable[[], Any], results: list, refused: list[Refusal]) -> None:
    """What ``work()`` gives, one or several, joins ``results``; where that fails, the entries of the group
    say why and ``refused`` names it."""
    modality = group[0].modality
    uid = group[0].tags.get("SeriesInstanceUID", "")
    try:
        done = work()
        results += done if isinstance(done, list) else [done]
    except UnsupportedError as e:
        for entry in group:
            entry.status = "unsupported"
            entry.reason = e.reason
        refused.append(Refusal(e.path, e.reason, modality, uid, e.measured, e.allowed))
    except (UnreadableError, *UNTRUSTED) as error:
        problem = error if isinstance(error, UnreadableError) else _odd_values(group[0].path, error)
        bad = next((entry for entry in group if str(entry.path) == problem.path), group[0])
        bad.status = "damaged"
        bad.reason = problem.reason
        refused.append(Refusal(problem.path, problem.reason, modality))
        refused += _leave_out([x for x in group if x is not bad], bad)


def _leave_out(others: Grouped, bad: FileEntry) -> list[Refusal]:
    """A volume with a hole where a slice is damaged is not made up: the whole stack is named and not used."""
    if not others:
        return []
    reason = f"{bad.modality} series not used, because of its slice {bad.path.name}: {bad.reason}"
    for entry in others:
        entry.status = "unsupported"
        entry.reason = reason
    uid = others[0].tags.get("SeriesInstanceUID", "")
    return [
        Refusal(str(bad.path.parent), reason, bad.modality, uid, f"{bad.path.name} is damaged", "every slice")
    ]
