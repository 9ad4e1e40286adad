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
SIEMENS_TILES = PrivateElement(0x0019, "SIEMENS MR HEADER", 0x0A, "US")  # slices in a mosaic
SIEMENS_DIRECTION = PrivateElement(0x0019, "SIEMENS MR HEADER", 0x0E, "FD")
PHILIPS_B_VALUE = PrivateElement(0x2001, "Philips Imaging DD 001", 0x03, "FL")
PHILIPS_DIRECTION = tuple(
    PrivateElement(0x2005, "Philips MR Imaging DD 001", n, "FL") for n in (0xB0, 0xB1, 0xB2)
)
PHILIPS_IMAGE_TYPE = PrivateElement(0x2005, "Philips MR Imaging DD 001", 0x11, "CS")  # M, P, R, I
PHILIPS_PHASE = PrivateElement(0x2001, "Philips Imaging DD 001", 0x08, "IS")  # of the heart
PHILIPS_DYNAMIC = PrivateElement(0x2005, "Philips MR Imaging DD 001", 0xA0, "FL")  # when its scan began
PHILIPS_GRADIENT = PrivateElement(0x2005, "Philips MR Imaging DD 005", 0x13, "IS")
PHILIPS_LABEL = PrivateElement(0x2005, "Philips MR Imaging DD 005", 0x29, "CS")  # of spin labelling
GE_IMAGE_TYPE = PrivateElement(0x0043, "GEMS_PARM_01", 0x2F, "SS")  # magnitude, phase, real, imaginary
SIEMENS_DIRECTIONALITY = PrivateElement(0x0019, "SIEMENS MR HEADER", 0x0D, "CS")
SIEMENS_COIL = PrivateElement(0x0051, "SIEMENS MR HEADER", 0x0F, "LO")
PHILIPS_SCALE = PrivateElement(0x2005, "Philips MR Imaging DD 001", 0x0E, "FL")
UIH_B_VALUE = PrivateElement(0x0065, "Image Private Header", 0x09, "FD")
UIH_DIRECTION = PrivateElement(0x0065, "Image Private Header", 0x37, "FD")
KNOWN = (
    GE_ECHO,
    SIEMENS_TILES,
    GE_B_VALUE,
    *GE_DIRECTION,
    SIEMENS_B_VALUE,
    SIEMENS_DIRECTION,
    PHILIPS_B_VALUE,
    *PHILIPS_DIRECTION,
    PHILIPS_SCALE,
    UIH_B_VALUE,
    UIH_DIRECTION,
    PHILIPS_IMAGE_TYPE,
    PHILIPS_PHASE,
    PHILIPS_DYNAMIC,
    PHILIPS_GRADIENT,
    PHILIPS_LABEL,
    GE_IMAGE_TYPE,
    SIEMENS_DIRECTIONALITY,
    SIEMENS_COIL,
)
BLOCKS = range(0x10, 0x100)  # where a vendor, or an archive that moved them, puts its elements (PS3.5 7.8.1)
TAGS = tuple(sorted(w.tag for w in KNOWN))  # where `gather` puts them
GROUPS = frozenset(w.group for w in KNOWN)
GROUPS_READ = GROUPS | {0x0029}  # and that of the CSA header, which `mosaic` reads by itself
FORMATS = {"FL": "f", "FD": "d", "SL": "i", "US": "H", "SS": "h"}


def find(ds: Dataset, what: PrivateElement) -> DataElement | None:
    """The element in whichever block its creator has reserved; where no creator is written, in block 10."""
    return _in_block(ds, what, _creators(ds))


def _creators(ds: Dataset) -> dict[int, dict[str, int]]:
    """Group → creator in capital letters → its block, of the groups that are known here."""
    found: dict[int, dict[str, int]] = {}
    for tag in list(ds.keys()):
        if tag.group in GROUPS_READ and tag.element in BLOCKS:
            creator = str(ds[tag].value).strip(" \0").upper()
            found.setdefault(tag.group, {}).setdefault(creator, tag.element)
    return found


def _in_block(ds: Dataset, what: PrivateElement, creators: dict[int, dict[str, int]]) -> DataElement | None:
    here = creators.get(what.group)
    if not here:
        return ds.get(what.tag)
    block = here.get(what.creator.upper())
    return None if block is None else ds.get((what.group, block << 8 | what.last))


def gather(ds: Dataset) -> None:
    """Move the known private elements of ``ds`` to their place in block 10, and drop all others of their
    groups."""
    found = list(_known(ds))
    for tag in list(ds.keys()):
        if tag.group in GROUPS:
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
    creators = _creators(ds)
    for what in KNOWN:
        element = _in_block(ds, what, creators)
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


def text(ds: Dataset, what: PrivateElement) -> str:
    """The value of an element as text, empty where there is none."""
    element = ds.get(what.tag)
    return "" if element is None or element.value is None else str(element.value).strip(" \0")


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
