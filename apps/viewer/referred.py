"""Presentation states, key object selections and outlines of others of a case: listed with what they say and
who made them, each image that they refer to a click away, and the windows of a state among those of its
images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import streamlit as st

from apps.viewer import components, presented
from apps.viewer.desk import library
from apps.viewer.words import branch, plain, w
from medfuse.case import Image, ReferredImage, ReferringObject
from medfuse.display.contract import CaseImages, Chip, CineImage, DrawnStructure, Spot, VolumeImage
from medfuse.display.presented import DrawnState
from medfuse.display.referred import ListedStructure, ReferredData, ReferredLine
from medfuse.display.views import view_of
from medfuse.library.referring import OUTLINES, objects_of

MOST_CHIPS = 12  # of one object
MOST_WINDOWS = 8  # of one image
Shown = TypeVar("Shown", VolumeImage, CineImage, VolumeImage | CineImage)


def instances_of(images: Sequence[Image]) -> dict[str, tuple[int, int]]:
    """SOP Instance UID → its image and slice as displayed; -1 where one file holds them all, or where its
    slices lie across those shown."""
    out: dict[str, tuple[int, int]] = {}
    for n, image in enumerate(images):
        uids = image.source.instance_uids
        upward = [0.0, 0.0, 0.0, 0.0]
        if image.kind != "cine" and len(uids) == image.pixels.shape[2] > 1:
            upward = [float(v) for v in view_of(image).to_view[2]]
        for k, uid in enumerate(uids):
            out[uid] = (n, round(upward[2] * k + upward[3]) if abs(upward[2]) > 0.5 else -1)
    return out


def show(case_id: str, case: CaseImages) -> None:
    """The list, where there is anything to list."""
    objects = objects_of(library(), case_id)
    if not objects:
        return
    with st.expander(w("referred.title"), expanded=True):
        drawn = {d.id: d for d in presented.drawn_states(case_id, case)}
        lines = [
            _outlines(one, case) if one.kind in OUTLINES else _line(one, case, drawn.get(one.sop_uid))
            for one in objects
        ]
        components.referred(ReferredData(objects=lines, words=branch("referred")), key=f"referred-{case_id}")


def with_windows(case_id: str, images: Sequence[Shown]) -> list[Shown]:
    """The images, each with the windows that presentation states set for it, by the name of the state."""
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for one in objects_of(library(), case_id):
        for n, window in enumerate(one.windows, 1):
            name = (one.title or w("referred.presentation_state")) + (f" {n}" if n > 1 else "")
            for uid in {i.series_uid for i in one.images if i.series_uid}:
                known = found.setdefault(uid, {})
                if len(known) < MOST_WINDOWS:
                    known.setdefault(plain(name)[:64], window)
    return [
        i.model_copy(update={"presets": {**i.presets, **found[i.series_uid]}}) if i.series_uid in found else i
        for i in images
    ]


def _line(one: ReferringObject, case: CaseImages, drawn: DrawnState | None) -> ReferredLine:
    kind = "key_objects" if one.kind == "key objects" else "presentation_state"
    places = [c for i in one.images for c in _chips(i, case)]
    missing = sum(i.sop_uid not in case.instances for i in one.images)
    said = [one.title, one.description]
    said += [w("referred.window", centre=f"{c:g}", width=f"{width:g}") for c, width in one.windows]
    said += [w("referred.rotated", degrees=one.rotation)] if one.rotation else []
    said += [w("referred.flipped")] if one.flipped else []
    said += [w("referred.inverted")] if one.inverted else []
    said += [w("referred.texts", texts=" · ".join(f"“{t}”" for t in one.texts))] if one.texts else []
    said += [w("referred.graphics", n=one.graphics)] if one.graphics else []
    said += [w("referred.undrawn", n=one.undrawn)] if one.undrawn else []
    said += [w("referred.nowhere", n=missing)] if missing else []
    said += [w("referred.more", n=len(places) - MOST_CHIPS)] if len(places) > MOST_CHIPS else []
    return ReferredLine(
        id=one.sop_uid,
        name=w(f"referred.{kind}"),
        said=" — ".join(s for s in said if s),
        places=places[:MOST_CHIPS],
        draws=drawn is not None and bool(drawn.marks),
        shows=drawn is not None and drawn.view is not None,
    )


def _outlines(one: ReferringObject, case: CaseImages) -> ReferredLine:
    """An object with outlines: what it is, who made it, and its structures."""
    here = [s for s in case.structures if s.of == one.sop_uid]
    said = [one.title, one.description, one.made_by and w("referred.made_by", who=one.made_by)]
    if why := case.unplaced.get(one.sop_uid):
        said.append(w("referred.unplaced", why=why))
    elif one.graphics > len(here):
        said.append(w("referred.unmarked", n=one.graphics - len(here)))
    return ReferredLine(
        id=one.sop_uid,
        name=w(f"referred.{one.kind.replace(' ', '_')}"),
        said=" — ".join(s for s in said if s),
        places=[],
        draws=len(here) > 1,
        structures=[
            ListedStructure(
                id=s.id,
                name=s.name,
                said=_size(s, case),
                colour=s.colour,
                place=Spot.model_validate(s.model_dump(include=set(Spot.model_fields))),
            )
            for s in here
        ],
    )


def _size(one: DrawnStructure, case: CaseImages) -> str:
    image = case.images[one.image]
    size = "" if one.ml is None else f"{one.ml:.1f} ml"
    return " · ".join(x for x in (size, image.modality, image.title[:40]) if x)


def _chips(referred: ReferredImage, case: CaseImages) -> list[Chip]:
    """A way to an image, or to each of its frames that is named; none where it is not here."""
    if referred.sop_uid not in case.instances:
        return []
    index, at = case.instances[referred.sop_uid]
    image = case.images[index]
    cine = isinstance(image, CineImage)
    frames = [f - 1 for f in referred.frames if 0 < f <= image.shape[2]] if cine else []
    what = w("findings.frame") if cine else w("findings.slice")
    chips = []
    for z in frames or [at]:
        last = (image.shape[0] - 1, image.shape[1] - 1)
        middle = image.shape[2] // 2 if z < 0 else z
        spot = Spot(
            id=f"{referred.sop_uid}:{z}",
            image=index,
            centre=(image.shape[0] // 2, image.shape[1] // 2, middle),
            box=((0, 0, middle), (*last, middle)),
            box_mm=None,
        )
        label = f"{image.modality} {what} {z + 1}" if z >= 0 else f"{image.modality} {image.title}"
        chips.append(Chip(label=label[:40], title=image.title, place=spot))
    return chips
