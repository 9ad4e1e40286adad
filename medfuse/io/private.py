"""Private elements that tell repeats of a slice apart, found by the creator of their block (PS3.5 7.8.1)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset


class PrivateElement(NamedTuple):
    """Where a vendor keeps a value: its group, the block's creator, the last byte of the element, its VR."""

    group: int
    creator: str
    last: int
    vr: str

    @property
    def tag(self) -> int:
        """The tag in block 10, under which the rest of the reader knows it."""
        return self.group << 16 | 0x1000 | self.last


GE_ECHO = PrivateElement(0x0019, "GEMS_ACQU_01", 0xA2, "SL")  # raw data run: one an echo
GE_B_VALUE = PrivateElement(0x0043, "GEMS_PARM_01", 0x39, "IS")
GE_DIRECTION = tuple(PrivateElement(0x0019, "GEMS_ACQU_01", n, "DS") for n in (0xBB, 0xBC, 0xBD))
SIEMENS_B_VALUE = PrivateElement(0x0019, "SIEMENS MR HEADER", 0x0C, "IS")
SIEMENS_DIRECTION = PrivateElement(0x0019, "SIEMENS MR HEADER", 0x0E, "FD")
PHILIPS_B_VALUE = PrivateElement(0x2001, "Philips Imaging DD 001", 0x03, "FL")
PHILIPS_DIRECTION = tuple(
    PrivateElement(0x2005, "Philips MR Imaging DD 001", n, "FL") for n in (0xB0, 0xB1, 0xB2)
)
PHILIPS_SCALE = PrivateElement(0x2005, "Philips MR Imaging DD 001", 0x0E, "FL")
UIH_B_VALUE = PrivateElement(0x0065, "Image Private Header", 0x09, "FD")
UIH_DIRECTION = PrivateElement(0x0065, "Image Private Header", 0x37, "FD")
KNOWN = (
    GE_ECHO,
    GE_B_VALUE,
    *GE_DIRECTION,
    SIEMENS_B_VALUE,
    SIEMENS_DIRECTION,
    PHILIPS_B_VALUE,
    *PHILIPS_DIRECTION,
    PHILIPS_SCALE,
    UIH_B_VALUE,
    UIH_DIRECTION,
)
BLOCKS = range(0x10, 0x40)  # where a vendor, or an archive that moved them, puts its elements
# creators and known elements of every block: what a reader of chosen attributes has to ask for
TAGS = tuple(
    sorted(
        {w.group << 16 | b for w in KNOWN for b in BLOCKS}
        | {w.group << 16 | b << 8 | w.last for w in KNOWN for b in BLOCKS}
    )
)
FORMATS = {"FL": "f", "FD": "d", "SL": "i"}


def find(ds: Dataset, what: PrivateElement) -> DataElement | None:
    """The element in whichever block its creator has reserved; where no creator is written, in block 10."""
    reserved = False
    for block in BLOCKS:
        creator = ds.get((what.group, block))
        if creator is None:
            continue
        reserved = True
        if str(creator.value).strip(" \0") == what.creator:
            return ds.get((what.group, block << 8 | what.last))
    return None if reserved else ds.get(what.tag)


def gather(ds: Dataset) -> None:
    """Move the known private elements of ``ds`` to their place in block 10, and drop all others of TAGS."""
    found = list(_known(ds))
    for tag in TAGS:
        if tag in ds:
            del ds[tag]
    for element in found:
        ds.add(element)


def copy_known(source: Dataset, target: Dataset) -> None:
    """Give ``target`` the known private elements of ``source`` that it lacks, at their place in block 10."""
    tags = list(source.keys())  # iterating over the dataset itself would parse its elements
    if any(tag.is_private for tag in tags):
        for element in _known(source):
            if element.tag not in target:
                target.add(element)


def _known(ds: Dataset) -> Iterator[DataElement]:
    for what in KNOWN:
        element = find(ds, what)
        if element is not None and element.value not in (None, "", b""):
            value = _decoded(element.value, what.vr)
            if value is not None:
                yield DataElement(what.tag, what.vr, value)


def _decoded(value: object, vr: str) -> object | None:
    """A value that was stored without its VR (UN), as numbers or text; None where the bytes do not fit."""
    if not isinstance(value, bytes):
        return value
    if vr not in FORMATS:
        return value.decode("ascii", "ignore").strip(" \0").split("\\")
    size = struct.calcsize(FORMATS[vr])
    if not value or len(value) % size:
        return None
    numbers = struct.unpack(f"<{len(value) // size}{FORMATS[vr]}", value)
    return numbers[0] if len(numbers) == 1 else list(numbers)


def numbers(ds: Dataset, *where: PrivateElement) -> tuple[float, ...]:
    """The numbers of these elements one after another, empty where one is missing or none."""
    out: list[float] = []
    for what in where:
        element = ds.get(what.tag)
        if element is None or element.value in (None, ""):
            return ()
        values = element.value if not isinstance(element.value, (str, int, float)) else [element.value]
        try:
            out += [float(v) for v in values]
        except (TypeError, ValueError):
            return ()
    return tuple(out)
