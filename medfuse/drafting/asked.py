"""Words → what is asked for along the knowledge graph: which findings would do, which must be absent, and on
which side."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from ..knowledge import Graph
from ..pattern import Pattern
from .labeller import Claim, Lexicon, sentence_claims, task_lexicon


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One demand. concepts: named in the words. findings: of the task, any of which fulfils it. absent: it
    asks that none of them is there. side: of the organ, "" for either. shown_by: modalities that can show
    it."""

    concepts: tuple[str, ...]
    findings: tuple[str, ...]
    absent: bool = False
    side: str = ""
    shown_by: tuple[str, ...] = ()


@lru_cache(maxsize=16)
def graph_lexicon(graph: Graph) -> Lexicon:
    """What names each concept: its own words; a finding without any is named by those of the task's
    lexicon."""
    own = task_lexicon(graph.task)
    patterns: dict[str, Pattern] = {}
    for name, concept in graph.concepts.items():
        if concept.words:
            patterns[name] = Pattern.any_of(concept.words, f"{graph.task.name}: concept {name}")
        elif own is not None and name in own.patterns:
            patterns[name] = own.patterns[name]
    return Lexicon(patterns, {} if own is None else own.denied)


def concept_claims(sentence: str, graph: Graph) -> list[Claim]:
    """What one sentence says of each concept that it names; ``finding`` of a claim is the concept's id."""
    return sentence_claims(sentence, graph_lexicon(graph))


def asked(words: str, graph: Graph) -> list[Asked]:
    """The demands that words make: concepts that some finding is at once are one ("benign cystic lesion"),
    others are demands of their own ("cirrhosis and ascites"). None where the words name no concept."""
    told = [c for c in concept_claims(words, graph) if graph.findings_of(c.finding)]
    order = sorted(told, key=lambda c: len(graph.findings_of(c.finding)))
    out: list[tuple[list[Claim], frozenset[str]]] = []
    for claim in order:
        own = graph.findings_of(claim.finding)
        absent = claim.said == "absent"
        for i, (claims, both) in enumerate(out):
            if absent == (claims[0].said == "absent") and (own & both):
                out[i] = ([*claims, claim], own & both)
                break
        else:
            out.append(([claim], own))
    return [_demand(claims, findings, graph) for claims, findings in out]


def _demand(claims: list[Claim], findings: frozenset[str], graph: Graph) -> Asked:
    ordered = tuple(f.id for f in graph.task.findings if f.id in findings)
    able = {m for f in ordered for m in graph.shown_by(f)}
    return Asked(
        concepts=tuple(c.finding for c in claims),
        findings=ordered,
        absent=claims[0].said == "absent",
        side=next((c.side for c in claims if c.side), ""),
        shown_by=tuple(m for m in graph.task.image_senses if m in able),
    )
