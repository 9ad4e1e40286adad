"""Many cases at once: batch runs, what was found and by which modality, and how well a bundle was measured to
do."""

from __future__ import annotations

import json
from pathlib import Path

import altair as alt
import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from apps.viewer import people
from apps.viewer.desk import library
from apps.viewer.words import finding_word, w
from medfuse.io.cells import harmless
from medfuse.library.batches import batch_rows, batch_runs
from medfuse.library.worklist import worklist
from medfuse.modalities import MODALITIES

COLOURS = alt.Scale(domain=list(MODALITIES), range=[m.colour for m in MODALITIES.values()])


def csv_of(table: pd.DataFrame) -> str:
    """A table for a spreadsheet, in which no text is a formula."""
    return table.map(harmless).to_csv(index=False)


def show() -> None:
    """The page: the library as a whole, batch runs, and a bundle's evaluation, each in a tab."""
    st.markdown(f"### {w('cohort.title')}")
    tabs = st.tabs([w("cohort.title"), w("cohort.batches"), w("cohort.evaluation")])
    with tabs[0]:
        _library()
    with tabs[1]:
        _batches()
    with tabs[2]:
        _evaluation()


def _library() -> None:
    rows = [r for r in worklist(library()) if r.findings]
    st.caption(w("cohort.too_few", n=len(rows)))
    if not rows:
        return
    found = pd.DataFrame(
        [
            {"finding": finding_word(f), "probability": p, "case_id": r.case_id}
            for r in rows
            for f, p in r.findings.items()
        ]
    )
    share = found.assign(likely=found.probability >= 0.5).groupby("finding").likely.mean().reset_index()
    newest = tuple(r.case_id for r in rows[:400])
    left, right = st.columns(2, gap="large")
    _chart(w("cohort.prevalence"), _prevalence_chart(share), left)
    parts = _contributions(newest)
    if not parts.empty:
        _chart(w("cohort.contribution"), _contribution_chart(parts), right)
        _chart(w("cohort.complement"), _complement_chart(_complement(newest)), st.container())
    wide = found.pivot(index="case_id", columns="finding", values="probability").reset_index()
    st.download_button(w("cohort.csv"), csv_of(wide), file_name="cohort.csv", key="cohort-csv")


def _chart(title: str, chart: alt.Chart, place: DeltaGenerator) -> None:
    place.markdown(f"**{title}**")
    place.altair_chart(chart, width="stretch")


def _prevalence_chart(share: pd.DataFrame) -> alt.Chart:
    return (
        alt.Chart(share)
        .mark_bar(color="#6fbf73")
        .encode(
            x=alt.X("likely:Q", axis=alt.Axis(format="%"), title=None),
            y=alt.Y("finding:N", sort="-x", title=None),
        )
    )


def _contribution_chart(parts: pd.DataFrame) -> alt.Chart:
    mean = parts.groupby(["finding", "modality"]).size_.mean().reset_index()
    return (
        alt.Chart(mean)
        .mark_bar()
        .encode(
            x=alt.X("size_:Q", title=None),
            y=alt.Y("finding:N", sort="-x", title=None),
            color=alt.Color("modality:N", scale=COLOURS, legend=alt.Legend(orient="top", title=None)),
        )
    )


def _complement_chart(moves: pd.DataFrame) -> alt.Chart:
    return (
        alt.Chart(moves)
        .mark_rect()
        .encode(
            x=alt.X("joins:N", title=None, axis=alt.Axis(labelAngle=0)),
            y=alt.Y("finding:N", title=None),
            color=alt.Color("moves:Q", scale=alt.Scale(scheme="viridis"), title="|Δp|"),
            tooltip=["finding", "joins", alt.Tooltip("moves:Q", format=".3f")],
        )
    )


@st.cache_data(ttl=120, show_spinner=False)
def _predictions(case_ids: tuple[str, ...]) -> list[dict]:
    """What the charts need of each newest prediction, read once."""
    from medfuse.library.results import load_result

    out = []
    for case_id in case_ids:
        result = load_result(library(), case_id)
        if result is not None:
            p = result[0]
            out.append(
                {
                    "findings": [(f.id, f.contribution) for f in p.findings if f.assessed],
                    "subsets": p.subset_probability,
                    "assessed": [f.id for f in p.findings if f.assessed],
                }
            )
    return out


def _contributions(case_ids: tuple[str, ...]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"finding": finding_word(f), "modality": m, "size_": abs(v)}
            for p in _predictions(case_ids)
            for f, parts in p["findings"]
            for m, v in parts.items()
        ],
        columns=["finding", "modality", "size_"],
    )


