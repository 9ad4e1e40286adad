"""What a presentation state draws on its images, what it hides of them and which part it shows (PS3.3 C.10.4,
C.10.5, C.7.6.11), in pixels of the images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from ..case import ReferredImage, StateArea, StateMark
from .overlays import GROUPS

MOST_MARKS = 2000  # of one state
MOST_POINTS = 20_000  # of all its marks together
FARTHEST = 1e6  # pixels: what lies farther away is no place
MOST_WORDS = 1024  # characters of one text
Point = tuple[float, float]
SHAPES: dict[str, Literal["points", "line", "curve", "circle", "ellipse"]] = {
    "POINT": "points",
    "MULTIPOINT": "points",
    "POLYLINE": "line",
    "INTERPOLATED": "curve",
    "CIRCLE": "circle",
    "ELLIPSE": "ellipse",
}
FEWEST = {"points": 1, "line": 2, "curve": 2, "circle": 2, "ellipse": 4}


@dataclass(frozen=True)
class Presented:
    """What a state draws, the lowest layer first and shutters before all; what it shows; how many of its
    marks have no place that can be told."""

    marks: tuple[StateMark, ...]
    areas: tuple[StateArea, ...]
    undrawn: int


def presented(ds: Dataset, images: Sequence[ReferredImage]) -> Presented:
    """Read it. images: all that the state refers to. Raises what damaged elements raise."""
    turned = int(ds.get("ImageRotation") or 0) % 180 == 90
    areas = tuple(_areas(ds))
    layers = _layers(ds)
    kept: list[StateMark] = []
    undrawn = points = 0
    for mark in [*_shutters(ds), *_bitmaps(ds, layers), *_annotations(ds, layers)]:
        for one in mark.placed(areas, images, turned) if isinstance(mark, _Loose) else [mark]:
            points += len(one.points) if one is not None else 0
            if one is None or len(kept) == MOST_MARKS or points > MOST_POINTS:
                undrawn += 1
            else:
                kept.append(one)
    return Presented(tuple(kept), areas, undrawn + _compound(ds))


@dataclass(frozen=True)
class _Loose:
    """A mark whose points are not pixels yet: by unit ("PIXEL", or "DISPLAY": shares of the area shown)."""

    mark: StateMark | None
    units: str
    anchor_units: str = "PIXEL"

    def placed(
        self, areas: Sequence[StateArea], images: Sequence[ReferredImage], turned: bool
    ) -> Iterator[StateMark | None]:
        """It in pixels, once for each area that its images are shown in; None where that cannot be told."""
        mark = self.mark
        units = {
            self.units,
            self.anchor_units if mark is not None and mark.anchor is not None else self.units,
        }
        if mark is None or not units <= {"PIXEL", "DISPLAY"}:
            yield None
        elif units == {"PIXEL"}:
            yield mark if _near(mark) else None
        else:
            yield from self._shared(mark, areas, images, turned)

    def _shared(
        self, mark: StateMark, areas: Sequence[StateArea], images: Sequence[ReferredImage], turned: bool
    ) -> Iterator[StateMark | None]:
        left = list(mark.images or images)
        for area in areas:
            named = {i.sop_uid for i in area.images}
            here = [i for i in left if not named or i.sop_uid in named]
            left = [i for i in left if i not in here]
            if here:
                points = mark.points
                points = (
                    tuple(_inside(area, p, turned) for p in points) if self.units == "DISPLAY" else points
                )
                anchor = mark.anchor
                if anchor is not None and self.anchor_units == "DISPLAY":
                    anchor = _inside(area, anchor, turned)
                placed = replace(mark, points=_rounded(points), anchor=anchor, images=tuple(here))
                yield placed if _near(placed) else None
        if left:
            yield None


def _inside(area: StateArea, share: Point, turned: bool) -> Point:
    """A share of the area as the screen shows it (0, 0 in its upper left corner) in pixels: where the image
    is turned by a quarter, across the screen is down the image."""
    (x0, y0), (x1, y1) = area.corners
    u, v = share[::-1] if turned else share
    return x0 + u * (x1 - x0), y0 + v * (y1 - y0)


def _near(mark: StateMark) -> bool:
    numbers = [v for p in (*mark.points, *([mark.anchor] if mark.anchor else [])) for v in p]
    return all(math.isfinite(v) and abs(v) <= FARTHEST for v in numbers)


def _rounded(points: Iterable[Sequence[Any]]) -> tuple[Point, ...]:
    return tuple((round(float(x), 3), round(float(y), 3)) for x, y in points)


def _pairs(value: Any) -> tuple[Point, ...]:
    """Numbers of an attribute, two by two."""
    listed = list(value) if isinstance(value, (list, MultiValue)) else []
    return _rounded(zip(listed[::2], listed[1::2], strict=False))


def _item(ds: Dataset, name: str) -> Dataset:
    return next(iter(ds.get(name) or ()), Dataset())


def _areas(ds: Dataset) -> Iterator[StateArea]:
    """The corners are pixels from 1, both of them shown."""
    for item in ds.get("DisplayedAreaSelectionSequence") or ():
        first = _pairs(item.get("DisplayedAreaTopLeftHandCorner"))
        last = _pairs(item.get("DisplayedAreaBottomRightHandCorner"))
        if first and last:
            edges = [(a - 1, b) if a <= b else (a, b - 1) for a, b in zip(first[0], last[0], strict=True)]
            (x0, x1), (y0, y1) = edges
            if all(abs(v) <= FARTHEST for v in (x0, x1, y0, y1)):
                yield StateArea(corners=((x0, y0), (x1, y1)), images=_images(item))


def _images(item: Dataset) -> tuple[ReferredImage, ...]:
    return tuple(referred_image("", i) for i in item.get("ReferencedImageSequence") or ())


def referred_image(series_uid: str, item: Dataset) -> ReferredImage:
    """An item that refers to an image, and to frames of it."""
    frames = item.get("ReferencedFrameNumber")
    listed = [frames] if isinstance(frames, (int, str)) else list(frames or ())
    return ReferredImage(
        series_uid=series_uid,
        sop_uid=str(item.get("ReferencedSOPInstanceUID", "") or ""),
        frames=tuple(int(f) for f in listed),
    )


@dataclass(frozen=True)
class _Layer:
    order: int
    colour: str


def _layers(ds: Dataset) -> dict[str, _Layer]:
    out = {}
    for item in ds.get("GraphicLayerSequence") or ():
        lab = item.get("GraphicLayerRecommendedDisplayCIELabValue")
        rgb = item.get("GraphicLayerRecommendedDisplayRGBValue")
        grey = item.get("GraphicLayerRecommendedDisplayGrayscaleValue")
        colour = _lab(lab) or _grey(*(rgb if rgb and len(rgb) == 3 else [grey] * 3))
        out[str(item.get("GraphicLayer", ""))] = _Layer(int(item.get("GraphicLayerOrder") or 0), colour)
    return out


def _lab(value: Any) -> str:
    """A colour as the web writes it; empty where there is none."""
    if value is None or len(value) != 3:
        return ""
    from highdicom.color import CIELabColor  # few states have a colour, and highdicom takes its time

    return "#" + "".join(f"{c:02x}" for c in CIELabColor.from_dicom_value(list(value)).to_rgb(clip=True))


def _grey(*parts: Any) -> str:
    """The same of three values of 16 bits (of 8 where none is larger)."""
    if None in parts:
        return ""
    shift = 8 if max(int(v) for v in parts) > 255 else 0
    return "#" + "".join(f"{min(255, max(0, int(v) >> shift)):02x}" for v in parts)


def _annotations(ds: Dataset, layers: dict[str, _Layer]) -> Iterator[_Loose]:
    items = list(ds.get("GraphicAnnotationSequence") or ())
    none = _Layer(0, "")
    for item in sorted(items, key=lambda i: layers.get(str(i.get("GraphicLayer", "")), none).order):
        colour = layers.get(str(item.get("GraphicLayer", "")), none).colour
        images = _images(item)
        for graphic in item.get("GraphicObjectSequence") or ():
            yield _graphic(graphic, colour, images)
        for text in item.get("TextObjectSequence") or ():
            yield _text(text, colour, images)


def _graphic(item: Dataset, colour: str, images: tuple[ReferredImage, ...]) -> _Loose:
    kind = SHAPES.get(str(item.get("GraphicType", "")))
    points = _pairs(item.get("GraphicData"))
    units = str(item.get("GraphicAnnotationUnits", ""))
    if kind is None or len(points) < FEWEST[kind]:
        return _Loose(None, units)
    own = _lab(_item(item, "LineStyleSequence").get("PatternOnColorCIELabValue"))
    filled = item.get("GraphicFilled") == "Y" and kind != "points"
    return _Loose(
        StateMark(kind=kind, points=points, filled=filled, colour=own or colour, images=images), units
    )


def _text(item: Dataset, colour: str, images: tuple[ReferredImage, ...]) -> _Loose:
    lines = [" ".join(x.split()) for x in str(item.get("UnformattedTextValue", "") or "").splitlines()]
    words = "\n".join(x for x in lines if x)[:MOST_WORDS]
    box = [
        p
        for name in ("BoundingBoxTopLeftHandCorner", "BoundingBoxBottomRightHandCorner")
        for p in _pairs(item.get(name))
    ]
    anchor = next(iter(_pairs(item.get("AnchorPoint"))), None)
    anchor_units = str(item.get("AnchorPointAnnotationUnits", ""))
    units = str(item.get("BoundingBoxAnnotationUnits", "")) if box else anchor_units
    points = tuple(box) or ((anchor,) if anchor else ())
    if not words or not points:
        return _Loose(None, units)
    leads = box and item.get("AnchorPointVisibility") == "Y"
    own = _lab(_item(item, "TextStyleSequence").get("TextColorCIELabValue"))
    side = str(item.get("BoundingBoxTextHorizontalJustification", "")).lower()
    mark = StateMark(
        kind="text",
        points=points,
        text=words,
        align="center" if side == "center" else "right" if side == "right" else "left",
        anchor=anchor if leads else None,
        colour=own or colour,
        images=images,
    )
    return _Loose(mark, units, anchor_units)


def _compound(ds: Dataset) -> int:
    """Compound figures that are not drawn as plain ones too, as they have to be (PS3.3 C.10.5)."""
    named, plain = set(), set()
    for layer in ds.get("GraphicAnnotationSequence") or ():
        named |= {i.get("CompoundGraphicInstanceID", -1) for i in layer.get("CompoundGraphicSequence") or ()}
        for name in ("GraphicObjectSequence", "TextObjectSequence"):
            plain |= {i.get("CompoundGraphicInstanceID") for i in layer.get(name) or ()}
    return len(named - plain)


def _shutters(ds: Dataset) -> Iterator[StateMark]:
    """Shapes outside of which everything is hidden. Edges and centres are pixels from 1; corners of polygons
    and centres come as row, column."""
    shapes = ds.get("ShutterShape")
    colour = _lab(ds.get("ShutterPresentationColorCIELabValue")) or _grey(
        *[ds.get("ShutterPresentationValue", 0)] * 3
    )
    for shape in [shapes] if isinstance(shapes, str) else list(shapes or ()):
        if shape == "RECTANGULAR":
            left, right, upper, lower = (
                float(ds[f"Shutter{k}Edge"].value)
                for k in ("LeftVertical", "RightVertical", "UpperHorizontal", "LowerHorizontal")
            )
            corners = ((left - 1, upper - 1), (right, upper - 1), (right, lower), (left - 1, lower))
            yield StateMark(kind="line", points=corners, shutter=True, colour=colour)
        elif shape == "CIRCULAR":
            row, column = (float(v) - 0.5 for v in ds.CenterOfCircularShutter)
            edge = (column + float(ds.RadiusOfCircularShutter), row)
            yield StateMark(kind="circle", points=((column, row), edge), shutter=True, colour=colour)
        elif shape == "POLYGONAL":
            around = tuple((x - 0.5, y - 0.5) for y, x in _pairs(ds.get("VerticesOfThePolygonalShutter")))
            if len(around) > 2:
                yield StateMark(kind="line", points=around, shutter=True, colour=colour)


def _bitmaps(ds: Dataset, layers: dict[str, _Layer]) -> Iterator[StateMark | _Loose]:
    """Overlays of the state's own that it shows on a layer, or hides with."""
    shapes = ds.get("ShutterShape")
    hides = "BITMAP" in ([shapes] if isinstance(shapes, str) else list(shapes or ()))
    for group in GROUPS:
        layer = str(ds[group, 0x1001].value or "") if (group, 0x1001) in ds else ""
        shutter = hides and int(ds.get("ShutterOverlayGroup") or 0) == group
        if (group, 0x3000) not in ds or not (layer or shutter):
            continue
        drawn = ds.overlay_array(group)
        if drawn.ndim != 2:
            yield _Loose(None, "")
            continue
        row, column = (int(v) - 1 for v in (ds[group, 0x0050].value if (group, 0x0050) in ds else (1, 1)))
        hidden = _grey(*[ds.get("ShutterPresentationValue", 0)] * 3)
        yield StateMark(
            kind="runs",
            points=tuple(_runs(drawn.astype(bool), row, column)),
            filled=True,
            shutter=shutter,
            colour=hidden if shutter else layers[layer].colour if layer in layers else "",
        )


def _runs(drawn: np.ndarray, row: int, column: int) -> Iterator[Point]:
    """Rectangles that hold the pixels that are set, and no others: runs of rows, equal ones below one another
    as one."""
    edges = np.diff(np.pad(drawn.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    open_runs: dict[tuple[int, int], int] = {}
    for y in range(drawn.shape[0] + 1):
        line = edges[y] if y < drawn.shape[0] else np.zeros(edges.shape[1], np.int8)
        here = list(zip(np.flatnonzero(line == 1).tolist(), np.flatnonzero(line == -1).tolist(), strict=True))
        for (x0, x1), top in list(open_runs.items()):
            if (x0, x1) not in here:
                yield float(x0 + column), float(top + row)
                yield float(x1 + column), float(y + row)
                del open_runs[x0, x1]
        for run in here:
            open_runs.setdefault(run, y)
