"""A draft against its own claims and against the truth: who is named as showing a thing, what is said twice,
what stands in the wrong order, and which sides and sizes the words change."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..case import Case
from ..claim import Claim
from ..drafting.claims import weight
from ..drafting.labeller import Lexicon, sentence_claims
from ..drafting.sections import split_sentences
from ..prediction import LesionRecord, Prediction
from ..report import Report, Section
from ..task import Task

SIZE_MM = 1.0  # words round to a millimetre


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What is true of one case. labels: finding → 1, 0 or -1 where unknown. masks: label maps by image."""

    case: Case
    labels: dict[str, int]
    masks: dict[int, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class DraftCounts:
    """What one draft gave. named, true_named: modalities named as showing a thing, and those that truly do.
    The rest: errors, and sentences of findings and impression."""

    named: int
    true_named: int
    twice: int
    disorder: int
    sides: int
    sizes: int
    sentences: int


def count_draft(
    report: Report, prediction: Prediction, truth: Truth, task: Task, lexicon: Lexicon
) -> DraftCounts:
    """Count one composed report."""
    findings = report.section("findings")
    impression = report.section("impression")
    assert findings is not None
    assert impression is not None
    claims = {c.id: c for c in report.claims}
    told = [claims[i] for x in findings.sentences for i in x.claims]
    named = [v for c in told if c.claimed for v in _named(c, prediction, truth, task)]
    wrong = [
        _misstated(x.text, [claims[i] for i in x.claims], prediction, lexicon) for x in findings.sentences
    ]
    return DraftCounts(
        named=len(named),
        true_named=sum(named),
        twice=_twice(findings, claims) + _twice(impression, claims),
        disorder=int(_disorder(impression, claims, task)),
        sides=sum(side for side, _ in wrong),
        sizes=sum(size for _, size in wrong),
        sentences=sum(len(split_sentences(x.text)) for s in (findings, impression) for x in s.sentences),
    )


def _named(claim: Claim, prediction: Prediction, truth: Truth, task: Task) -> list[bool]:
    """Of each modality named as showing a claim, whether it truly does: of a finding, that the patient has it
    and that its class is in the modality's own label map; of a lesion, that the outline there lies on one."""
    if claim.lesions:
        by = {x.modality: x for x in prediction.lesions if x.id in claim.lesions}
        hits = (_on_lesion(by[m], truth, task) for m in claim.shown_by() if m in by)
        return [h for h in hits if h is not None]
    label = truth.labels.get(claim.finding, -1)
    if label < 0:
        return []
    return [label == 1 and _holds(claim.finding, m, truth, task) for m in claim.shown_by()]


def _holds(finding_id: str, modality: str, truth: Truth, task: Task) -> bool:
    """Whether a label map of a modality holds the finding's class; True where it has none of its own."""
    finding = task.finding(finding_id)
    parts = [task.finding(f) for f in finding.derived_from or (finding_id,)]
    names = [f.lesion_class for f in parts if f.lesion_class]
    if finding.group != "focal" and task.dense and task.shows_in(finding_id) != task.organ:
        names = [task.shows_in(finding_id)]
    maps = [m for n, m in truth.masks.items() if truth.case.images[n].modality == modality]
    if not names or not maps:
        return True
    classes = [task.dense.index(name) for name in names]
    return any(bool(np.isin(m, classes).any()) for m in maps)


def _on_lesion(lesion: LesionRecord, truth: Truth, task: Task) -> bool | None:
    """Whether an outline's box holds a true lesion; None without a label map."""
    mask = truth.masks.get(lesion.place.image)
    if mask is None or lesion.place.box_voxels is None:
        return None
    (x0, y0, *low), (x1, y1, *high) = lesion.place.box_voxels
    if lesion.place.frame is not None:
        inside = mask[lesion.place.frame][y0 : y1 + 1, x0 : x1 + 1]
    else:
        inside = mask[x0 : x1 + 1, y0 : y1 + 1, low[0] : high[0] + 1]
    return bool(np.isin(inside, task.lesion_indices).any())


def _twice(section: Section, claims: dict[str, Claim]) -> int:
    """Lesions that more than one sentence of a section speaks of."""
    told = [i for x in section.sentences for i in set(x.claims) if claims[i].lesions]
    return len(told) - len(set(told))


def _disorder(impression: Section, claims: dict[str, Claim], task: Task) -> bool:
    """Whether a line stands behind one that is less sure, or as sure and of less weight."""
    order = [
        (weight(claims[x.claims[0]]), task.finding(x.finding).rank) for x in impression.sentences if x.claims
    ]
    return order != sorted(order)


def _misstated(text: str, claims: list[Claim], prediction: Prediction, lexicon: Lexicon) -> tuple[int, int]:
    """Whether the words state a side, or a size, that none of their claims has."""
    lesions = [x for x in prediction.lesions if any(x.id in c.lesions for c in claims)]
    if not lesions:
        return 0, 0
    sides = {c.side for c in claims} - {""}
    said = [c for part in split_sentences(text) for c in sentence_claims(part, lexicon)]
    side = any(c.side and c.side not in sides for c in said)
    size = any(c.size_mm is not None and not _measured(c.size_mm, lesions) for c in said)
    return int(side), int(size)


def _measured(size_mm: float, lesions: list[LesionRecord]) -> bool:
    """Whether a size is an axis of some lesion."""
    axes = [v for x in lesions for v in (x.long_axis_mm, x.short_axis_mm) if v is not None]
    return any(abs(size_mm - v) <= SIZE_MM for v in axes)
