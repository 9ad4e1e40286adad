"""How two frames of reference lie on each other, for what follows a crosshair."""

from __future__ import annotations

from pydantic import Field

from .message import Message

Row = tuple[float, float, float, float]


class FrameLink(Message):
    """A registration that a person accepted.

    source, target: UIDs of the two frames of reference. matrix: (4, 4), RAS+ mm of the source to RAS+ mm of
    the target. by: who accepted it.
    """

    source: str = Field(min_length=1)
    target: str = Field(min_length=1)
    matrix: tuple[Row, Row, Row, Row]
    by: str = ""
