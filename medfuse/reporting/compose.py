"""Prediction → drafted report. Nothing is written that the evidence does not support; features before diagnoses."""

from __future__ import annotations

from ..case import Case
from ..prediction import FindingRecord, LesionRecord, Prediction
from ..report import Assertion, Report, Section, Sentence
from ..task import Finding, Task
from .lirads import applies, categorise, visualisation
from .matches import matched
from .priors import Prior, compare
from .templates import Sentences, sentences

CERTAIN, LIKELY, POSSIBLE, DENIED = 0.90, 0.70, 0.40, 0.15
MAX_LESIONS_A_MODALITY = 4


def wording(p: float) -> str:
    """The documented scale from probability to words."""
    if p >= CERTAIN:
        return "certain"
    if p >= LIKELY:
        return "likely"
    if p >= POSSIBLE:
        return "possible"
    return "absent" if p < DENIED else "unlikely"


def hedged(degree: str) -> str:
    """One step back towards the middle, for findings that the images cannot settle."""
    return {"certain": "likely", "likely": "possible", "absent": "unlikely"}.get(degree, degree)


def compose(
    prediction: Prediction, case: Case, task: Task, language: str = "en", *, prior: Prior | None = None
) -> Report:
    """A draft. Outside the validated domain it holds no findings and no impression, and says why."""
    s = sentences(task, language)
    banner = [s.get("banner.research")]
    if prediction.simulated:
        banner.append(s.get("banner.simulated"))
    if not prediction.in_domain:
        if prediction.outside_domain_shown:
            banner.append(s.get("banner.shown"))
        else:
            codes = dict.fromkeys(i.code for i in prediction.images if not i.in_domain)
            banner.append(s.render("banner.outside", reason="; ".join(s.get(f"outside.{c}") for c in codes)))
    sections = [
        _section(s, "indication", [Sentence(text=case.indication or s.get("no_indication"))]),
        _section(s, "technique", _technique(case, s)),
        _section(s, "comparison", _comparison(prediction, task, s, prior)),
    ]
    if prediction.in_domain:
        sections.append(_section(s, "findings", _findings(prediction, case, task, s)))
        sections.append(_section(s, "impression", _impression(prediction, task, s)))
    elif prediction.outside_domain_shown:
        rows = [
            Sentence(
                text=s.render("uncalibrated", name=task.finding(f.id).label(language), p=f.probability),
                finding=f.id,
                probability=f.probability,
            )
            for f in prediction.findings
            if f.probability is not None
        ]
        sections.append(_section(s, "notice", rows))
    return Report(
        case_id=prediction.case_id, language=language, simulated=prediction.simulated, in_domain=prediction.in_domain,
        banner=banner, sections=sections, bundle=prediction.bundle, bundle_hash=prediction.bundle_hash,
    )  # fmt: skip


def _section(s: Sentences, section_id: str, rows: list[Sentence]) -> Section:
    return Section(id=section_id, title=s.get(f"titles.{section_id}"), sentences=rows)  # type: ignore[arg-type]


def _technique(case: Case, s: Sentences) -> list[Sentence]:
    out = []
    for modality in dict.fromkeys(i.modality for i in case.images):
        images = case.of(modality)
        dates = sorted({i.source.date for i in images if i.source.date})
        when = "".join(f", {day(d)}" for d in dates)
        out.append(
            Sentence(
                text=s.render(
                    "technique",
                    modality=s.modality(modality),
                    series=[s.role(i.role) for i in images],
                    date=when,
                ),
                modality=[modality],
            )
        )
    return out


def _why_not(record: FindingRecord, s: Sentences) -> str:
    parts = []
    for modality, code in record.why_not.items():
        word, *roles = code.split()
        parts.append(s.render(f"reasons.{word}", modality=s.modality(modality), roles=[s.role(r) for r in roles]))
    return "; ".join(parts) or s.get("reasons.none")


def _limit(code: str, s: Sentences) -> str:
    word, *where = code.split()
    return s.render(f"limits.{word}", where=[s.get(f"limits.{w}") for w in where])


def _hide(finding: Finding, task: Task, prediction: Prediction) -> bool:
    """A wider finding says nothing new when one of its parts, or a narrower group of them, is reported as at least likely, or just as surely."""
    narrower = [f.id for f in task.findings if f.derived_from and set(f.derived_from) < set(finding.derived_from)]
    said = (prediction.finding(p) for p in (*finding.derived_from, *narrower))
    own = prediction.finding(finding.id).probability or 0.0
    least = LIKELY if own >= LIKELY else POSSIBLE
    return any((record.probability or 0) >= least and record.assessed for record in said)


def day(dicom: str) -> str:
    return f"{dicom[:4]}-{dicom[4:6]}-{dicom[6:8]}" if len(dicom) == 8 else dicom


