"""DICOM Parametric Maps: each voxel a quantity with a unit, by its real world value mapping (PS3.3
C.7.6.16.2.11)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset

from ..modalities import MODALITIES, code_of_class, modality_of, stated
from .acquired import number
from .child import ChildFailed, children

PARAMETRIC_MAP = "1.2.840.10008.5.1.4.1.1.30"
QUANTITY = "246205007"  # SCT, of the item that names what is measured
QUANTITY_BEFORE = "G-C1C6"  # the same in SRT


class NoQuantity(Exception):
    """The message is a clause that says what a map does not say."""


@dataclass(frozen=True, kw_only=True)
class Mapping:
    """value = stored · slope + intercept, of ``quantity`` in ``unit`` (words; ``ucum``: its code)."""

    slope: float
    intercept: float
    quantity: str
    unit: str
    ucum: str

    @property
    def said(self) -> dict[str, tuple[str, float]]:
        """As traits of an image."""
        return {"quantity": (self.quantity, 1.0), "unit": (self.ucum or self.unit, 1.0)}


def modality_of_map(tags: dict[str, str]) -> str:
    """The modality that a map was made from, by its header's text; "" where that is none of volumes."""
    code = stated(tags.get("Modality", ""))
    return code if code in MODALITIES and not modality_of(code).is_cine else ""


def modality_of_sources(path: Path) -> str:
    """The modality of the images that a map was made from, where all it refers to are of one; else ""."""
    try:
        classes = children().run(_source_classes, path)
    except ChildFailed:
        return ""
    found = {code_of_class(uid) for uid in classes} - {""}
    code = found.pop() if len(found) == 1 else ""
    return code if code and not modality_of(code).is_cine else ""


def _source_classes(path: Path) -> set[str]:
    """SOP classes that a file refers to; none of a damaged one. Runs in a child."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ds = pydicom.dcmread(path, stop_before_pixels=True, force=True)
            return {str(e.value) for e in ds.iterall() if e.keyword == "ReferencedSOPClassUID"}
        except (MemoryError, RecursionError):
            raise
        except Exception:  # a damaged header can break any element's parsing; whoever reads it says so
            return set()


def mapping_of(frame: Dataset, shared: Dataset, modality: str) -> Mapping:
    """How the stored values of one frame become a quantity. Raises NoQuantity."""
    items = list(
        frame.get("RealWorldValueMappingSequence") or shared.get("RealWorldValueMappingSequence") or ()
    )
    if not items:
        raise NoQuantity("has no real world value mapping, so its values mean nothing")
    found = {_mapping(item) for item in items}
    if len(found) > 1:
        raise NoQuantity(f"maps one value to {len(found)} quantities; only maps of one are read")
    one = found.pop()
    due = modality_of(modality).unit
    if due is not None and one.ucum != due.ucum[0]:
        raise NoQuantity(
            f"holds {one.quantity} in {one.ucum or one.unit}, and {modality} is read in {due.name}"
        )
    return one


def _mapping(item: Dataset) -> Mapping:
    if item.get("RealWorldValueLUTData"):
        raise NoQuantity("maps its values by a table; only slope and intercept are read")
    slope = number(item, "RealWorldValueSlope")
    if slope is None or slope == 0:
        raise NoQuantity(f"has a RealWorldValueSlope of {item.get('RealWorldValueSlope')}")
    quantity = _quantity(item)
    units = list(item.get("MeasurementUnitsCodeSequence") or ())
    if not quantity:
        raise NoQuantity("does not say which quantity its values are")
    if not units:
        raise NoQuantity(f"holds {quantity} in no stated unit")
    return Mapping(
        slope=slope,
        intercept=number(item, "RealWorldValueIntercept") or 0.0,
        quantity=quantity,
        unit=str(units[0].get("CodeMeaning", "") or ""),
        ucum=str(units[0].get("CodeValue", "") or ""),
    )


def _quantity(item: Dataset) -> str:
    """The words of the quantity that is measured; "" where the item names none."""
    for part in item.get("QuantityDefinitionSequence") or ():
        names = {str(c.get("CodeValue", "")) for c in part.get("ConceptNameCodeSequence") or ()}
        if names & {QUANTITY, QUANTITY_BEFORE}:
            for code in part.get("ConceptCodeSequence") or ():
                return str(code.get("CodeMeaning", "") or "")
    return ""
