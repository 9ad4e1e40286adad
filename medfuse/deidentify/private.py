"""Private elements that are numbers of the image (PS3.15 table E.3.10-1): without them values would
silently change."""

from __future__ import annotations

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from ..io import private as vendors
from ..io.private import PrivateElement
from .values import DECIMAL, listed, spells_text

SAFE = (
    vendors.PHILIPS_SCALE,
    vendors.PHILIPS_B_VALUE,
    *vendors.PHILIPS_DIRECTION,
    vendors.SIEMENS_B_VALUE,
    vendors.SIEMENS_DIRECTION,
    vendors.GE_B_VALUE,
    *vendors.GE_DIRECTION,
)


def safe_elements(ds: Dataset) -> list[tuple[PrivateElement, DataElement]]:
    """The safe private elements of ``ds``, of numbers only, found by their creator in whatever block."""
    copy = Dataset()
    vendors.copy_known(ds, copy)
    found = [(what, copy.get(what.tag)) for what in SAFE]
    return [(what, element) for what, element in found if element is not None and _is_number(what, element)]


def _is_number(what: PrivateElement, element: DataElement) -> bool:
    """Whether an element holds a few numbers and nothing else."""
    values = listed(element.value)
    most = {vendors.GE_B_VALUE: 4, vendors.SIEMENS_DIRECTION: 3}.get(what, 1)
    if not 0 < len(values) <= most or what.vr != element.VR or spells_text(what.vr, values, alone=False):
        return False
    texts = [str(getattr(v, "original_string", v)) for v in values]
    return all(DECIMAL.fullmatch(t) and len(t) <= 24 for t in texts)


def put_back(ds: Dataset, safe: list[tuple[PrivateElement, DataElement]]) -> None:
    """Write safe elements, each in block 10 of its creator."""
    for what, element in safe:
        block = ds.private_block(what.group, what.creator, create=True)
        values = [float(str(v)) for v in listed(element.value)] if what.vr in ("FL", "FD") else element.value
        block.add_new(what.last, what.vr, values)
