"""Palette colour → RGB in eight bits, as PS3.3 C.7.6.3.1.5 says, and as scanners write it.

pydicom reads a table as little-endian whatever the transfer syntax, and a table of eight bits stored in words
of sixteen has its values in the lower byte, as many scanners write one that they call sixteen bits, too.
"""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian

COLOURS = ("Red", "Green", "Blue")


def coloured(indices: np.ndarray, ds: Dataset) -> np.ndarray:
    """Indices (...) → (..., 3) uint8 by the tables of ``ds``. Raises ValueError where these are none."""
    descriptor = ds.get("RedPaletteColorLookupTableDescriptor")
    if descriptor is None or len(descriptor) != 3:
        raise ValueError("it has no palette that is described")
    entries = int(descriptor[0]) or 2**16
    tables = [_table(ds, colour, entries) for colour in COLOURS]
    if tables[0].dtype != np.uint8:
        below = 0 if max(int(t.max()) for t in tables) < 256 else 8
        tables = [(t >> below).astype(np.uint8) for t in tables]
    at = np.clip(indices.astype(np.int64) - int(descriptor[1]), 0, entries - 1).astype(np.intp)
    return np.stack([table[at] for table in tables], -1)


def _table(ds: Dataset, colour: str, entries: int) -> np.ndarray:
    """One table (entries,), in eight or sixteen bits as it is stored."""
    stored = ds.get(f"{colour}PaletteColorLookupTableData")
    if stored is None:
        return _expanded(ds, colour, entries)
    if not isinstance(stored, bytes):  # read as numbers: a list, or one
        stored = np.atleast_1d(np.asarray(stored)).astype("<u2").tobytes()
        order = "<"
    else:
        order = ">" if ds.file_meta.TransferSyntaxUID == ExplicitVRBigEndian else "<"
    if len(stored) >= 2 * entries:
        return np.frombuffer(stored, f"{order}u2", entries).astype(np.uint16)
    if len(stored) < entries:
        raise ValueError(f"its {colour.lower()} palette holds {len(stored)} bytes for {entries} entries")
    return np.frombuffer(stored, np.uint8, entries)


def _expanded(ds: Dataset, colour: str, entries: int) -> np.ndarray:
    """A segmented table. pydicom expands it; each entry is asked for by itself."""
    from pydicom.pixels import apply_color_lut

    first = int(ds.RedPaletteColorLookupTableDescriptor[1])
    table = apply_color_lut(np.arange(first, first + entries, dtype=np.int32), ds)
    return np.asarray(table[:, COLOURS.index(colour)])
