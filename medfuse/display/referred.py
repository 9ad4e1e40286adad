"""Presentation states and key object selections as the viewer lists them."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from .contract import Chip
from .message import Message


class ReferredLine(Message):
    """One presentation state or key object selection.

    name: what it is. said: its title, words, window and marks. places: the images that it refers to. draws:
    it draws something that can be switched off. shows: it can be shown as its author saw it.
    """

    id: str
    name: str
    said: str
    places: list[Chip]
    draws: bool = False
    shows: bool = False


class ReferredData(Message):
    """To the browser: what of a case refers to its images.

    objects: a line each. words: of the buttons.
    """

    objects: list[ReferredLine]
    words: dict[str, Any] = Field(default_factory=dict)
