"""What sentences say against each other along the knowledge graph: a thing said to be there whose wider one
is denied, and two things said of one lesion that exclude each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations

from ..knowledge import Graph
from .asked import graph_lexicon
from .labeller import Claim
from .statements import Statement, of_its_own, statements

SAME_SIZE = 0.1  # two stated sizes this close may be of one lesion


@dataclass(frozen=True, kw_only=True)
class Contradiction:
    """Two claims that cannot both stand. first, second: concepts; sentences: where they are said."""

    first: str
    second: str
    sentences: tuple[str, str]
    why: str


def contradictions(sentences: Iterable[str], graph: Graph, language: str = "en") -> list[Contradiction]:
    """Every pair of claims of these sentences that contradict each other, in the order of the sentences,
    each pair of concepts once."""
    said = [claim for text in dict.fromkeys(sentences) for claim in _own(text, graph)]
    out: dict[tuple[str, str], Contradiction] = {}
    for one, other in combinations(said, 2):
        for why in _against(one, other, graph, language):
            out.setdefault(
                (one.finding, other.finding),
                Contradiction(
                    first=one.finding,
                    second=other.finding,
                    sentences=(one.sentence, other.sentence),
                    why=why,
                ),
            )
    return list(out.values())


def against(text: str, others: Iterable[str], graph: Graph, language: str = "en") -> str:
    """Why a sentence cannot stand, by itself or beside others; "" where it can."""
    found = (x for x in contradictions([*others, text], graph, language) if text in x.sentences)
    return next((x.why for x in found), "")


def _own(text: str, graph: Graph) -> list[Claim]:
    """The claims of a sentence, statement by statement, without the wider ones that a narrower one carries
    ("cyst" in "simple cyst")."""
    lesions = {c for c in graph.concepts if graph.findings_of(c) & graph.focal}
    parts = statements(text, graph_lexicon(graph))
    return [c for n, x in enumerate(parts) if not x.carried for c in _narrowest(x, parts[:n], lesions, graph)]


def _narrowest(part: Statement, before: list[Statement], lesions: set[str], graph: Graph) -> list[Claim]:
    told = of_its_own(part, lesions, before[-1] if before else None)
    return [
        c
        for c in told
        if not any(o is not c and o.said == c.said and c.finding in graph.wider(o.finding) for o in told)
    ]


def _against(one: Claim, other: Claim, graph: Graph, language: str) -> Iterator[str]:
    names = graph.label(one.finding, language), graph.label(other.finding, language)
    for there, denied in ((one, other), (other, one)):
        if there.said == "present" and denied.said == "absent" and denied.finding in _above(there, graph):
            if there.sentence == denied.sentence and there.finding == denied.finding:
                continue
            yield (
                f"{graph.label(there.finding, language)} is said to be there, and "
                f"{graph.label(denied.finding, language)} to be absent"
            )
            return
    both = one.said == other.said == "present"
    if both and graph.exclude(one.finding, other.finding) and _one_thing(one, other, graph):
        yield f"one lesion is called {names[0]} and {names[1]}, which exclude each other"


def _above(claim: Claim, graph: Graph) -> frozenset[str]:
    return graph.wider(claim.finding) | {claim.finding}


def _one_thing(one: Claim, other: Claim, graph: Graph) -> bool:
    """Whether two claims speak of one thing: an organ has one look; a lesion is one where the same
    sentence, or the same stated size on sides that agree, names it twice."""
    focal = [bool(graph.findings_of(c.finding) & graph.focal) for c in (one, other)]
    if not any(focal):
        return True
    if one.sentence == other.sentence:
        return " and " not in one.sentence and "及" not in one.sentence and "," not in one.sentence
    if one.size_mm is None or other.size_mm is None:
        return False
    sides_agree = not one.side or not other.side or one.side == other.side
    return sides_agree and abs(one.size_mm - other.size_mm) <= SAME_SIZE * max(one.size_mm, other.size_mm)
