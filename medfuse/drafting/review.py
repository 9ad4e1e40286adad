"""What a reader should look at once more before a report is signed: contradictions that its own words show.

Nothing is changed here. What blocks cannot be signed at all; the rest is asked, and who signs says that it
was seen.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from ..knowledge import Graph
from ..report import Report, Sentence
from .contradictions import contradictions
from .labeller import SIZE, size_in_mm

Kind = Literal[
    "empty",
    "one_empty",
    "sides",
    "sex",
    "not_concluded",
    "not_found",
    "size",
    "identifiers",
    "unfilled",
    "contradicts",
]
BLOCKS: tuple[Kind, ...] = ("empty", "identifiers")
TOLERANCE_MM = 1.0  # a stated size this close to one that was measured is that one, or …
TOLERANCE = 0.1  # … within this share of it
_FIELD = re.compile(r"\[[^\[\]]{0,80}\]")  # of a template or macro, as it was inserted
_SIDES = (re.compile(r"\bright\b|右", re.IGNORECASE), re.compile(r"\bleft\b|左", re.IGNORECASE))
_OF_WOMEN = re.compile(
    r"\b(uter(us|ine)|ovar(y|ies|ian)|endometri\w*|cervix|vagina\w*|pregnan\w*)\b|子宮|卵巢|內膜|懷孕|妊娠",
    re.IGNORECASE,
)
_OF_MEN = re.compile(
    r"\b(prostat\w*|testi(s|cle|cular)\w*|seminal vesicles?|scrot\w*)\b|攝護腺|前列腺|睪丸|精囊|陰囊",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class Doubt:
    """One thing to look at. kind: what is wrong; said: the words of the report that show it."""

    kind: Kind
    said: str = ""

    @property
    def blocks(self) -> bool:
        """Whether nothing can be signed while it stands."""
        return self.kind in BLOCKS


def review(
    report: Report,
    *,
    sex: str = "",
    measured_mm: Iterable[float] = (),
    conflict: str = "",
    graph: Graph | None = None,
) -> list[Doubt]:
    """Everything to look at, what blocks first. sex: M, F or another DICOM value. measured_mm: lengths that
    readers and the model measured on the images. conflict: of identifiers, which waits for a person. graph:
    of the task's findings, along which sentences contradict each other."""
    findings = _standing(report, "findings")
    impression = _standing(report, "impression")
    doubts = [Doubt(kind="identifiers", said=conflict)] if conflict else []
    if not findings or not impression:
        doubts.append(Doubt(kind="one_empty" if findings or impression else "empty"))
    doubts += _sides(findings, impression)
    doubts += _sex([*findings, *impression], sex)
    doubts += _unmatched(findings, impression)
    doubts += _sizes([*findings, *impression], sorted(measured_mm))
    doubts += _unfilled(report)
    doubts += _contradicting([*findings, *impression], graph) if graph is not None else []
    return sorted(doubts, key=lambda d: not d.blocks)


def _contradicting(rows: list[Sentence], graph: Graph) -> list[Doubt]:
    """Two sentences that cannot both stand, at least one of which a person wrote."""
    by_hand = {x.text for x in rows if x.state == "edited"}
    found = contradictions([x.text for x in rows], graph)
    return [
        Doubt(kind="contradicts", said=" / ".join(c.sentences)) for c in found if by_hand & {*c.sentences}
    ]


def _unfilled(report: Report) -> list[Doubt]:
    """Sentences that a person wrote or inserted, with a field that nobody filled in."""
    written = [x for section in report.sections for x in section.sentences if x.state == "edited"]
    return [Doubt(kind="unfilled", said=x.text) for x in written if _FIELD.search(x.text)]


def _standing(report: Report, section: str) -> list[Sentence]:
    told = report.section(section)
    return [x for x in told.sentences if x.text.strip() and x.state != "rejected"] if told else []


def _side(x: Sentence) -> str:
    """R or L; empty where a sentence names neither, or both."""
    right, left = (bool(side.search(x.text)) for side in _SIDES)
    return "" if right == left else "R" if right else "L"


def _sides(findings: list[Sentence], impression: list[Sentence]) -> list[Doubt]:
    """A conclusion on one side alone, where all that was found of it lies on the other."""
    out = []
    for x in impression:
        of_it = [y for y in findings if y.finding == x.finding] if x.finding else findings
        sides = {_side(y) for y in of_it} - {""}
        if _side(x) and sides and _side(x) not in sides:
            out.append(Doubt(kind="sides", said=x.text))
    return out


def _sex(rows: list[Sentence], sex: str) -> list[Doubt]:
    never = {"M": _OF_WOMEN, "F": _OF_MEN}.get(sex)
    return [Doubt(kind="sex", said=x.text) for x in rows if never and never.search(x.text)]


def _unmatched(findings: list[Sentence], impression: list[Sentence]) -> list[Doubt]:
    """Findings of the task that are said to be there and not concluded on, and the reverse."""

    def there(rows: list[Sentence]) -> dict[str, Sentence]:
        return {x.finding: x for x in rows if x.finding and x.assertion == "present"}

    def named(rows: list[Sentence]) -> set[str]:
        return {x.finding for x in rows}

    if not findings or not impression:
        return []
    free = any(not x.finding for x in impression)  # written by hand: it may conclude on anything
    missed = [] if free else [x for f, x in there(findings).items() if f not in named(impression)]
    bare = [x for f, x in there(impression).items() if f not in named(findings)]
    return [Doubt(kind="not_concluded", said=x.text) for x in missed] + [
        Doubt(kind="not_found", said=x.text) for x in bare
    ]


def _sizes(rows: list[Sentence], measured: list[float]) -> list[Doubt]:
    """Sizes that a person wrote and nothing measured comes near; nothing where nothing was measured."""
    out = []
    for x in rows:
        if not measured or x.state != "edited":
            continue
        stated = [size_in_mm(m) for m in SIZE.finditer(x.text)]
        far = [
            v for v in stated if v and all(abs(v - m) > max(TOLERANCE_MM, TOLERANCE * m) for m in measured)
        ]
        if far:
            out.append(Doubt(kind="size", said=x.text))
    return out
