"""The impression: one line a problem, the surest and weightiest first."""

from __future__ import annotations

from ..claim import Certainty, Claim
from ..report import Sentence
from .claims import hidden, weight
from .comparison import since
from .lesions import size_words
from .telling import Telling


def impression(t: Telling) -> list[Sentence]:
    """What was found, ranked by certainty and weight; that nothing was, where it was not."""
    problems = [c for c in t.findings.values() if c.claimed and _is_problem(c, t)]
    problems.sort(key=lambda c: (weight(c), t.task.finding(c.finding).rank))
    natures = {c.finding: _natures(c, problems, t) for c in problems}
    within = {n.finding for found in natures.values() for n in found}
    rows: list[Sentence] = []
    for claim in problems:
        if claim.finding not in within:
            told = {i for x in rows for i in x.claims}
            rows.append(_line(claim, natures[claim.finding], told, t))
    return rows or [Sentence(text=t.s.get("nothing"))]


def _natures(claim: Claim, problems: list[Claim], t: Telling) -> list[Claim]:
    """What the only lesion that is told may be: narrower names that are no more than possible, of one that is
    at least likely. They are one problem, and one line."""
    narrower = [
        c for c in problems if weight(c) == 1 and any(f.id == claim.finding for f in t.task.wider(c.finding))
    ]
    names = {claim.finding, *(c.finding for c in narrower)}
    one = len(t.placed) == 1 and t.placed[0].finding in names
    return narrower if one and weight(claim) == 0 else []


def _is_problem(claim: Claim, t: Telling) -> bool:
    """What a narrower finding says already is none, unless there are lesions that can be nothing narrower:
    each narrower finding has its own."""
    if not hidden(claim, t.findings, t.task):
        return True
    outlined = {c.finding for c in t.placed}
    parts = t.task.finding(claim.finding).derived_from
    return claim.finding in outlined and all(f in outlined for f in parts if t.findings[f].claimed)


def _line(claim: Claim, natures: list[Claim], told: set[str], t: Telling) -> Sentence:
    """``told``: claims of the lines above, whose lesions are not named again."""
    if t.no_outline:
        return t.sentence(t.no_outline, [claim], "notice")
    names = {claim.finding, *(c.finding for c in natures)}
    lesions = [c for c in t.placed if c.finding in names]
    perhaps = [] if lesions else [c for c in t.perhaps(claim.finding) if c.id not in told]
    text = t.s.render(
        "claim.conclusion",
        said=t.said(_certainty(claim, [] if natures else lesions, t), t.name(claim.finding), claim.finding),
        where=_where(lesions, t) or _perhaps(perhaps, t),
        extra=t.s.get("list.then").join(
            [*since(lesions, t), *t.contradicted(claim), *t.probability(claim), *_possible(natures, t)]
        ),
    )
    row = t.sentence(text, [claim, *natures, *lesions, *perhaps])
    places = [p for c in lesions for p in t.places(c)] or row.evidence
    return row.model_copy(update={"evidence": places})


def _certainty(claim: Claim, lesions: list[Claim], t: Telling) -> Certainty:
    """How surely a problem is said: of lesions without a narrower name beside others that have one, only as
    surely as they are."""
    return lesions[0].certainty if lesions and hidden(claim, t.findings, t.task) else claim.certainty


def _possible(natures: list[Claim], t: Telling) -> list[str]:
    """What a lesion may be, in one phrase."""
    if not natures:
        return []
    said = t.said("possible", t.s.joined([t.name(c.finding) for c in natures], "or"))
    contradicted = [x for c in natures for x in t.contradicted(c)]
    return [said[:1].lower() + said[1:], *contradicted, *(x for c in natures for x in t.probability(c))]


def _perhaps(lesions: list[Claim], t: Telling) -> str:
    """The lesion under a wider name that a finding may be; "" where there is none."""
    return t.s.render("claim.maybe", where=_where(lesions, t)) if lesions else ""


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
