"""Prediction → claims: what may be said, how surely, and which modality shows it.

Who shows a finding is read from what each modality says by itself (the subset of one), from its share of the
fused probability, and from the lesions that were outlined on it; never from who was asked.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from ..claim import CLAIMED, Certainty, Claim, Role, Witness
from ..inference.support import support
from ..modalities import is_cine
from ..prediction import FindingRecord, LesionRecord, Prediction
from ..task import Finding, Task
from .lesions import covering
from .scale import DENIED, LIKELY, POSSIBLE, hedged, wording
from .telling import used_roles

SHOWS = 0.88  # a modality shows what is at least likely where it alone makes it so likely …
AGAINST = -0.1  # … and does not speak against it in the fused reading
IN_VIEW = 0.7  # share of ultrasound frames with the organ, below which the window is limited


def claims_of(prediction: Prediction, task: Task) -> list[Claim]:
    """Every claim: lesions first (the weightiest first), then each finding of the task in its order. Nothing
    outside the validated domain."""
    if not prediction.in_domain:
        return []
    findings = [_finding_claim(f, prediction, task) for f in prediction.findings]
    against = _contradictions(findings, prediction, task)
    findings = [_softened(c, against.get(c.finding, [])) for c in findings]
    lesions = _lesion_claims(prediction, task, {c.finding: c for c in findings})
    return [*lesions, *findings]


def _finding_claim(record: FindingRecord, prediction: Prediction, task: Task) -> Claim:
    finding = task.finding(record.id)
    witnesses = _witnesses(finding, record, prediction, task)
    certainty = certainty_of(record)
    asked = [w for w in witnesses if w.role in ("shows", "does_not_show", "unclear")]
    joint = certainty in CLAIMED and len(asked) > 1 and not any(w.role == "shows" for w in asked)
    return Claim(
        id=record.id,
        finding=record.id,
        certainty=certainty,
        probability=record.probability,
        witnesses=witnesses,
        joint=joint,
        evidence=list(dict.fromkeys(f"image {p.image}" for p in record.evidence)),
    )


def certainty_of(record: FindingRecord) -> Certainty:
    """How surely a finding may be said, by the documented scale; one step softer where the 90 % answer set
    leaves both answers."""
    if not record.assessed or record.probability is None:
        return "not_assessed"
    degree = wording(record.probability)
    said: Certainty = hedged(degree) if record.cannot_tell else degree
    return said


def _witnesses(finding: Finding, record: FindingRecord, prediction: Prediction, task: Task) -> list[Witness]:
    """What each image modality of the task says of a finding of the whole case."""
    roles = used_roles(prediction)
    return [_witness(finding, record, prediction, roles, m) for m in task.image_senses]


def _witness(
    finding: Finding,
    record: FindingRecord,
    prediction: Prediction,
    roles: dict[str, set[str]],
    modality: str,
) -> Witness:
    state = prediction.modalities.get(modality, "absent")
    if state == "absent":
        return Witness(modality=modality, role="not_acquired")
    if state == "failed":
        return Witness(modality=modality, role="cannot_show", why="failed")
    able, why = support(finding, modality, roles)
    if not able:
        why = "outside" if why == "not_acquired" else why
        return Witness(modality=modality, role="cannot_show", why=why)
    alone = prediction.subset_probability.get(modality, {}).get(finding.id)
    share = record.contribution.get(modality)
    limit = prediction.limits.get(modality, "") if finding.group == "focal" else ""
    role, why = _role(alone, share, limit, record.probability or 0.0)
    why = _window(modality, prediction) if role == "does_not_show" else why
    return Witness(modality=modality, role=role, why=why, probability=alone, contribution=share)


def _role(alone: float | None, share: float | None, limit: str, fused: float) -> tuple[Role, str]:
    """What a modality that could show a finding says of it. ``alone``: None where nothing is known of it by
    itself. ``limit``: why it does not hold the whole organ. ``fused``: the probability by all."""
    if alone is None:
        return "unclear", ""
    if alone >= SHOWS and fused >= LIKELY and (share is None or share > AGAINST):
        return "shows", ""
    if alone >= DENIED:
        return "unclear", ""
    return ("cannot_show", limit) if limit else ("does_not_show", "")


def _window(modality: str, prediction: Prediction) -> str:
    """Why a cine may have missed what it could show."""
    seen = prediction.organ_in_view.get(modality)
    return "window" if is_cine(modality) and seen is not None and seen < IN_VIEW else ""


def _contradictions(claims: Iterable[Claim], prediction: Prediction, task: Task) -> dict[str, list[str]]:
    """Finding → those that it cannot hold beside: a narrow one whose wider one is denied, and two of those of
    which only one holds."""
    said = {c.finding: c for c in claims if c.certainty != "not_assessed"}
    pairs: list[tuple[str, str]] = []
    for one in said.values():
        for wider in task.wider(one.finding):
            other = said.get(wider.id)
            if one.claimed and other is not None and other.certainty == "absent":
                pairs.append((one.finding, wider.id))
    sure = [f for f in task.exclusive if f in said and said[f].certainty in ("certain", "likely")]
    pairs += [(a, b) for i, a in enumerate(sure) for b in sure[i + 1 :]]
    out: dict[str, list[str]] = {}
    for a, b in pairs:
        out.setdefault(a, []).append(b)
        out.setdefault(b, []).append(a)
    return out


def _softened(claim: Claim, against: list[str]) -> Claim:
    """A claim that another one contradicts is possible at most, and not excluded."""
    if not against:
        return claim
    soft: Certainty = "possible" if claim.claimed else "unlikely"
    return claim.model_copy(update={"certainty": soft, "contradicts": against})


def _lesion_claims(prediction: Prediction, task: Task, findings: dict[str, Claim]) -> list[Claim]:
    """One claim a lesion, whichever modalities show it; none where the findings deny that there is any."""
    general = task.general_lesion
    if general is not None and (prediction.finding(general.id).probability or 0) < POSSIBLE:
        return []
    groups = _groups(prediction)
    made = [_lesion_claim(g, groups, prediction, task, findings) for g in groups]
    made.sort(key=lambda c: (weight(c), task.finding(c.finding).rank, -(c.long_axis_mm or 0.0)))
    count: dict[str, int] = {}
    for c in made:
        count[c.finding] = count.get(c.finding, 0) + 1
        c.id = f"{c.finding} {count[c.finding]}"
    return made


def weight(claim: Claim) -> int:
    """0 for what is at least likely, 1 for what is possible, 2 for the rest: what is surer is said first."""
    if claim.certainty in ("certain", "likely"):
        return 0
    return 1 if claim.certainty == "possible" else 2


def _groups(prediction: Prediction) -> list[list[LesionRecord]]:
    """Lesion records that are one lesion by their matches, at most one a modality, the largest first. Looks
    alone make no two outlines one lesion: of those that a cine has so, most lie on none."""
    by = {x.id: x for x in prediction.lesions}
    group = {i: {i} for i in by}
    placed = (m.lesions for m in prediction.matches if m.by != "appearance" and set(m.lesions) <= set(by))
    for a, b in placed:
        together = group[a] | group[b]
        if len({by[i].modality for i in together}) == len(together):
            for i in together:
                group[i] = together
    unique = {id(g): g for g in group.values()}
    return [
        sorted((by[i] for i in g), key=lambda x: (-(x.long_axis_mm or 0.0), x.id)) for g in unique.values()
    ]


def _lesion_claim(
    group: list[LesionRecord],
    groups: list[list[LesionRecord]],
    prediction: Prediction,
    task: Task,
    findings: dict[str, Claim],
) -> Claim:
    names = [x.finding for x in group]
    named = min(names, key=lambda n: (len(task.finding(n).derived_from), task.finding(n).rank))
    whole = findings[named]
    chance = min(whole.probability or 0.0, max(x.probability for x in group))
    record = prediction.finding(named)
    degree = wording(max(chance, POSSIBLE))
    certainty: Certainty = hedged(degree) if record.cannot_tell or whole.contradicts else degree
    measured = next((x for x in group if x.long_axis_mm is not None), None)
    return Claim(
        id="",
        finding=named,
        certainty=certainty,
        probability=round(chance, 4),
        side=_side(group),
        long_axis_mm=measured.long_axis_mm if measured else None,
        short_axis_mm=measured.short_axis_mm if measured else None,
        lesions=[x.id for x in group],
        match=_match(group, prediction),
        witnesses=[_of_lesion(w, group, groups, prediction, task) for w in whole.witnesses],
        evidence=[x.id for x in group],
        contradicts=whole.contradicts,
    )


def _side(group: list[LesionRecord]) -> Literal["right", "left", ""]:
    """The one side that records lie on, "" where they lie on both or on none."""
    sides = {x.side for x in group} - {""}
    return sides.pop() if len(sides) == 1 else ""


def _match(group: list[LesionRecord], prediction: Prediction) -> Literal["", "same", "probable"]:
    """How surely records are one lesion; "" of a single one."""
    if len(group) == 1:
        return ""
    pairs = [m for m in prediction.matches if set(m.lesions) <= {x.id for x in group}]
    return "same" if all(m.certainty == "same" for m in pairs) else "probable"


def _of_lesion(
    witness: Witness,
    group: list[LesionRecord],
    groups: list[list[LesionRecord]],
    prediction: Prediction,
    task: Task,
) -> Witness:
    """What a modality says of one lesion: it is outlined there, or it is not, though it could be seen."""
    modality = witness.modality
    if any(x.modality == modality for x in group):
        if len(group) > 1:
            return _as(witness, "shows")
        return _as(witness, "unclear", "alone")  # such an outline is often none (docs/reports.md)
    if witness.role in ("not_acquired", "cannot_show"):
        return witness
    limit = prediction.limits.get(modality, "")
    if limit:
        return _as(witness, "cannot_show", limit)
    unmatched = [g[0] for g in groups if len(g) == 1 and g[0].modality == modality]
    perhaps = any(_related(x, group[0], task) for x in unmatched)
    if perhaps or (witness.probability or 0.0) >= POSSIBLE:
        return _as(witness, "unclear", "unmatched")
    return _as(witness, "does_not_show", _window(modality, prediction))


def _as(witness: Witness, role: Role, why: str = "") -> Witness:
    return witness.model_copy(update={"role": role, "why": why})


def _related(a: LesionRecord, b: LesionRecord, task: Task) -> bool:
    wider = {x.finding: {x.finding, *(f.id for f in task.wider(x.finding))} for x in (a, b)}
    return a.finding in wider[b.finding] or b.finding in wider[a.finding]


def complete(prediction: Prediction, task: Task) -> bool:
    """Whether the absence of a lesion may be said: some volume covers the whole organ, or the task asks of
    whole images and not of the organ."""
    return task.whole_images or bool(covering(prediction))


def hidden(claim: Claim, claims: dict[str, Claim], task: Task) -> bool:
    """A wider finding says nothing new when one of its parts, or a narrower group of them, is claimed as at
    least likely, or just as surely."""
    finding = task.finding(claim.finding)
    narrower = [
        f.id for f in task.findings if f.derived_from and set(f.derived_from) < set(finding.derived_from)
    ]
    least = LIKELY if (claim.probability or 0.0) >= LIKELY else POSSIBLE
    said = (claims[p] for p in (*finding.derived_from, *narrower) if p in claims)
    return any((c.probability or 0.0) >= least and c.claimed for c in said)
