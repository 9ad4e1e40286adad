"""Pattern: a regular expression that came with a task, a bundle or a lexicon, and so from a stranger. Bounded
when it is read, and in the time that it takes.

An expression of 26 characters can be made to search one sentence for hours, and one of 25 to fill the memory
when it is compiled; Python's own `re` has no limit for the first.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, NamedTuple, TypeVar

import regex

from .errors import UserError

LONGEST = 4_000  # characters of one expression
MOST = 10_000  # of what its counts, such as {3,20}, come to when they are multiplied
SECONDS = 0.5  # of work on one text
LONGEST_S = 60.0  # of work of all threads meanwhile
Found = TypeVar("Found")
_COUNTS = re.compile(r"\{(\d*)(?:,(\d*))?\}")


class Place(NamedTuple):
    """Where an expression was found: from the first character to the one after the last."""

    start: int
    end: int


@dataclass(frozen=True)
class Pattern:
    """Expressions, in upper and lower case alike; made by `any_of`. ``said_by``: the file and entry that a
    message names."""

    pattern: str
    said_by: str

    @classmethod
    def any_of(cls, parts: Iterable[str], said_by: str) -> Pattern:
        """What finds any of these expressions; nothing where there are none. Raises UserError for one that is
        wrong or out of bounds."""
        every = list(parts)
        for part in every:
            if why := fault_in(part):
                raise UserError(f"{said_by}: {why}")
        return cls("|".join(f"(?:{p})" for p in every) or r"(?!)", said_by)

    def search(self, text: str) -> bool:
        """Whether it is anywhere in a text. Raises UserError where that takes too long."""
        return self._bounded(lambda s: self._compiled.search(text, timeout=s) is not None, text)

    def places(self, text: str) -> Iterator[Place]:
        """Each place in a text, from its start. Raises UserError where finding them takes too long."""
        yield from self._bounded(
            lambda s: [Place(*m.span()) for m in self._compiled.finditer(text, timeout=s)], text
        )

    def _bounded(self, work: Callable[[float], Found], text: str) -> Found:
        """What a search finds that may take ``SECONDS`` of this thread's work. `regex` counts the work of all
        threads of the process: where others did most of it, it is asked again with as much more."""
        allowed = SECONDS
        while True:
            began = time.thread_time()
            try:
                return work(allowed)
            except TimeoutError as e:
                own = time.thread_time() - began
                if own >= 0.9 * SECONDS or allowed >= LONGEST_S:
                    raise self._too_long(text) from e
                allowed = min(LONGEST_S, allowed * max(2.0, SECONDS / max(own, 1e-3)))

    @cached_property
    def _compiled(self) -> Any:
        return regex.compile(self.pattern, regex.IGNORECASE)

    def _too_long(self, text: str) -> UserError:
        return UserError(
            f"{self.said_by}: pattern {self.pattern[:80]!r} takes over {SECONDS} s on a text of {len(text)}"
            " characters; write it without repeats inside repeats"
        )


def fault_in(pattern: str) -> str:
    """Why an expression is not used, in words; empty where it is."""
    if len(pattern) > LONGEST:
        return f"a pattern has {len(pattern)} characters, {LONGEST} are read"
    counts = [max(int(n or 1) for n in m.groups(default="")) for m in _COUNTS.finditer(pattern)]
    if prod(counts) > MOST:
        return f"pattern {pattern[:80]!r} repeats {prod(counts)} times, {MOST} are done"
    try:
        re.compile(pattern)
        regex.compile(pattern)
    except (re.error, regex.error, OverflowError, RecursionError) as e:
        return f"pattern {pattern[:80]!r}: {e}"
    return ""
