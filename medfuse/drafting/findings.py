"""Sentences on findings of the whole case, organ by organ, and on what limits the examination."""

from __future__ import annotations

from ..claim import Claim
from ..prediction import FindingRecord, Prediction
from ..report import Sentence
from .claims import complete, hidden
from .lesions import covering, outline_words, unconfirmed
from .telling import Telling
from .templates import Sentences
from .witness_words import witness_words


def finding_sentence(claim: Claim, t: Telling) -> Sentence:
    """One finding in words of the documented scale, and who shows it; of a known mass that nothing outlines,
    that nothing does."""
    if claim.claimed and t.no_outline:
        return t.sentence(t.no_outline, [claim], "notice")
    then = t.s.get("list.then")
    witnesses = witness_words(claim, t) if claim.claimed else []
    told = t.narrower_told(claim.finding)
    outline = t.best.get(claim.finding) if claim.claimed and not told else None
    if claim.claimed and t.task.finding(claim.finding).group == "focal" and t.task.dense:
        witnesses.append(_outline(claim, outline, t))
    text = t.s.render(
        "claim.finding",
        said=t.said(claim.certainty, t.name(claim.finding), claim.finding),
        witnesses=then.join(witnesses),
        extra=then.join([*t.contradicted(claim), *t.probability(claim)]),
    )
    return t.sentence(text, [claim, outline] if outline else [claim])


def _outline(claim: Claim, outline: Claim | None, t: Telling) -> str:
    """The outline or the lesion that a finding may be, or that there is none of its own."""
    if outline is not None:
        modality = t.s.inside(t.records[outline.lesions[0]].modality)
        return t.s.render("claim.perhaps", modality=modality, where=outline_words(outline, t))
    if t.narrower_told(claim.finding):
        return t.s.get("claim.told")
    if t.perhaps(claim.finding):
        return t.s.get("claim.above")
    wider = {f.id for f in t.task.wider(claim.finding)}
    unnamed = any(c.finding in wider for c in t.lesions)
    return t.s.get("claim.unnamed" if unnamed else "claim.no_outline")


def organ_sentences(t: Telling) -> list[Sentence]:
    """Organ by organ in the task's order: what is there, one sentence each, then what is not, in one."""
    rows: list[Sentence] = []
    denied: list[Claim] = []
    for organ, claims in _by_organ(t).items():
        mine = [finding_sentence(c, t) for c in claims if _worth_saying(c, t)]
        not_there = [c for c in claims if not c.claimed and _worth_denying(c, t)]
        if t.style.negatives == "together":
            denied += not_there
        else:
            mine += _denials(not_there, t)
        rows += _under_heading(mine, organ, t)
    put = {i for x in rows for i in x.claims}
    return [*rows, *_denials(denied, t), *_exclusive(t), *unconfirmed(t, put)]


def _by_organ(t: Telling) -> dict[str, list[Claim]]:
    """Assessed findings by their region, or the task's organ; without those of which exactly one holds."""
    organs: dict[str, list[Claim]] = {}
    for claim in t.findings.values():
        if claim.finding not in t.task.exclusive and claim.certainty != "not_assessed":
            organs.setdefault(t.task.finding(claim.finding).region or t.task.organ, []).append(claim)
    return organs


def _worth_saying(claim: Claim, t: Telling) -> bool:
    """Whether a finding is there and neither a lesion's sentence nor a narrower finding's says so already."""
    told = {c.finding for c in t.placed}
    return claim.claimed and claim.finding not in told and not hidden(claim, t.findings, t.task)


def _under_heading(rows: list[Sentence], organ: str, t: Telling) -> list[Sentence]:
    """With the organ named before the first sentence, where the style wants it."""
    if not (rows and organ and t.style.headings):
        return rows
    text = t.s.render("claim.heading", organ=t.s.organ(organ), text=rows[0].text)
    return [rows[0].model_copy(update={"text": text}), *rows[1:]]


def _worth_denying(claim: Claim, t: Telling) -> bool:
    """A narrow finding goes without saying where a wider one is said: that one denies it too, or its lesions
    have their names."""
    if t.task.finding(claim.finding).group != "focal" or t.task.whole_images:
        return True
    return not any(w.id in t.findings for w in t.task.wider(claim.finding))


def _denials(claims: list[Claim], t: Telling) -> list[Sentence]:
    """What is absent in one sentence, what is only unlikely in another; the absence of lesions where nothing
    covers the organ is not assessed."""
    focal = {f.id for f in t.task.findings if f.group == "focal"}
    open_ = [] if complete(t.prediction, t.task) else [c for c in claims if c.finding in focal]
    unseen = [c for c in open_ if c.certainty == "absent"]
    rows = [_uncovered(unseen, t)] if unseen else []
    absent = [c for c in claims if c.certainty == "absent" and c not in unseen]
    unlikely = [c for c in claims if c.certainty == "unlikely"]
    if absent:
        rows.append(_absent(absent, t))
    if len(unlikely) == 1:
        rows.append(finding_sentence(unlikely[0], t))
    elif unlikely:
        names = t.s.joined([t.name(c.finding) for c in unlikely], "or")
        rows.append(t.sentence(t.s.render("several.unlikely", names=names) + t.s.get("list.end"), unlikely))
    return rows


