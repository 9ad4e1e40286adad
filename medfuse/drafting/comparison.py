"""The comparison section: with what is compared, how that is known, what each lesion measured then and now,
and the targets over time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ..claim import Claim
from ..prediction import LesionRecord
from ..report import Sentence, TargetRow, Targets
from .priors import Pair, Prior, Trend, compare, compared, unmatched
from .telling import Telling

TARGET_MM = 10.0  # RECIST 1.1: what may be a target at least measured when it was first seen,
IN_ORGAN = 2  # how many of one organ,
IN_ALL = 5  # and how many in all
QUOTED = 3  # measurements and older cases that are told


def day(dicom: str) -> str:
    """A DICOM date as year-month-day."""
    return f"{dicom[:4]}-{dicom[4:6]}-{dicom[6:8]}" if len(dicom) == 8 else dicom


def comparison(t: Telling, prior: Prior | None) -> list[Sentence]:
    """Both measurements with their dates; what was not read is told as such."""
    if prior is None:
        return [Sentence(text=t.s.get("no_prior"))]
    newest = compared(prior)
    rows = []
    for earlier in prior.chain:
        if earlier is newest:
            break
        rows += _unread(earlier, t)
    if newest is None:
        return rows
    rows.append(Sentence(text=t.s.render("prior", dates=dates_in_words(newest, t))))
    if newest.now:
        rows.append(Sentence(text=t.s.get("prior_now")))
    rows += _quoted(newest, t)
    if not t.prediction.in_domain:
        return rows
    rows += _pairs(t.pairs, t)
    now, then = unmatched(t.prediction, newest, t.pairs)
    if now or then:
        rows.append(Sentence(text=t.s.render("prior_unmatched", now=now, then=then)))
    return rows


def dates_in_words(prior: Prior, t: Telling) -> str:
    """Each modality of an earlier case with its date."""
    return t.s.get("list.comma").join(f"{t.s.modality(m)} {day(d)}" for m, d in sorted(prior.dates.items()))


def _unread(prior: Prior, t: Telling) -> list[Sentence]:
    """An earlier case whose images no model read: what people said of it, or that nobody did."""
    dates = dates_in_words(prior, t)
    said = _quoted(prior, t)
    return [Sentence(text=t.s.render("prior_said" if said else "prior_unread", dates=dates)), *said]


def _quoted(prior: Prior, t: Telling) -> list[Sentence]:
    """The words of people on an earlier case, as theirs."""
    rows = [Sentence(text=t.s.render("prior_signed", words=prior.signed))] if prior.signed else []
    if prior.measured:
        lines = prior.measured[:QUOTED]
        rows.append(Sentence(text=t.s.render("prior_measured", lines=lines)))
    return rows


def _pairs(pairs: Sequence[Pair], t: Telling) -> list[Sentence]:
    """What each lesion measured then and now, one sentence a lesion over all modalities, and how it is known
    to be one."""
    groups: dict[str, list[Pair]] = {}
    for pair in pairs:
        claim = _claim_of(pair, t)
        groups.setdefault(claim.id if pair.placed and claim is not None else pair.now.id, []).append(pair)
    rows = [_over_time(g, t) for g in groups.values()]
    if any(p.placed for p in pairs):
        rows.append(Sentence(text=t.s.get("prior_by_place")))
    return rows


def _claim_of(pair: Pair, t: Telling) -> Claim | None:
    """The lesion that is told of."""
    return next((c for c in t.lesions if pair.now.id in c.lesions), None)


def _over_time(pairs: list[Pair], t: Telling) -> Sentence:
    """One lesion then and now, on each modality; a change only where its place says that it is one lesion."""
    first = pairs[0]
    claim = _claim_of(first, t)
    finding = claim.finding if claim is not None and first.placed else first.now.finding
    return Sentence(
        text=_in_words(pairs, finding, t),
        finding=finding,
        probability=first.now.probability,
        modality=[p.now.modality for p in pairs],
        evidence=[p.now.place for p in pairs],
        assertion="possible",
        claims=[claim.id] if claim is not None else [],
    )


def _in_words(pairs: list[Pair], finding: str, t: Telling) -> str:
    """The trend is said once where all modalities agree on it."""
    first = pairs[0]
    name = t.name(finding)
    side = t.s.side(first.now.side)
    if not first.placed:
        now, then = first.now.long_axis_mm, first.then.long_axis_mm
        modality = t.s.modality(first.now.modality)
        date = day(first.date)
        return t.s.render(
            "prior_lesion", modality=modality, name=name, side=side, date=date, now=now, then=then
        )
    trends = [t.s.get(f"trend.{p.trend}") for p in pairs]
    one = len(set(trends)) == 1
    parts = [_on(p, "" if one else trend, t) for p, trend in zip(pairs, trends, strict=True)]
    return t.s.render("prior_target", name=name, side=side, trend=trends[0] if one else "", parts=parts)


def _on(pair: Pair, trend: str, t: Telling) -> str:
    """Both lengths on one modality, in whole mm as they are shown."""
    now, then = (round(x.long_axis_mm or 0.0) for x in (pair.now, pair.then))
    return t.s.render(
        "prior_on",
        modality=t.s.inside(pair.now.modality),
        now=now,
        then=then,
        date=day(pair.date),
        change=change_in_words(now - then, (now - then) / (then or 1)),
        trend=trend,
    )


def since(lesions: list[Claim], t: Telling) -> list[str]:
    """How many of these lesions are larger, or smaller, than on an earlier day, where all modalities on which
    they were measured twice say so; that they are stable, where all of them are."""
    found: dict[Trend, list[str]] = {}
    for lesion in lesions:
        pairs = [p for p in t.pairs if p.placed and p.now.id in lesion.lesions]
        trends = {p.trend for p in pairs}
        if len(trends) == 1:
            found.setdefault(trends.pop(), []).append(min(p.date for p in pairs))
    rows: list[str] = []
    for trend, dates in found.items():
        n, total = len(dates), len(lesions)
        if trend != "stable" or n == total:
            rows.append(t.s.render(f"since.{trend}", n=n, total=total, date=day(min(dates))))
    return rows


def change_in_words(mm: float, share: float) -> str:
    """A change with its sign, such as +8 mm, +36 %."""
    if round(mm) == 0:
        return "±0 mm"
    return f"{mm:+.0f} mm, {share:+.0%}".replace("-", "−").replace("%", " %")


def targets(t: Telling, prior: Prior | None) -> Targets | None:
    """The targets over time after RECIST 1.1: lesions matched by their place alone, the longest axial
    diameter on one modality each, at least 10 mm when they were first measured, two an organ and five in all.
    None without any."""
    read = prior.read[:QUOTED] if prior is not None and t.prediction.in_domain else []
    if not read:
        return None
    rows = _target_rows(t, read)
    if not rows:
        return None
    times = [" / ".join(sorted({day(d) for d in r.dates.values()})) for r in reversed(read)]
    return Targets(
        title=t.s.get("targets.title"),
        columns=[t.s.get("targets.target"), *times, t.s.get("targets.now"), t.s.get("targets.change")],
        rows=rows,
        sum_name=t.s.get("targets.sum"),
        rule=t.s.get("targets.rule"),
    )


def _target_rows(t: Telling, read: list[Prior]) -> list[TargetRow]:
    """One row a target, the largest first; ``read``: earlier cases that were measured, the newest first."""
    over = [_partners(t, r) for r in reversed(read)]
    rows: list[TargetRow] = []
    organs: Counter[str] = Counter()
    for claim in sorted(t.lesions, key=lambda c: -(c.long_axis_mm or 0.0)):
        lesion = next((t.records[i] for i in claim.lesions if i in over[-1]), None)
        organ = t.task.finding(claim.finding).region or t.task.organ
        if lesion is None or organs[organ] == IN_ORGAN or len(rows) == IN_ALL:
            continue
        then = [one[lesion.id].long_axis_mm if lesion.id in one else None for one in over]
        if next(v for v in then if v is not None) < TARGET_MM:
            continue
        organs[organ] += 1
        rows.append(_row(len(rows) + 1, claim, lesion, then, t))
    return rows


def _partners(t: Telling, earlier: Prior) -> dict[str, LesionRecord]:
    """Id of a lesion now → its partner then, of those that are one by their place."""
    return {p.now.id: p.then for p in compare(t.prediction, earlier, t.task) if p.placed}


def _row(n: int, claim: Claim, lesion: LesionRecord, then: list[float | None], t: Telling) -> TargetRow:
    """Target number ``n``; ``then``: its lengths before, the oldest first."""
    name = t.s.render(
        "targets.row",
        n=n,
        name=t.name(claim.finding),
        side=t.s.side(lesion.side),
        modality=t.s.inside(lesion.modality),
    )
    return TargetRow(
        claim=claim.id,
        lesion=lesion.id,
        modality=lesion.modality,
        name=name,
        long_axis_mm=[*then, lesion.long_axis_mm],
    )
