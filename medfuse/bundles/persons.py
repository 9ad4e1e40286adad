"""No identifier of a cohort in a bundle that is made from it: tokenisers learn words of reports, tasks hold
templates, and both travel."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from ..errors import UserError

SHORTEST = 5  # characters, one of them a digit, from which an id is told from a word or a size
_TOKEN = re.compile(r"\w[\w.-]*\w")
TEXTS = (".json", ".yaml", ".md", ".txt")


def telling(ids: Iterable[str]) -> frozenset[str]:
    """Of ids those that are no word and no size."""
    return frozenset(i for i in ids if len(i) >= SHORTEST and any(c.isdigit() for c in i))


def ids_in(text: str, ids: frozenset[str]) -> list[str]:
    """The ids that stand in a text as words of their own."""
    return sorted(ids & set(_TOKEN.findall(text)))


def refuse_persons(folder: Path, ids: frozenset[str]) -> None:
    """Raises UserError that names the first file of a bundle in which an id stands (not the id)."""
    for path in sorted(p for p in folder.rglob("*") if p.suffix in TEXTS):
        found = ids_in(path.read_text(encoding="utf-8"), ids)
        if found:
            raise UserError(
                f"{path.relative_to(folder)} of the bundle would hold the ids of {len(found)} patients or "
                "cases; take them out of the reports and of the task (medfuse cohort export does) and run "
                "the same line again: trained stages are kept"
            )
