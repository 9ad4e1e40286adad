"""What readers draw on images: lengths, angles, regions, arrows, values at a point, and key images.

Points are pixels of the plane as displayed, across and down; 0 is the edge of the first one.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, model_validator

from .message import Message

Point = tuple[float, float]
Way = tuple[float, float, float]
ALMOST = 1e-3  # by which a rotation that was told in decimals may miss one


class Drawn(Message):
    """What every measurement has.

    plane: it was drawn on. text: as the image shows it.
    """

    id: int = 0  # its number in the library; 0 or less while it is not kept there
    author: str = ""  # the account that drew it, as the library knows
    made: str = ""  # when, in UTC, as the library knows
    image: int = Field(ge=0)  # index among the images of the case
    series_uid: str = ""
    plane: Literal["axial", "coronal", "sagittal"]
    slice: int = Field(ge=0)  # number of the plane, or of the frame of a cine
    text: str = Field(max_length=200)


class Turned(Message):
    """How a plane is turned out of the directions of its stack.

    pivot: the voxel as displayed that stays where it is. turned: (3, 3) rotation, in mm along the stack's
    directions, from the turned stack to the stack itself.
    """

    pivot: Way
    turned: tuple[Way, Way, Way]

    @model_validator(mode="after")
    def _turns(self) -> Turned:
        rows = self.turned
        for i, a in enumerate(rows):
            for j, b in enumerate(rows):
                if abs(sum(x * y for x, y in zip(a, b, strict=True)) - (i == j)) > ALMOST:
                    raise ValueError("a plane is turned by a rotation")
        return self


class InPlane(Drawn):
    """What can be measured on a turned plane too, as it needs no values of voxels.

    turned: how, None on the planes of the image. Then plane is the one that was turned, slice the number of
    the turned one, and points are pixels of that.
    """

    turned: Turned | None = None


class Distance(InPlane):
    """A straight line between two points; ``value`` is its length, in pixels where their size is unknown.

    points: its ends. unit: mm, or px where the pixel size is not known.
    """

    kind: Literal["distance"]
    points: tuple[Point, Point]
    value: float = Field(ge=0)
    unit: Literal["mm", "px"]


class Bidirectional(InPlane):
    """The longest diameter of a lesion and the one across it; ``value`` is the longer.

    points: ends of the long one, then of the short one. short: the shorter. unit: as of a distance.
    """

    kind: Literal["bidirectional"]
    points: tuple[Point, Point, Point, Point]
    value: float = Field(ge=0)
    short: float = Field(ge=0)
    unit: Literal["mm", "px"]


class Angle(InPlane):
    """The angle between two lines that meet; ``value`` is in degrees.

    points: an end, where the lines meet, the other end.
    """

    kind: Literal["angle"]
    points: tuple[Point, Point, Point]
    value: float = Field(ge=0, le=180)


class Cobb(InPlane):
    """The angle between two lines that need not meet, such as of two endplates; ``value`` is in degrees.

    points: ends of the first line, then of the second.
    """

    kind: Literal["cobb"]
    points: tuple[Point, Point, Point, Point]
    value: float = Field(ge=0, le=90)


class Area(Drawn):
    """What every region has; ``value`` is the mean of the original values inside.

    sd: standard deviation inside. area, area_unit: of the
    region. pixels: how many lie inside.
    """

    value: float
    sd: float | None = Field(default=None, ge=0)
    unit: str = Field(max_length=16)  # of the mean: HU for CT, empty where values have none
    area: float = Field(ge=0)
    area_unit: Literal["mm2", "px2"]
    pixels: int | None = Field(default=None, ge=1)


class Region(Area):
    """The ellipse in a rectangle.

    points: two opposite corners of it.
    """

    kind: Literal["roi"]
    points: tuple[Point, Point]


class Rectangle(Area):
    """A rectangle.

    points: two opposite corners.
    """

    kind: Literal["rectangle"]
    points: tuple[Point, Point]


class Freehand(Area):
    """What a line encloses that was drawn by hand.

    points: along the line; the last is joined to the first.
    """

    kind: Literal["freehand"]
    points: list[Point] = Field(min_length=3, max_length=1000)


class Arrow(Drawn):
    """An arrow with words; its text is them.

    points: its end, and where it points to.
    """

    kind: Literal["arrow"]
    points: tuple[Point, Point]


class Probe(Drawn):
    """The original value at one point.

    points: the one. unit: of the value: HU for CT, empty where values have none.
    """

    kind: Literal["probe"]
    points: tuple[Point]
    value: float
    unit: str = Field(max_length=16)


class KeyView(Drawn):
    """A slice that a reader chose as a key image.

    points: none. window: its centre and width.
    """

    kind: Literal["key"]
    points: tuple[()] = ()
    window: tuple[float, float]


AnyMark = Distance | Bidirectional | Angle | Cobb | Region | Rectangle | Freehand | Arrow | Probe | KeyView
Measurement = Annotated[AnyMark, Field(discriminator="kind")]
MEASUREMENT: TypeAdapter[AnyMark] = TypeAdapter(Measurement)
