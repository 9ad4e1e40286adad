"""One paragraph a lesion, over all modalities that outline it: what is seen before what it may be."""

from __future__ import annotations

from ..claim import Claim
from ..modalities import is_cine
from ..prediction import LesionRecord, Prediction
from ..report import Sentence
from ..task import Task
from .lirads import applies, categorise
from .scale import POSSIBLE
from .telling import Telling
from .witness_words import place_words, witness_words

MOST = 6  # lesions that are told one by one


def covering(prediction: Prediction) -> list[str]:
    """Modalities of which a volume covers the whole organ; only these can show that a lesion is absent."""
    return [m for m, state in prediction.modalities.items() if state == "present" and not is_cine(m)]


def possible_lesions(prediction: Prediction, task: Task) -> list[LesionRecord]:
    """The lesions, unless the findings of the whole case deny that there is any."""
    general = task.general_lesion
    if general is not None and (prediction.finding(general.id).probability or 0) < POSSIBLE:
        return []
    return prediction.lesions


def lesion_sentences(t: Telling) -> list[Sentence]:
    """The weightiest lesions, and how many more there are."""
    rows = [_lesion(c, t) for c in t.placed[:MOST]]
    more = t.placed[MOST:]
    if more:
        largest = _sizes(_largest(more, t), t)
        text = t.s.render("claim.more", n=len(more), largest=largest)
        rows.append(Sentence(text=text, modality=list(dict.fromkeys(m for c in more for m in c.shown_by()))))
    return rows


def unconfirmed(t: Telling, told: set[str]) -> list[Sentence]:
    """Outlines that no other modality confirms, in one sentence. ``told``: ids of those told already."""
    left = [c for c in t.outlines if c.id not in told]
    by_modality: dict[str, list[Claim]] = {}
    for claim in left:
        by_modality.setdefault(t.records[claim.lesions[0]].modality, []).append(claim)
    parts = [
        t.s.render(
            "claim.outlines",
            modality=t.s.inside(m),
            n=len(claims),
            where=outline_words(_largest(claims, t), t),
            perhaps=bool(t.placed) and is_cine(m),  # a cine has no place in space
        )
        for m, claims in by_modality.items()
    ]
    if not parts:
        return []
    text = t.s.render("claim.unconfirmed", parts=t.s.get("list.then").join(parts))
    return [t.sentence(text, left, "possible")]


def _largest(claims: list[Claim], t: Telling) -> Claim:
    return max(claims, key=lambda c: c.long_axis_mm or 0.0)


def outline_words(claim: Claim, t: Telling) -> str:
    """Size, side, series and slice of one outline."""
    record = t.records[claim.lesions[0]]
    side = [t.s.side(claim.side)] if claim.side else []
    place = [place_words(record, t)] if t.style.witnesses else []
    return t.s.get("list.comma").join([size_words(record, t), *side, *place])


def _lesion(claim: Claim, t: Telling) -> Sentence:
    then = t.s.get("list.then")
    text = t.s.render(
        "claim.lesion",
        side=t.s.side(claim.side),
        size=_sizes(claim, t),
        features=_features(claim, t),
        said=t.said(claim.certainty, t.name(claim.finding)),
        extra=then.join(
            [*_measured(claim, t), *_lirads(claim, t), *t.contradicted(claim), *t.probability(claim)]
        ),
        witnesses=then.join(witness_words(claim, t)),
    )
    return t.sentence(text, [claim])


def _own(claim: Claim, t: Telling) -> list[LesionRecord]:
    """Its records: all of them, or the first measured one where the style is short."""
    records = [t.records[i] for i in claim.lesions]
    return records if t.style.features else records[:1]


def _sizes(claim: Claim, t: Telling) -> str:
    """The two axes on each modality that outlines it."""
    sized = [x for x in _own(claim, t) if x.long_axis_mm is not None]
    if not sized:
        return t.s.get("size_unknown")
    return _each([(x.modality, size_words(x, t)) for x in sized], t)


def size_words(lesion: LesionRecord, t: Telling) -> str:
    """The two axes of one outline, and its volume where the task measures masses."""
    if lesion.long_axis_mm is None or lesion.short_axis_mm is None:
        return t.s.get("size_unknown")
    size = t.s.render("size", long=lesion.long_axis_mm, short=lesion.short_axis_mm)
    if t.task.around and lesion.volume_ml:
        return t.s.render("claim.volume", size=size, ml=lesion.volume_ml)
    return size


def _each(rows: list[tuple[str, str]], t: Telling) -> str:
    """What is said of each modality; the modality goes unnamed where all say the same."""
    words = list(dict.fromkeys(what for _, what in rows))
    if len(words) == 1:
        return words[0]
    named = [t.s.render("claim.at", what=what, modality=t.s.inside(m)) for m, what in rows]
    return t.s.get("list.each").join(named)


def _features(claim: Claim, t: Telling) -> str:
    """What is seen of it on each modality that outlines it."""
    if not t.style.features:
        return ""
    rows = [
        (x.modality, t.s.features(claim.finding, x.modality, t.roles.get(x.modality, ())))
        for x in _own(claim, t)
    ]
    return _each([r for r in rows if r[1]], t) if any(what for _, what in rows) else ""


def _measured(claim: Claim, t: Telling) -> list[str]:
    return [
        t.s.render(f"measures.{m.kind}", value=m.value) for i in claim.lesions for m in t.records[i].measured
    ]


def _lirads(claim: Claim, t: Telling) -> list[str]:
    """The LI-RADS category of each outline, where the rule applies."""
    if "lirads" not in t.task.rules:
        return []
    rows = []
    for lesion in (t.records[i] for i in claim.lesions):
        if is_cine(lesion.modality) or not applies(t.prediction, t.case, t.task, lesion.modality).category:
            continue
        found = categorise(lesion, t.prediction, t.task)
        if found.category:
            rows.append(f"{t.s.inside(lesion.modality)} {found.category}")
    return [t.s.render("claim.lirads", categories=t.s.joined(rows))] if rows else []