def _complement(case_ids: tuple[str, ...]) -> pd.DataFrame:
    """Mean change of the probability from a pair of modalities to all three: what the third one settles."""
    rows = []
    for p in _predictions(case_ids):
        subsets = p["subsets"]
        full = max(subsets, key=lambda k: k.count("+"), default="")
        members = full.split("+")
        for m in members:
            rest = "+".join(x for x in members if x != m)
            if rest in subsets:
                rows += [
                    {
                        "finding": finding_word(f),
                        "joins": f"{rest} → +{m}",
                        "moves": abs(subsets[full][f] - subsets[rest][f]),
                    }
                    for f in p["assessed"]
                    if f in subsets[full] and f in subsets[rest]
                ]
    table = pd.DataFrame(rows, columns=["finding", "joins", "moves"])
    return table.groupby(["finding", "joins"]).moves.mean().reset_index()


def _batches() -> None:
    runs = batch_runs(library())
    if not runs:
        st.info(w("cohort.none"))
        return
    st.dataframe(pd.DataFrame(runs), hide_index=True, width="stretch")
    chosen = st.selectbox(
        w("cohort.batches"), [r.out for r in runs], key="batch", label_visibility="collapsed"
    )
    table = pd.DataFrame(batch_rows(library(), chosen))
    st.dataframe(table, hide_index=True, width="stretch", height=320)
    st.download_button(w("cohort.csv"), csv_of(table), file_name="batch.csv", key="batch-csv")


def _evaluation() -> None:
    folder = st.text_input(w("cohort.evaluation_hint"), str(library().home / "evaluation"), key="evaluation")
    path = Path(folder).resolve()
    inside = path.is_relative_to(library().home.resolve())
    if not (inside or people.at_this_machine()) or not (path / "evaluation.json").is_file():
        st.info(w("cohort.evaluation_none"))
        return
    scores = json.loads((path / "evaluation.json").read_text(encoding="utf-8"))
    rows = []
    for subset, row in scores["subsets"].items():
        stack = scores["baselines"]["logit_stack"].get(subset, {})
        late = scores["baselines"]["late_concat"].get(subset, {})
        calibration = scores["calibration"].get(subset, {})
        rows.append(
            {
                w("cohort.subset"): subset,
                "n": row["n"],
                "macro AUROC": row["macro_auroc"],
                "95 %": str(row["ci95"]),
                w("cohort.focal"): row["focal_auroc"],
                w("cohort.diffuse"): row["diffuse_auroc"],
                "logit stack": stack.get("macro_auroc"),
                "late concat": late.get("macro_auroc"),
                "ECE": calibration.get("ece"),
                w("cohort.sets_hold"): calibration.get("coverage90"),
            }
        )
    st.caption(
        f"{scores['bundle']['name']} {scores['bundle']['hash'][:12]} · n {scores['n']} · "
        + w("cohort.simulated" if scores["simulated"] else "cohort.real")
    )
    table = pd.DataFrame(rows)
    st.dataframe(table, hide_index=True, width="stretch")
    st.download_button(w("cohort.csv"), csv_of(table), file_name="subsets.csv", key="subset-csv")
    if (path / "curves.json").is_file():
        _curves(json.loads((path / "curves.json").read_text(encoding="utf-8")))


def _curves(curves: dict) -> None:
    left, right = st.columns(2, gap="large")
    roc = [
        {"x": x, "y": y, "finding": f"{finding_word(f)} {c['area']:.2f}"}
        for f, c in curves["roc"]["findings"].items()
        for x, y in c["points"]
    ]
    diagonal = (
        alt.Chart(pd.DataFrame({"x": [0, 1], "y": [0, 1]}))
        .mark_line(strokeDash=[4, 4], color="#777")
        .encode(x="x", y="y")
    )
    left.markdown(f"**ROC, {curves['roc']['subset']}**")
    left.altair_chart(
        diagonal
        + alt.Chart(pd.DataFrame(roc))
        .mark_line()
        .encode(
            x=alt.X("x:Q", title=w("cohort.false_alarms")),
            y=alt.Y("y:Q", title=w("cohort.sensitivity")),
            color=alt.Color("finding:N", title=None),
            order="x:Q",
        ),
        width="stretch",
    )
    points = [{"x": x, "y": y, "subset": s} for s, line in curves["reliability"].items() for x, y in line]
    right.markdown(f"**{w('findings.probability')}**")
    right.altair_chart(
        diagonal
        + alt.Chart(pd.DataFrame(points))
        .mark_line(point=True)
        .encode(
            x=alt.X("x:Q", title=w("cohort.foretold")),
            y=alt.Y("y:Q", title=w("cohort.came_true")),
            color=alt.Color("subset:N", title=None),
        ),
        width="stretch",
    )