def _comparison(prediction: Prediction, task: Task, s: Sentences, prior: Prior | None) -> list[Sentence]:
    """Both measurements with their dates; whether that is growth is for the reader to say."""
    if prior is None:
        return [Sentence(text=s.get("no_prior"))]
    when = "、" if s.language == "zh-TW" else ", "
    dates = when.join(f"{s.modality(m)} {day(d)}" for m, d in sorted(prior.dates.items()))
    rows = [Sentence(text=s.render("prior", dates=dates))]
    if not prediction.in_domain:
        return rows
    for pair in compare(prediction, prior):
        values = {
            "modality": s.modality(pair.now.modality), "name": task.finding(pair.now.finding).label(s.language),
            "side": s.side(pair.now.side), "date": day(pair.date), "now": pair.now.long_axis_mm, "then": pair.then.long_axis_mm,
        }  # fmt: skip
        rows.append(
            Sentence(
                text=s.render("prior_lesion", **values),
                finding=pair.now.finding,
                probability=pair.now.probability,
                modality=[pair.now.modality],
                evidence=[pair.now.place],
                assertion="possible",
            )
        )
    return rows


def notices(prediction: Prediction, s: Sentences) -> list[Sentence]:
    """What was not acquired, could not be read or shows the organ only in part: said in every report, whoever writes it."""
    rows: list[Sentence] = []
    for modality, state in prediction.modalities.items():
        if state == "absent":
            rows.append(
                Sentence(
                    text=s.render("modality_absent", modality=s.modality(modality)),
                    modality=[modality],
                    assertion="not_assessed",
                )
            )
        elif state == "failed":
            rows.append(
                Sentence(
                    text=s.render("modality_failed", modality=s.modality(modality)),
                    modality=[modality],
                    assertion="not_assessed",
                )
            )
        elif state == "limited":
            rows.append(
                Sentence(
                    text=s.render(
                        "modality_limited",
                        modality=s.modality(modality),
                        reason=_limit(prediction.limits.get(modality, ""), s),
                    ),
                    modality=[modality],
                    assertion="notice",
                )
            )
    return rows


def _categories(prediction: Prediction, case: Case, task: Task, s: Sentences) -> list[Sentence]:
    """LI-RADS of each lesion in CT and MR, the visualisation score of ultrasound, or why they do not apply."""
    if "lirads" not in task.rules:
        return []
    rows = []
    there = [m for m, state in prediction.modalities.items() if state in ("present", "limited")]
    mine = {m: [x for x in prediction.lesions if x.modality == m and _supported(x, prediction)] for m in there}
    for modality in there:
        if modality == "US":
            found = visualisation(prediction, case)
            if found.category:
                rows.append(Sentence(text=s.render("lirads.us", category=found.category), modality=["US"]))
            continue
        rule = applies(prediction, case, task, modality)
        if not mine[modality] and (rule.category or rule.reason == "no_risk"):
            continue
        if not rule.category:
            detail = [s.role(r) for r in rule.detail.split()] if rule.reason == "phases" else [rule.detail]
            reason = s.render(f"lirads.{rule.reason}", detail=detail)
            rows.append(
                Sentence(
                    text=s.render("lirads.not_applicable", modality=s.modality(modality), reason=reason),
                    modality=[modality],
                )
            )
            continue
        for lesion in mine[modality][:MAX_LESIONS_A_MODALITY]:
            found = categorise(lesion, prediction, task)
            name = task.finding(lesion.finding).label(s.language)
            if found.category:
                text = s.render("lirads.category", modality=s.modality(modality), name=name, category=found.category, side=s.side(lesion.side))  # fmt: skip
            else:
                reason = s.render(f"lirads.{found.reason}", detail=[])
                text = s.render("lirads.not_applicable", modality=f"{s.modality(modality)} {name}", reason=reason)
            rows.append(
                Sentence(
                    text=text, finding=lesion.finding, probability=lesion.probability, modality=[modality],
                    evidence=[lesion.place], assertion="possible" if found.category else "notice",
                )
            )  # fmt: skip
    return rows


def _findings(prediction: Prediction, case: Case, task: Task, s: Sentences) -> list[Sentence]:
    rows = notices(prediction, s)
    focal = [prediction.finding(f.id) for f in task.findings if f.group == "focal"]
    rows += _lesions(prediction, task, s)
    rows += matched(prediction, s, {x.id for x in prediction.lesions if _supported(x, prediction)})
    rows += _absence(prediction, s, focal)
    rows += _categories(prediction, case, task, s)
    for record in prediction.findings:
        finding = task.finding(record.id)
        name = finding.label(s.language)
        if not record.assessed:
            rows.append(
                Sentence(
                    text=s.render("not_assessed", name=name, reason=_why_not(record, s)),
                    finding=record.id,
                    assertion="not_assessed",
                )
            )
            continue
        p = record.probability or 0.0
        if finding.id in task.exclusive:
            continue  # one sentence each, the likeliest first
        if finding.group == "focal" and (p < POSSIBLE or _hide(finding, task, prediction)):
            continue  # absence of lesions is one sentence, with its coverage
        rows.append(finding_sentence(record, finding, s))
    rows += _exclusive(prediction, task, s)
    return [*rows, scope(task, s)]


