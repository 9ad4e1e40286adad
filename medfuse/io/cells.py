"""Values of others as cells of a CSV: a spreadsheet that opens the file must not take one for a formula."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

Cell = TypeVar("Cell")
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
