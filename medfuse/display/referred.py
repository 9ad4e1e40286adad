"""Presentation states, key object selections and outlines of others as the viewer lists them."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from .contract import Chip, Spot
from .message import Message


class ListedStructure(Message):
    """One structure of an object with outlines.

    name: as its author wrote it. said: of what size, and on which image. colour: of its outline. place: where
    it is largest in the middle.
    """

    id: str
    name: str
    said: str
    colour: str
    place: Spot


class ReferredLine(Message):
    """One presentation state, key object selection, or object with outlines.

    name: what it is. said: its title, words, window and marks. places: the images that it refers to. draws:
    it draws something that can be switched off. shows: it can be shown as its author saw it. structures: what
    it outlines, each with a switch of its own.
    """

    id: str
    name: str
    said: str
    places: list[Chip]
    draws: bool = False
    shows: bool = False
    structures: list[ListedStructure] = Field(default_factory=list)


class ReferredData(Message):
    """To the browser: what of a case refers to its images.

    objects: a line each. words: of the buttons.
    """

    objects: list[ReferredLine]
    words: dict[str, Any] = Field(default_factory=dict)