def scope(task: Task, s: Sentences) -> Sentence:
    return Sentence(text=s.render("scope", names=[f.label(s.language) for f in task.findings]))


def _exclusive(prediction: Prediction, task: Task, s: Sentences) -> list[Sentence]:
    """Findings of which exactly one holds: what is likeliest, then what cannot be excluded; the rest goes without saying."""
    records = [f for f in prediction.findings if f.id in task.exclusive and f.assessed]
    records.sort(key=lambda f: -(f.probability or 0))
    return [finding_sentence(f, task.finding(f.id), s) for f in records if (f.probability or 0.0) >= DENIED]


def finding_sentence(record: FindingRecord, finding: Finding, s: Sentences) -> Sentence:
    """One finding in words of the documented scale, with its probability and what can show it."""
    p = record.probability or 0.0
    degree = hedged(wording(p)) if record.cannot_tell else wording(p)
    shown = [s.modality(m) for m in record.assessed_by]
    text = s.render(f"scale.{degree}", name=finding.label(s.language)) + s.render("because", modalities=shown, p=p)
    assertion: Assertion = (
        "absent" if degree == "absent" else "present" if degree in ("certain", "likely") else "possible"
    )
    return Sentence(
        text=text,
        finding=record.id,
        probability=p,
        modality=record.assessed_by,
        evidence=record.evidence,
        assertion=assertion,
    )


def _supported(lesion: LesionRecord, prediction: Prediction) -> bool:
    return (
        (prediction.finding("focal_lesion").probability or 0) >= POSSIBLE
        if any(f.id == "focal_lesion" for f in prediction.findings)
        else True
    )


def _lesions(prediction: Prediction, task: Task, s: Sentences) -> list[Sentence]:
    rows = []
    for modality in prediction.modalities:
        mine = [x for x in prediction.lesions if x.modality == modality and _supported(x, prediction)]
        mine.sort(key=lambda x: -x.probability * (x.long_axis_mm or 1.0))
        for lesion in mine[:MAX_LESIONS_A_MODALITY]:
            if lesion.long_axis_mm is None or lesion.short_axis_mm is None:
                size = s.get("size_unknown")
            else:
                size = s.render("size", long=lesion.long_axis_mm, short=lesion.short_axis_mm)
            if lesion.place.frame is not None:
                place = s.render("place_frame", n=lesion.place.frame + 1)
            else:
                series = s.role(prediction.images[lesion.place.image].role)
                place = s.render("place_slice", series=series, n=(lesion.place.slice or 0) + 1)
            text = s.render(
                "lesion",
                modality=s.modality(modality),
                features=s.features(lesion.finding, modality),
                side=s.side(lesion.side),
                name=task.finding(lesion.finding).label(s.language),
                size=size,
                place=place,
                p=lesion.probability,
            )
            rows.append(
                Sentence(
                    text=text,
                    finding=lesion.finding,
                    probability=lesion.probability,
                    modality=[modality],
                    evidence=[lesion.place],
                    assertion="present" if lesion.probability >= LIKELY else "possible",
                )
            )
        if len(mine) > MAX_LESIONS_A_MODALITY:
            rows.append(
                Sentence(
                    text=s.render("more_lesions", n=len(mine) - MAX_LESIONS_A_MODALITY, modality=s.modality(modality)),
                    modality=[modality],
                )
            )
    return rows


def _absence(prediction: Prediction, s: Sentences, focal: list[FindingRecord]) -> list[Sentence]:
    """'No focal lesion' only from a volume that covers the whole organ; else it is not assessed."""
    if any((f.probability or 0) >= DENIED * 2 and f.assessed for f in focal) or not focal:
        return []
    complete = [m for m, state in prediction.modalities.items() if state == "present" and m != "US"]
    if complete:
        p = max((f.probability or 0) for f in focal)
        return [
            Sentence(
                text=s.render("no_focal", modalities=[s.modality(m) for m in complete]),
                finding="focal_lesion",
                probability=p,
                modality=complete,
                assertion="absent",
            )
        ]
    reasons = [f"{s.modality(m)}: {_limit(why, s)}" for m, why in prediction.limits.items()]
    reason = "; ".join(reasons) or s.get("ultrasound_planes")
    return [
        Sentence(
            text=s.render("no_focal_coverage", reason=reason),
            finding="focal_lesion",
            assertion="not_assessed",
        )
    ]


def _impression(prediction: Prediction, task: Task, s: Sentences) -> list[Sentence]:
    chosen = [
        (task.finding(f.id).rank, f) for f in prediction.findings
        if f.assessed and (f.probability or 0) >= POSSIBLE and not _hide(task.finding(f.id), task, prediction)
    ]  # fmt: skip
    chosen.sort(key=lambda c: c[0])
    rows = [finding_sentence(f, task.finding(f.id), s) for _, f in chosen]
    return rows or [Sentence(text=s.get("nothing"))]
