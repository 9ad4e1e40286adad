"""What presentation states draw on the images of a case, as the viewer draws it."""

from __future__ import annotations

from typing import Literal

from .message import Message
from .views import Plane

Pixel = tuple[float, float]


class DrawnMark(Message):
    """A mark of a presentation state (`StateMark`) on a plane of an image as displayed.

    kind, text, align, filled, colour: as in it. points, anchor: pixels of the plane, (0, 0) at the outer
    corner of the first. shutter: it hides what lies outside of it, as long as its state is shown. plane: on
    which the stored slices are seen. slices: numbers of the planes that it is drawn on.
    """

    kind: Literal["points", "line", "curve", "circle", "ellipse", "runs", "text"]
    points: list[Pixel]
    text: str
    align: str
    anchor: Pixel | None
    filled: bool
    shutter: bool
    colour: str
    image: int
    plane: Plane
    slices: list[int]


class StateView(Message):
    """How a presentation state shows the first of its images that is here.

    slice, plane: where it is seen. corners: of the part that it shows, in pixels of the plane. window: where
    it sets one. turn: quarter turns clockwise; None where it also shows the image as in a mirror, which is
    not done. inverted: bright is low.
    """

    image: int
    plane: Plane
    slice: int
    corners: tuple[Pixel, Pixel] | None
    window: tuple[float, float] | None
    turn: int | None
    inverted: bool


class DrawnState(Message):
    """A presentation state over the images of a case.

    marks: in the order of its layers. view: how it shows the first of its images that is here.
    """

    id: str
    marks: list[DrawnMark]
    view: StateView | None
