"""The impression: one line a problem, the surest and weightiest first."""

from __future__ import annotations

from ..claim import Claim
from ..report import Sentence
from .claims import hidden, weight
from .lesions import size_words
from .telling import Telling


def impression(t: Telling) -> list[Sentence]:
    """What was found, ranked by certainty and weight; that nothing was, where it was not."""
    problems = [c for c in t.findings.values() if c.claimed and _is_problem(c, t)]
    problems.sort(key=lambda c: (weight(c), t.task.finding(c.finding).rank))
    return [_line(c, t) for c in problems] or [Sentence(text=t.s.get("nothing"))]


def _is_problem(claim: Claim, t: Telling) -> bool:
    """What a narrower finding says already is none, unless there are lesions that can be nothing narrower:
    each narrower finding has its own."""
    if not hidden(claim, t.findings, t.task):
        return True
    outlined = {c.finding for c in t.placed}
    parts = t.task.finding(claim.finding).derived_from
    return claim.finding in outlined and all(f in outlined for f in parts if t.findings[f].claimed)


def _line(claim: Claim, t: Telling) -> Sentence:
    lesions = [c for c in t.placed if c.finding == claim.finding]
    # of lesions without a narrower name beside others that have one, only as sure as they are
    certainty = claim.certainty
    if lesions and hidden(claim, t.findings, t.task):
        certainty = lesions[0].certainty
    text = t.s.render(
        "claim.conclusion",
        said=t.said(certainty, t.name(claim.finding)),
        where=_where(lesions, t),
        extra=t.s.get("list.then").join([*t.contradicted(claim), *t.probability(claim)]),
    )
    row = t.sentence(text, [claim, *lesions])
    places = [p for c in lesions for p in t.places(c)] or row.evidence
    return row.model_copy(update={"evidence": places})


def _where(lesions: list[Claim], t: Telling) -> str:
    """The largest lesion's size and side, and how many there are; of a known mass, what most sensors outline
    together."""
    if not lesions:
        return ""
    joint = max(t.prediction.together, key=lambda x: len(x.modalities), default=None)
    if t.task.around and joint is not None:
        sensors = [t.s.inside(m) for m in joint.modalities]
        return t.s.render("agreement.concluded", size=size_words(joint.lesion, t), modalities=sensors)
    largest = max(lesions, key=lambda c: c.long_axis_mm or 0.0)
    record = next((t.records[i] for i in largest.lesions if t.records[i].long_axis_mm is not None), None)
    size = size_words(record, t) if record is not None else t.s.get("size_unknown")
    words = t.s.get("list.comma").join([size, *([t.s.side(largest.side)] if largest.side else [])])
    return t.s.render("claim.number", n=len(lesions), size=words) if len(lesions) > 1 else words
