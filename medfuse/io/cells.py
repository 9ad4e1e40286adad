"""Values of others as cells of a CSV, which a spreadsheet must not take for a formula, and as text in a
terminal, which must not take them for commands."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeVar

Cell = TypeVar("Cell")
# of terminals, and those that turn the direction of letters
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


def harmless(value: Cell) -> Cell | str:
    """A text that a spreadsheet would run as a formula gets a ' before it; numbers, written as such or as
    text, stay."""
    if not isinstance(value, str) or not value.startswith(STARTS):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def harmless_row(values: Iterable[Cell]) -> list[Cell | str]:
    """A row of them."""
    return [harmless(v) for v in values]


def harmless_text(text: str) -> str:
    """Text for a terminal, which would obey its control characters: those but ends of lines and tabs are
    written as \\xNN."""
    return CONTROLS.sub(lambda c: f"\\x{ord(c[0]):02x}", text)


def harmless_line(text: str) -> str:
    """As `harmless_text`, on one line: a name with an end of a line in it would say another."""
    return harmless_text(text).replace("\n", "\\n")
