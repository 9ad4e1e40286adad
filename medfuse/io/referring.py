"""Presentation states, key objects and outlines of a study, and which images they refer to."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pydicom
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from ..case import ReferredImage, ReferringObject
from . import charset
from .child import ChildFailed, children
from .presented import Presented, presented, referred_image
from .rtstruct import STORAGE as STRUCTURE_SET
from .rtstruct import series_of

KEY_OBJECTS = "1.2.840.10008.5.1.4.1.1.88.59"
PRESENTATION_STATES = "1.2.840.10008.5.1.4.1.1.11."  # and one number more
SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")  # also of label maps
LONGEST = 128  # letters of a title or name
DEEPEST = 16  # of a tree of content


def refers(sop_class: str) -> bool:
    """Whether objects of a SOP class are read here."""
    return sop_class == KEY_OBJECTS or sop_class.startswith(PRESENTATION_STATES) or outlines(sop_class)


def outlines(sop_class: str) -> bool:
    """Whether objects of a SOP class hold outlines that somebody made."""
    return sop_class == STRUCTURE_SET or sop_class in SEGMENTATIONS


def read_referring(path: Path) -> ReferringObject | str:
    """One presentation state, key object selection, segmentation or structure set, without its pixels, or one
    clause that says why it is none. It is read in a child."""
    try:
        return children().run(_read, path)
    except ChildFailed as e:
        return str(e)


def _read(path: Path) -> ReferringObject | str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ds = pydicom.dcmread(path, force=True, stop_before_pixels=True)
            charset.obey(ds)
            return _of(ds, path)
        except (MemoryError, RecursionError):
            raise
        except Exception as e:  # a damaged object can break any part of the parser
            return f"cannot be read ({type(e).__name__}: {str(e)[:100]}); copy it again from the source"


def _of(ds: Dataset, path: Path) -> ReferringObject:
    if outlines(str(ds.SOPClassUID)):
        return _of_outlines(ds, path)
    key = str(ds.SOPClassUID) == KEY_OBJECTS
    if key:
        title = str(_first(ds, "ConceptNameCodeSequence").get("CodeMeaning", "") or "")
        words = [str(i.get("TextValue", "") or "") for i in _content(ds) if i.get("ValueType") == "TEXT"]
        images = _key_images(ds)
    else:
        title = str(ds.get("ContentLabel", "") or "")
        words = [str(ds.get("ContentDescription", "") or "")]
        images = tuple(_referred(ds))
    graphics = sum(
        len(layer.get(k) or ())
        for layer in ds.get("GraphicAnnotationSequence") or ()
        for k in ("GraphicObjectSequence", "TextObjectSequence", "CompoundGraphicSequence")
    )
    drawn = Presented((), (), 0) if key else _presented(ds, images, graphics)
    return ReferringObject(
        kind="key objects" if key else "presentation state",
        path=str(path),
        sop_uid=str(ds.get("SOPInstanceUID", "")),
        series_uid=str(ds.get("SeriesInstanceUID", "")),
        study_uid=str(ds.get("StudyInstanceUID", "")),
        title=title,
        description="; ".join(w for w in words if w),
        graphics=graphics,
        images=images,
        patient_id=str(ds.get("PatientID", "") or ""),
        windows=tuple(_windows(ds)),
        rotation=int(ds.get("ImageRotation") or 0) % 360,
        flipped=ds.get("ImageHorizontalFlip") == "Y",
        inverted=ds.get("PresentationLUTShape") == "INVERSE",
        texts=tuple(_texts(ds)),
        marks=drawn.marks,
        areas=drawn.areas,
        undrawn=drawn.undrawn,
    )


def _of_outlines(ds: Dataset, path: Path) -> ReferringObject:
    segmentation = str(ds.SOPClassUID) in SEGMENTATIONS
    kind: Literal["segmentation", "structure set"] = "segmentation" if segmentation else "structure set"
    listed = ds.get("SegmentSequence" if segmentation else "StructureSetROISequence") or ()
    title = _said(ds, "SeriesDescription", "StructureSetLabel", "ContentLabel")
    words = [_said(ds, "ContentDescription", "StructureSetDescription")]
    return ReferringObject(
        kind=kind,
        path=str(path),
        sop_uid=str(ds.get("SOPInstanceUID", "")),
        series_uid=str(ds.get("SeriesInstanceUID", "")),
        study_uid=str(ds.get("StudyInstanceUID", "")),
        title=title,
        description="; ".join(w for w in words if w and w != title),
        graphics=len(listed),
        images=(),
        patient_id=str(ds.get("PatientID", "") or ""),
        outlined=tuple(sorted(_outlined(ds) if segmentation else series_of(ds))),
        made_by=_made_by(ds, listed),
    )


def _outlined(ds: Dataset) -> set[str]:
    return {str(s.get("SeriesInstanceUID", "") or "") for s in ds.get("ReferencedSeriesSequence") or ()} - {
        ""
    }


def _made_by(ds: Dataset, listed: Any) -> str:
    """Person, program and date, as far as the file says them."""
    person = _said(ds, "ContentCreatorName", "OperatorsName").replace("^", " ").strip()
    programs = [_said(item, "SegmentAlgorithmName") for item in listed]
    program = next((p for p in programs if p), "") or _said(ds, "ManufacturerModelName")
    date = _said(ds, "StructureSetDate", "ContentDate", "SeriesDate")
    return ", ".join(x for x in (person, program, _said(ds, "Manufacturer"), date) if x)


def _said(ds: Dataset, *names: str) -> str:
    """The first of these attributes that says something, on one line."""
    found = (" ".join(str(ds.get(n, "") or "").split()) for n in names)
    return next((x[:LONGEST] for x in found if x), "")


def _presented(ds: Dataset, images: tuple[ReferredImage, ...], graphics: int) -> Presented:
    """What a state draws; nothing of it where an element of that is damaged, as half would mislead."""
    try:
        return presented(ds, images)
    except (MemoryError, RecursionError):
        raise
    except Exception:  # a damaged element can break any part of the parser
        return Presented((), (), graphics)


def _windows(ds: Dataset) -> Iterator[tuple[float, float]]:
    """Centre and width of every window that it sets."""
    for item in ds.get("SoftcopyVOILUTSequence") or ():
        centres, widths = (_listed(item.get(k)) for k in ("WindowCenter", "WindowWidth"))
        for centre, width in zip(centres, widths, strict=False):
            if math.isfinite(float(centre)) and 0 < float(width) < math.inf:
                yield float(centre), float(width)


def _listed(value: Any) -> list[Any]:
    """One number or several of an attribute."""
    return list(value) if isinstance(value, (list, MultiValue)) else [] if value is None else [value]


def _texts(ds: Dataset) -> Iterator[str]:
    """The words that it writes on images."""
    for layer in ds.get("GraphicAnnotationSequence") or ():
        for item in layer.get("TextObjectSequence") or ():
            words = " ".join(str(item.get("UnformattedTextValue", "") or "").split())
            if words:
                yield words[:1024]


def _first(ds: Dataset, name: str) -> Dataset:
    return next(iter(ds.get(name) or ()), Dataset())


def _referred(ds: Dataset) -> Iterator[ReferredImage]:
    """Of a presentation state: its own references, and those of the states that it blends."""
    for series in ds.get("ReferencedSeriesSequence") or ():
        uid = str(series.get("SeriesInstanceUID", "") or "")
        for item in series.get("ReferencedImageSequence") or ():
            yield referred_image(uid, item)
    for name in ("BlendingSequence", "AdvancedBlendingSequence"):
        for part in ds.get(name) or ():
            yield from _referred(part)


def _content(ds: Dataset, depth: int = 0) -> Iterator[Dataset]:
    for item in (ds.get("ContentSequence") or ()) if depth < DEEPEST else ():
        yield item
        yield from _content(item, depth + 1)


def _key_images(ds: Dataset) -> tuple[ReferredImage, ...]:
    """The images that the content names, each with its series by the evidence; all evidence where it names
    none."""
    series_of: dict[str, str] = {}
    for study in ds.get("CurrentRequestedProcedureEvidenceSequence") or ():
        for series in study.get("ReferencedSeriesSequence") or ():
            for item in series.get("ReferencedSOPSequence") or ():
                series_of[str(item.get("ReferencedSOPInstanceUID", ""))] = str(
                    series.get("SeriesInstanceUID", "")
                )
    named = [
        reference
        for item in _content(ds)
        if item.get("ValueType") in ("IMAGE", "COMPOSITE", "WAVEFORM")
        for reference in item.get("ReferencedSOPSequence") or ()
    ]
    if not named:
        return tuple(ReferredImage(series_uid=s, sop_uid=u) for u, s in series_of.items())
    series = [series_of.get(str(r.get("ReferencedSOPInstanceUID", "")), "") for r in named]
    return tuple(referred_image(s, r) for s, r in zip(series, named, strict=True))
