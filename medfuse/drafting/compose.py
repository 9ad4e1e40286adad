"""Prediction → claims → drafted report: features before diagnoses, and nothing without evidence."""

from __future__ import annotations

from ..case import Case
from ..prediction import Prediction
from ..report import Report, Section, SectionId, Sentence
from ..task import Task
from .categories import categories, unasked
from .claims import claims_of
from .comparison import comparison, targets
from .comparison import day as day
from .findings import not_assessed, notices, organ_sentences, scope, table
from .impression import impression
from .lesions import lesion_sentences, possible_lesions
from .matches import agreement
from .priors import Prior, compare, compared
from .styles import ANY as ANY
from .styles import Wish as Wish
from .styles import probabilities_of, style_of
from .telling import Telling
from .templates import Sentences, sentences


def compose(
    prediction: Prediction,
    case: Case,
    task: Task,
    language: str = "en",
    *,
    prior: Prior | None = None,
    wish: Wish = ANY,
) -> Report:
    """A draft. Outside the validated domain it holds no findings and no impression, and says why."""
    t = telling(prediction, case, task, language, wish, prior)
    s = t.s
    sections = [
        _section(s, "indication", [Sentence(text=case.indication or s.get("no_indication"))]),
        _section(s, "technique", _technique(case, s)),
        _section(s, "comparison", comparison(t, prior)),
    ]
    if prediction.in_domain:
        sections.append(_section(s, "findings", _styled(_findings(t), t)))
        sections.append(_section(s, "impression", _concluded(t)))
    elif prediction.outside_domain_shown:
        sections.append(_section(s, "notice", _uncalibrated(t)))
    return Report(
        case_id=prediction.case_id,
        language=language,
        simulated=prediction.simulated,
        in_domain=prediction.in_domain,
        banner=_banner(prediction, s),
        sections=sections,
        bundle=prediction.bundle,
        bundle_hash=prediction.bundle_hash,
        claims=t.claims,
        style=t.style.name,
        probabilities=t.probabilities,
        footer=[*table(t), *unasked(t), scope(t)] if prediction.in_domain else [],
        targets=targets(t, prior),
    )


def telling(
    prediction: Prediction,
    case: Case,
    task: Task,
    language: str,
    wish: Wish = ANY,
    prior: Prior | None = None,
) -> Telling:
    """All that the sentences of a draft are made from."""
    newest = compared(prior) if prediction.in_domain else None
    return Telling(
        prediction=prediction,
        case=case,
        task=task,
        s=sentences(task, language),
        claims=claims_of(prediction, task),
        style=style_of(wish.style, task),
        probabilities=probabilities_of(wish.probabilities),
        pairs=tuple(compare(prediction, newest, task)) if newest is not None else (),
    )


def _banner(prediction: Prediction, s: Sentences) -> list[str]:
    banner = [s.get("banner.research")]
    if prediction.simulated:
        banner.append(s.get("banner.simulated"))
    if prediction.in_domain:
        return banner
    if prediction.outside_domain_shown:
        return [*banner, s.get("banner.shown")]
    codes = dict.fromkeys(i.code for i in prediction.images if not i.in_domain)
    reason = s.get("list.then").join(s.get(f"outside.{c}") for c in codes)
    return [*banner, s.render("banner.outside", reason=reason)]


def _section(s: Sentences, section_id: SectionId, rows: list[Sentence]) -> Section:
    return Section(id=section_id, title=s.get(f"titles.{section_id}"), sentences=rows)


def _concluded(t: Telling) -> list[Sentence]:
    """The impression; several lines of it are numbered, and need no mark."""
    rows = impression(t)
    return rows if len(rows) > 1 else _styled(rows, t)


def _styled(rows: list[Sentence], t: Telling) -> list[Sentence]:
    """With what the style puts before each sentence."""
    if not t.style.before:
        return rows
    return [x.model_copy(update={"text": t.style.before + x.text}) for x in rows]


def _technique(case: Case, s: Sentences) -> list[Sentence]:
    out = []
    for modality in dict.fromkeys(i.modality for i in case.images):
        images = case.of(modality)
        dates = sorted({i.source.date for i in images if i.source.date})
        when = "".join(f"{s.get('list.comma')}{day(d)}" for d in dates)
        series = [s.role(i.role) for i in images]
        text = s.render("technique", modality=s.modality(modality), series=series, date=when)
        out.append(Sentence(text=text, modality=[modality]))
    return out


def _findings(t: Telling) -> list[Sentence]:
    """Lesions, then organs, then what was not assessed and what limits the examination."""
    rows = lesion_sentences(t)
    rows += agreement(t.prediction, t.s, possible_lesions(t.prediction, t.task)) if t.task.around else []
    rows += organ_sentences(t)
    rows += categories(t)
    rows += not_assessed(t)
    return [*rows, *notices(t.prediction, t.s)]


def _uncalibrated(t: Telling) -> list[Sentence]:
    """Scores that the user asked for outside the validated domain."""
    return [
        Sentence(
            text=t.s.render("uncalibrated", name=t.name(f.id), p=f.probability),
            finding=f.id,
            probability=f.probability,
        )
        for f in t.prediction.findings
        if f.probability is not None
    ]
