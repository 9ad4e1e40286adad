"""Findings with calibrated probability and what each modality contributed (exact Shapley values); a click
leads to the evidence."""

from __future__ import annotations

import streamlit as st

from apps.viewer import components
from apps.viewer.evidence import Places
from apps.viewer.words import branch, finding_names, language, w
from medfuse.display.contract import FindingLine, FindingsData, LesionLine
from medfuse.modalities import MODALITIES
from medfuse.prediction import FindingRecord, LesionRecord, Prediction


def show(prediction: Prediction, places: Places) -> None:
    """The table of findings and lesions of one prediction."""
    st.markdown(f"### {w('findings.title')}")
    if not prediction.findings:
        st.caption(w("findings.none"))
        return
    rows = [f for f in prediction.findings if f.probability is not None]
    rows.sort(key=lambda f: (not f.assessed, -(f.probability or 0)))
    if any(not f.calibrated for f in rows):
        st.warning(w("findings.uncalibrated"))
    names = finding_names(prediction.bundle, language())
    data = FindingsData(
        findings=[_finding(f, prediction, places, names) for f in rows],
        lesions=lesion_lines(prediction, places, names),
        colours={m: MODALITIES[m].colour for m in MODALITIES if m in prediction.modalities},
        words=branch("findings"),
    )
    components.findings(data, key=f"findings-{prediction.case_id}")


def lesion_lines(prediction: Prediction, places: Places, names: dict[str, str]) -> list[LesionLine]:
    """A line for each outline on an image that is here: of every sensor, and of several together."""
    return [row for x in prediction.outlined if (row := _lesion(x, prediction, places, names))]


def _finding(f: FindingRecord, prediction: Prediction, places: Places, names: dict[str, str]) -> FindingLine:
    """Evidence of a finding: its own, else the likeliest lesion of its kind."""
    own = list(f.evidence) or [x.place for x in prediction.lesions if x.finding == f.id]
    where = next((at for place in own if (at := places.of(place))), None)
    hint = (
        "+".join(f.assessed_by)
        if f.assessed
        else "; ".join(f"{m}: {why.replace('_', ' ')}" for m, why in f.why_not.items())
    )
    return FindingLine(
        id=f.id,
        name=names.get(f.id, f.name),
        probability=f.probability or 0.0,
        said=f"{f.probability:.2f}{' ?' if f.cannot_tell else ''}",
        assessed=f.assessed,
        interval=(f.interval[0], f.interval[1]) if f.assessed and f.interval else None,
        contribution=f.contribution,
        place=where,
        hint=hint,
    )


def _lesion(
    x: LesionRecord, prediction: Prediction, places: Places, names: dict[str, str]
) -> LesionLine | None:
    at = places.of(x.place)
    if at is None:
        return None
    size = (
        w("findings.not_measured")
        if x.long_axis_mm is None
        else f"{x.long_axis_mm:.0f} × {x.short_axis_mm:.0f} mm"
    )
    partners = [
        w(f"findings.{m.certainty}", other=next(i for i in m.lesions if i != x.id))
        for m in prediction.matches
        if x.id in m.lesions
    ]
    partners += [
        w("findings.together", sensors="+".join(t.modalities))
        for t in prediction.together
        if t.lesion.id == x.id
    ]
    return LesionLine(
        id=x.id,
        name=names.get(x.finding, x.finding.replace("_", " ")),
        said=w("findings.detector", score=f"{x.probability:.2f}"),
        size=size,
        where=" · ".join([places.where(x.place), *partners]),
        place=at,
    )
