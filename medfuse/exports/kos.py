"""The images that readers chose, as a Key Object Selection for each study (highdicom; PS3.16 TID 2010)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from highdicom.sr import (
    DeviceObserverIdentifyingAttributes,
    ObserverContext,
    PersonObserverIdentifyingAttributes,
)
from highdicom.sr.coding import CodedConcept
from pydicom.dataset import Dataset

from .. import __version__
from ..case import Case, Image
from ..display.marked import line_of
from ..display.marks import AnyMark, KeyView
from ..display.views import view_of
from .dicom_source import MANUFACTURER, MODEL, from_dicom, headers_of, odd_names, uid_of
from .sr import person_name

OF_INTEREST = CodedConcept("113000", "DCM", "Of Interest")
AXIS = {"sagittal": 0, "coronal": 1, "axial": 2}  # of a volume as displayed


@dataclass(frozen=True)
class _Chosen:
    """What a key image refers to. frame: from 1; 0 for the whole of the instance."""

    mark: KeyView
    header: Dataset
    frame: int


def write_kos(
    measured: list[AnyMark], case: Case, key: str
) -> tuple[list[KeyObjectSelectionDocument], list[str]]:
    """One object a study that key images are of, and a sentence for each that no object can name.

    key: what makes the objects of two reports differ. Raises UserError where a source image is gone.
    """
    chosen: list[_Chosen] = []
    problems = []
    for mark in measured:
        if isinstance(mark, KeyView):
            found = _refers_to(mark, case)
            if isinstance(found, str):
                problems.append(f"key image {line_of(mark, case)}: {found}")
            else:
                chosen.append(found)
    studies = dict.fromkeys(str(c.header.StudyInstanceUID) for c in chosen)
    return [_document([c for c in chosen if c.header.StudyInstanceUID == s], key) for s in studies], problems


def _refers_to(mark: KeyView, case: Case) -> _Chosen | str:
    """The stored image that a key image shows, or why there is none."""
    image = case.images[mark.image] if mark.image < len(case.images) else None
    if image is None or mark.series_uid not in ("", image.source.series_uid):
        return "its series is not in the case any more"
    if not from_dicom(image):
        return "its image came without DICOM identifiers"
    several = len(image.source.instance_uids) > 1
    if image.kind == "cine":
        at = mark.slice if several else 0
        frame = 0 if several or len(image.pixels) == 1 else mark.slice + 1
    else:
        stored = _stored_slice(image, mark)
        if stored is None:
            return "a plane across the slices is no stored image"
        at, frame = (stored if several else 0), 0
    if at >= len(image.source.instance_uids):
        return "its slice is not in the case any more"
    source = image.source
    one = replace(source, files=(source.files[at],), instance_uids=(source.instance_uids[at],))
    return _Chosen(mark, headers_of(replace(image, source=one))[0], frame)


def _stored_slice(image: Image, mark: KeyView) -> int | None:
    """The number of the acquired slice that the plane shows, from 0; None where it cuts across them."""
    to_view = view_of(image).to_view
    axis = AXIS[mark.plane]
    step = float(to_view[axis, 2])
    if not np.isclose(abs(step), 1):
        return None
    k = round((mark.slice - float(to_view[axis, 3])) / step)
    return k if 0 <= k < image.pixels.shape[2] else None


def _document(chosen: list[_Chosen], key: str) -> KeyObjectSelectionDocument:
    """The selection within one study, each instance once."""
    headers = {str(c.header.SOPInstanceUID): c.header for c in chosen}
    study = str(chosen[0].header.StudyInstanceUID)
    content = KeyObjectSelection(
        document_title=OF_INTEREST,
        referenced_objects=list(headers.values()),
        observer_person_context=_person(chosen),
        observer_device_context=ObserverContext(
            CodedConcept("121007", "DCM", "Device"),
            DeviceObserverIdentifyingAttributes(
                uid=uid_of("medfuse", __version__), manufacturer_name=MANUFACTURER, model_name=MODEL
            ),
        ),
        description="; ".join(dict.fromkeys(c.mark.text for c in chosen if c.mark.text)) or None,
    )
    for item in content[0].ContentSequence:
        for reference in item.get("ReferencedSOPSequence", ()):
            uid = str(reference.ReferencedSOPInstanceUID)
            frames = sorted({c.frame for c in chosen if str(c.header.SOPInstanceUID) == uid})
            if 0 not in frames:  # the whole instance holds its frames
                reference.ReferencedFrameNumber = frames[0] if len(frames) == 1 else frames
    named = [(c.mark.plane, c.mark.slice, str(c.header.SOPInstanceUID)) for c in chosen]
    with odd_names():
        ko = KeyObjectSelectionDocument(
            evidence=list(headers.values()),
            content=content,
            series_instance_uid=uid_of("kos-series", study, key, named),
            series_number=910,
            sop_instance_uid=uid_of("kos", study, key, named),
            instance_number=1,
            manufacturer=MANUFACTURER,
            series_description="medfuse key images",
        )
    ko.SpecificCharacterSet = "ISO_IR 192"
    ko.ManufacturerModelName = MODEL
    ko.SoftwareVersions = __version__
    return ko


def _person(chosen: list[_Chosen]) -> ObserverContext | None:
    """Who chose, where it was one person."""
    names = {c.mark.author for c in chosen}
    if len(names) != 1 or not (name := names.pop()):
        return None
    return ObserverContext(
        CodedConcept("121006", "DCM", "Person"), PersonObserverIdentifyingAttributes(name=person_name(name))
    )
