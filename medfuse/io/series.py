"""Headers of one series → Images. What truly differs inside a series is split; what cannot be stacked is refused by name."""

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
from .enhanced import read_enhanced
from .headers import FileEntry, header_from_text
from .index import read_headers
from .stack import Acquisition, acquisitions, read_stack
from .ultrasound import read_ultrasound

Grouped = list[FileEntry]


def split_key(ds: Dataset) -> tuple:
    orientation = tuple(round(float(v), 3) for v in ds.get("ImageOrientationPatient") or ())
    kinds = tuple(str(v) for v in (ds.get("ImageType") or [])[2:4])
    echo = ds.get("EchoNumbers")
    values = tuple(str(ds.get(k, "")) for k in ("DiffusionBValue", "TemporalPositionIdentifier", "StackID"))
    spacing = tuple(round(float(v), 4) for v in ds.get("PixelSpacing") or ())
    return (int(ds.Rows), int(ds.Columns), orientation, spacing, kinds, str(echo or ""), *values)


# What code that trusts a header raises when the header lies. Named to the user as the file's fault; -vv shows where.
UNTRUSTED = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, MemoryError, np.linalg.LinAlgError)


def _odd_values(path: Path, error: BaseException) -> UnreadableError:
    logging.getLogger(__name__).debug("%s", path, exc_info=error)
    what = f"{type(error).__name__}: {str(error)[:100]}"
    return UnreadableError(path, f"its header holds values that make no image ({what}); copy it again from the source")


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
            entry.header, entry.status, entry.reason = None, "damaged", problem.reason
            refused.append(Refusal(str(entry.path), problem.reason, entry.modality))
    return refused


def read_series(entries: Grouped) -> tuple[list[Image], list[Refusal]]:
    """All images of one SeriesInstanceUID. Entries that cannot be used are marked so in place, with the reason."""
    images: list[Image] = []
    refused = load_headers(entries)
    modality = entries[0].modality
    groups: dict[tuple, Grouped] = {}
    for entry in entries:
        if entry.header is None:
            continue
        try:
            alone = modality == "US" or "PerFrameFunctionalGroupsSequence" in entry.header
            key = (str(entry.path),) if alone else split_key(entry.header)
        except UNTRUSTED as error:
            problem = _odd_values(entry.path, error)
            entry.status, entry.reason = "damaged", problem.reason
            refused.append(Refusal(problem.path, problem.reason, modality))
        else:
            groups.setdefault(key, []).append(entry)
    if refused and not all(len(g) == 1 and modality == "US" for g in groups.values()):
        damaged = next(e for e in entries if e.status == "damaged")
        return [], refused + _leave_out([e for g in groups.values() for e in g], damaged)
    for group in groups.values():
        header = group[0].header
        assert header is not None
        if modality == "US":
            _attempt(group, partial(read_ultrasound, group[0]), images, refused)
        elif "PerFrameFunctionalGroupsSequence" in header:
            _attempt(group, partial(read_enhanced, group[0]), images, refused)
        else:
            found: list[Acquisition] = []
            _attempt(group, partial(acquisitions, group), found, refused)
            split = len(groups) > 1 or len(found) > 1
            for one in found:  # each by itself: one that cannot be decoded does not cost the others
                _attempt(one.slices, partial(read_stack, one, modality, split=split), images, refused)
    return images, refused


def _attempt(group: Grouped, work: Callable[[], Any], results: list, refused: list[Refusal]) -> None:
    """What ``work()`` gives, one or several, joins ``results``; where that fails, the entries of the group say why and ``refused`` names it."""
    modality, uid = group[0].modality, group[0].tags.get("SeriesInstanceUID", "")
    try:
        done = work()
        results += done if isinstance(done, list) else [done]
    except UnsupportedError as e:
        for entry in group:
            entry.status, entry.reason = "unsupported", e.reason
        refused.append(Refusal(e.path, e.reason, modality, uid, e.measured, e.allowed))
    except (UnreadableError, *UNTRUSTED) as error:
        problem = error if isinstance(error, UnreadableError) else _odd_values(group[0].path, error)
        bad = next((entry for entry in group if str(entry.path) == problem.path), group[0])
        bad.status, bad.reason = "damaged", problem.reason
        refused.append(Refusal(problem.path, problem.reason, modality))
        refused += _leave_out([x for x in group if x is not bad], bad)


def _leave_out(others: Grouped, bad: FileEntry) -> list[Refusal]:
    """A volume with a hole where a slice is damaged is not made up: the whole stack is named and not used."""
    if not others:
        return []
    reason = f"{bad.modality} series not used, because of its slice {bad.path.name}: {bad.reason}"
    for entry in others:
        entry.status, entry.reason = "unsupported", reason
    uid = others[0].tags.get("SeriesInstanceUID", "")
    return [Refusal(str(bad.path.parent), reason, bad.modality, uid, f"{bad.path.name} is damaged", "every slice")]