def _absent(claims: list[Claim], t: Telling) -> Sentence:
    """One sentence of all that is denied; a denied lesion denies its narrower names too."""
    denied = list(claims)
    for claim in claims:
        parts = t.task.finding(claim.finding).derived_from
        denied += [c for c in t.findings.values() if c.certainty == "absent" and _within(c.finding, parts, t)]
    lesions = [c for c in claims if t.task.finding(c.finding).group == "focal"]
    covered = covering(t.prediction) if lesions else []
    if t.task.around and lesions:
        text = t.s.render("no_focal", modalities=[t.s.modality(m) for m in covered])
    else:
        names = t.s.joined([t.name(c.finding) for c in claims], "or")
        text = t.said("absent", names) + t.s.get("list.end")
    row = t.sentence(text, list({c.id: c for c in denied}.values()))
    return row.model_copy(update={"modality": covered}) if covered else row


def _within(finding: str, parts: tuple[str, ...], t: Telling) -> bool:
    """Whether a finding is one of these, or a group of some of them."""
    own = t.task.finding(finding).derived_from
    return finding in parts or bool(own and set(own) < set(parts))


def _uncovered(claims: list[Claim], t: Telling) -> Sentence:
    """Why the absence of a lesion cannot be said."""
    s = t.s
    reasons = [f"{s.modality(m)}: {limit_in_words(why, s)}" for m, why in t.prediction.limits.items()]
    reason = s.get("list.then").join(reasons) or s.get("ultrasound_planes")
    return t.sentence(s.render("no_focal_coverage", reason=reason), claims, "not_assessed")


def _exclusive(t: Telling) -> list[Sentence]:
    """Findings of which exactly one holds: what is likeliest, then what cannot be excluded; the rest goes
    without saying."""
    claims = [c for f, c in t.findings.items() if f in t.task.exclusive and c.certainty != "not_assessed"]
    claims.sort(key=lambda c: -(c.probability or 0.0))
    return [finding_sentence(c, t) for c in claims if c.certainty != "absent"]


def why_not_assessed(record: FindingRecord, s: Sentences) -> str:
    """Why nothing that was acquired can answer a finding, each modality with its reason."""
    parts = []
    for modality, code in record.why_not.items():
        word, *roles = code.split()
        parts.append(
            s.render(f"reasons.{word}", modality=s.modality(modality), roles=[s.role(r) for r in roles])
        )
    return s.get("list.comma").join(parts) or s.get("reasons.none")


def not_assessed(t: Telling) -> list[Sentence]:
    """What was not looked for, and why, in one sentence."""
    why: dict[str, list[Claim]] = {}
    for claim in t.findings.values():
        if claim.certainty == "not_assessed":
            why.setdefault(why_not_assessed(t.prediction.finding(claim.finding), t.s), []).append(claim)
    parts = [
        t.s.render("claim.unassessed", names=t.s.joined([t.name(c.finding) for c in claims]), reason=reason)
        for reason, claims in why.items()
    ]
    if not parts:
        return []
    text = t.s.render("claim.not_assessed", parts=t.s.get("list.comma").join(parts))
    return [t.sentence(text, [c for claims in why.values() for c in claims])]


def limit_in_words(code: str, s: Sentences) -> str:
    """What keeps a modality from showing the whole organ, by its code in the prediction."""
    word, *where = code.split()
    return s.render(f"limits.{word}", where=[s.get(f"limits.{w}") for w in where])


def notices(prediction: Prediction, s: Sentences) -> list[Sentence]:
    """What was not acquired, could not be read or shows the organ only in part: said in every report, whoever
    writes it, in one sentence."""
    limits: list[str] = []
    named: list[str] = []
    blind = False
    for modality, state in prediction.modalities.items():
        if state not in ("absent", "failed", "limited"):
            continue
        reason = limit_in_words(prediction.limits.get(modality, ""), s) if state == "limited" else ""
        limits.append(s.render(f"limit.{state}", modality=s.modality(modality), reason=reason))
        named.append(modality)
        blind = blind or state != "limited"
    if not limits:
        return []
    text = s.render("limit.line", limits=s.get("list.then").join(limits))
    return [Sentence(text=text, modality=named, assertion="not_assessed" if blind else "notice")]


def scope(t: Telling) -> str:
    """The sentence that says which findings were looked for at all."""
    return t.s.render("scope", names=[t.name(f.id) for f in t.task.findings])


def table(t: Telling) -> list[str]:
    """Every calibrated probability in one line, where the reader wants a table."""
    if t.probabilities != "table":
        return []
    known = [(f.id, f.probability) for f in t.prediction.findings if f.assessed and f.probability is not None]
    rows = [t.s.render("claim.row", name=t.name(f), p=p) for f, p in known]
    return [t.s.render("claim.probabilities", rows=rows)] if rows else []
