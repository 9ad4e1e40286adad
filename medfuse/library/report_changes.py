"""What changed between two forms of a report, and sentences that wait for a decision."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from itertools import zip_longest

from ..report import Report, Sentence


def difference(before: Report, after: Report) -> list[str]:
    """Lines that went (-) and came (+), sentence by sentence with their state."""
    old, new = (
        [f"{s.id}: [{x.state}] {x.text}" for s in r.sections for x in s.sentences] for r in (before, after)
    )
    lines = list(difflib.unified_diff(old, new, lineterm="", n=0))[2:]
    return [line for line in lines if not line.startswith("@@")]


def word_difference(before: str, after: str) -> list[tuple[str, str]]:
    """The parts of a text in order: ("=", kept), ("-", gone), ("+", new); by words, and by character where a
    script has none between."""
    old, new = (_WORDS.findall(text) for text in (before, after))
    out: list[tuple[str, str]] = []
    for what, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if what == "equal":
            out.append(("=", "".join(old[a:b])))
            continue
        out += [("-", "".join(old[a:b]))] if b > a else []
        out += [("+", "".join(new[c:d]))] if d > c else []
    return out


def changed_sentences(before: Report, after: Report) -> list[tuple[str, str]]:
    """Pairs of a sentence as it was and as it is, of each that differs in words or is decided otherwise;
    empty where it is new or gone."""
    old, new = ([x for s in r.sections for x in s.sentences] for r in (before, after))
    plain = [[f"{_STATE[x.state]}{x.text}" for x in rows] for rows in (old, new)]
    out: list[tuple[str, str]] = []
    for what, a, b, c, d in difflib.SequenceMatcher(None, plain[0], plain[1], autojunk=False).get_opcodes():
        if what != "equal":
            out += zip_longest(plain[0][a:b], plain[1][c:d], fillvalue="")
    return out


_WORDS = re.compile(r"[\u3400-\u9fff]|\w+|\s+|[^\w\s]")
_STATE = {"drafted": "· ", "accepted": "✓ ", "edited": "✎ ", "rejected": "✗ "}


def set_states(report: Report, state: str, which: Callable[[Sentence], bool] = lambda x: True) -> Report:
    """A copy with the sentences chosen by ``which`` set to accepted or rejected; edited ones stay edited."""
    out = report.model_copy(deep=True)
    for section in out.sections:
        for x in section.sentences:
            if which(x) and not (state == "accepted" and x.state in ("edited", "rejected")):
                x.state = state  # type: ignore[assignment]
    return out


def waiting(report: Report) -> list[Sentence]:
    """Sentences that nobody has accepted, edited or rejected."""
    return [x for s in report.sections for x in s.sentences if x.state == "drafted"]
