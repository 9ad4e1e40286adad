"""Presentation states and key object selections as the viewer lists them."""

from __future__ import annotations

from .contract import Chip
from .message import Message


class ReferredLine(Message):
    """One presentation state or key object selection.

    name: what it is. said: its title, words, window and marks. places: the images that it refers to.
    """

    id: str
    name: str
    said: str
    places: list[Chip]


class ReferredData(Message):
    """To the browser: what of a case refers to its images.

    objects: a line each.
    """

    objects: list[ReferredLine]
