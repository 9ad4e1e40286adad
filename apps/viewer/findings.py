"""Findings with calibrated probabilities, and what each modality contributed to them (exact Shapley values)."""

from __future__ import annotations

import altair as alt
import pandas as pd
import streamlit as st

from medfuse.prediction import Prediction

COLOURS = {"US": "#e0a458", "CT": "#4fb3bf", "MR": "#b58bd9"}


def show(prediction: Prediction) -> None:
    st.markdown("### Findings")
    if not prediction.findings:
        st.caption("No score: every image is outside the validated domain.")
        return
    rows = [f for f in prediction.findings if f.probability is not None]
    rows.sort(key=lambda f: (not f.assessed, -(f.probability or 0)))
    if any(not f.calibrated for f in rows):
        st.warning("Uncalibrated scores, outside the validated domain.")
    order = [f.name for f in rows]
    table = pd.DataFrame({
        "finding": order,
        "probability": [f.probability for f in rows],
        "shown by": ["+".join(f.assessed_by) if f.assessed else "not assessed" for f in rows],
        "said": [f"{f.probability:.2f}{' ?' if f.cannot_tell else ''}" for f in rows],
    })  # fmt: skip
    parts = pd.DataFrame(
        [{"finding": f.name, "modality": m, "contribution": v} for f in rows for m, v in f.contribution.items()]
    )
    y = alt.Y("finding:N", sort=order, title=None, axis=alt.Axis(labelLimit=210, labelFontSize=11))
    base = alt.Chart(table).encode(y=y)
    assessed = alt.condition(alt.datum["shown by"] == "not assessed", alt.value(0.3), alt.value(1.0))
    bars = base.mark_bar(color="#6fbf73", height=13).encode(
        x=alt.X("probability:Q", scale=alt.Scale(domain=[0, 1]), title="probability"),
        opacity=assessed,
        tooltip=list(table.columns),
    )
    numbers = base.mark_text(align="left", dx=4, color="#dfe6ea").encode(
        x="probability:Q", text="said:N", opacity=assessed
    )
    contribution = (
        alt.Chart(parts).mark_bar(height=13)
        .encode(
            x=alt.X("contribution:Q", title="contribution of each modality"),
            y=alt.Y("finding:N", sort=order, title=None, axis=alt.Axis(labels=False, ticks=False)),
            color=alt.Color("modality:N", scale=alt.Scale(domain=list(COLOURS), range=list(COLOURS.values())), legend=alt.Legend(orient="top", title=None)),
            tooltip=["finding", "modality", alt.Tooltip("contribution:Q", format="+.3f")],
        )
    )  # fmt: skip
    chart = alt.hconcat(
        (bars + numbers).properties(width=210, height=22 * len(rows)),
        contribution.properties(width=150, height=22 * len(rows)),
    )
    st.altair_chart(chart.resolve_scale(y="shared").configure_view(stroke=None), width="content")
    st.caption(
        "Faded: not assessed with what was acquired. ?: the images cannot settle it at 90 %. Contributions add up from the score without any image to the score shown."
    )
    _lesions(prediction)


def _lesions(prediction: Prediction) -> None:
    if not prediction.lesions:
        return
    st.markdown("### Lesions")
    rows = [
        {
            "lesion": x.id, "appearance": x.finding.replace("_", " "), "probability": x.probability,
            "size (mm)": "not measured" if x.long_axis_mm is None else f"{x.long_axis_mm:.0f} × {x.short_axis_mm:.0f}",
            "where": f"frame {x.place.frame + 1}" if x.place.frame is not None else f"slice {(x.place.slice or 0) + 1}",
        }
        for x in prediction.lesions
    ]  # fmt: skip
    st.dataframe(pd.DataFrame(rows), hide_index=True, width="stretch")
