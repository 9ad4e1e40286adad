"""Look-up tables that change values: they cannot go silently, so they are checked, cut to length, or
refused."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from pydicom.dataset import Dataset

from ..errors import UnreadableError
from .values import listed


def clean_table(item: Dataset) -> None:
    """Cut LUTData of an item to what its descriptor says. Raises UnreadableError for one that is no
    ramp: text
    may be hidden in it, and without it the image's values would silently be others."""
    descriptor = [int(v) for v in item.get("LUTDescriptor", [])]
    if len(descriptor) != 3:
        raise UnreadableError("", "has a look-up table without a descriptor; not written")
    entries = descriptor[0] or 65536
    values = _entries(item)[:entries]
    rising = all(a <= b for a, b in pairwise(values))
    falling = all(a >= b for a, b in pairwise(values))
    if len(values) < entries or not (rising or falling):
        raise UnreadableError(
            "", "has a look-up table that neither rises nor falls; it cannot be judged, not written"
        )
    item.add_new("LUTData", "OW", np.asarray(values, "<u2").tobytes())


def _entries(item: Dataset) -> list[int]:
    """The entries of a table, stored as bytes or as numbers."""
    value = item["LUTData"].value
    if isinstance(value, (bytes, bytearray)):
        return [int(v) for v in np.frombuffer(value[: len(value) // 2 * 2], "<u2")]
    return [int(v) for v in listed(value)]
