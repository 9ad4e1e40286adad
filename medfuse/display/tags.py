"""The header of a slice, on its way to the browser."""

from __future__ import annotations

from pydantic import Field

from .message import Message


class TagsAsked(Message):
    """From the browser: the header of a slice is wanted.

    image: index among those shown; none where the header is put away. slice: as displayed.
    """

    serial: int
    image: int | None = Field(default=None, ge=0)
    slice: int = Field(default=0, ge=0)


class ShownTag(Message):
    """One element of a header as text.

    depth: of the sequences that it lies in. tag: such as (0010,0020), empty for an item of a sequence. name:
    as the standard calls it. vr: how its value is coded. value: on one line.
    """

    depth: int
    tag: str
    name: str
    vr: str
    value: str


class ShownTags(Message):
    """The header of a slice; without lines where the image came as no DICOM file.

    image, slice: that were asked for. lines: the elements in their order. left: how many there are beyond
    those. problem: why it cannot be read.
    """

    image: int
    slice: int
    lines: list[ShownTag] = Field(default_factory=list)
    left: int = 0
    problem: str = ""
