"""Places on the images of a case, as the viewer leads to them and draws them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .message import Message

Voxel = tuple[int, int, int]


class Spot(Message):
    """Where to jump: the middle of a box, its first and last voxel, and in mm where the image has a place.

    centre: the middle. box: first and last voxel. box_mm: the same in RAS+ mm.
    """

    id: str
    image: int
    centre: Voxel
    box: tuple[Voxel, Voxel]
    box_mm: list[list[float]] | None


class LesionBox(Spot):
    """A lesion to outline, or to draw a box around.

    label: what stands beside it. runs: how many voxels of the box, across first, then down, then onward, lie
    outside of it, then inside, then outside, and so on; empty where only the box is known. lesion: always
    true, which tells it from other places.
    """

    label: str
    runs: list[int] = Field(default_factory=list)
    lesion: Literal[True] = True


class DrawnStructure(Spot):
    """A region that somebody else outlined in a file that came with the case: never the model's evidence.

    name: as its author wrote it. of: the id of the object that holds it. bits: the name of a bit for each
    voxel of the box, across first, then down, then onward, the lowest of a byte first, at ``URL.BITS.gz`` of
    its image. ml: its volume, where the image has a size in mm. colour: "#rrggbb".
    """

    name: str
    of: str
    bits: str
    ml: float | None
    colour: str
