"""The three modalities side by side: series, window, slice or frame slider, evidence boxes. Drawn on the server."""

from __future__ import annotations

import streamlit as st

from medfuse.case import MODALITIES, Case
from medfuse.prediction import Place, Prediction
from medfuse.reporting.display import WINDOWS, count, display_slice, render, window_of

NAMES = {"US": "Ultrasound", "CT": "CT", "MR": "MRI"}


def show(case: Case, prediction: Prediction | None) -> None:
    evidence = st.toggle("Show evidence", value=True, key="evidence")
    for column, modality in zip(st.columns(3, gap="small"), MODALITIES, strict=True):
        with column:
            state = prediction.modalities.get(modality, "absent") if prediction else case.state(modality)
            why = prediction.limits.get(modality, "") if prediction else ""
            st.markdown(f'### {NAMES[modality]} <span class="badge {state}">{state}</span>', unsafe_allow_html=True)
            st.caption(f"coverage: {why.replace('_', ' ')}" if why else "&nbsp;")
            _modality(case, modality, prediction if evidence else None)


def _modality(case: Case, modality: str, prediction: Prediction | None) -> None:
    members = [i for i, image in enumerate(case.images) if image.modality == modality]
    if not members:
        st.caption("Not acquired." if case.state(modality) == "absent" else "Acquired, but unreadable.")
        return
    places = (
        [(x.place, f"{x.finding} {x.probability:.2f}") for x in prediction.lesions if x.modality == modality]
        if prediction
        else []
    )
    key = f"series-{case.case_id}-{modality}"
    if key not in st.session_state:  # open on the strongest evidence
        start = places[0][0].image if places else members[0]
        st.session_state[key] = start
        if places:
            st.session_state[f"at-{case.case_id}-{start}"] = display_slice(case.images[start], places[0][0]) + 1
    left, right = st.columns([1.6, 1])
    index = left.selectbox(
        "Series", members, key=key, format_func=lambda i: case.images[i].source.description or case.images[i].role
    )
    image = case.images[index]
    preset = right.selectbox("Window", list(WINDOWS[modality]), key=f"window-{case.case_id}-{modality}")
    n, at = count(image), f"at-{case.case_id}-{index}"
    what = "Frame" if modality == "US" else "Slice"
    st.session_state.setdefault(at, n // 2 + 1)  # counted from 1, as the caption and the report do
    shown = st.slider(what, 1, n, key=at) if n > 1 else 1
    # lesions are found on the modality's common grid: in one frame of reference every series shows them
    frame = image.frame_of_reference
    here = [
        (_on(case, p, index), label)
        for p, label in places
        if p.image == index or (frame and p.frame_of_reference == frame)
    ]
    simulated = "SIMULATED · " if image.source.simulated else ""
    picture = render(
        image,
        shown - 1,
        window=window_of(image, preset),
        places=here,
        caption=f"{simulated}{what.lower()} {shown} of {n}",
    )
    st.image(picture, width="stretch")
    warnings = "; ".join(image.warnings)
    if warnings:
        st.caption(warnings)


def _on(case: Case, place: Place, index: int) -> Place:
    """A place of another series of the same frame of reference, in this series' own voxels."""
    if place.image == index or place.box_mm is None:
        return place
    import numpy as np

    image = case.images[index]
    if image.affine is None:
        return place
    inverse = np.linalg.inv(image.affine)
    low, high = (np.asarray(v) for v in place.box_mm)
    corners = np.array([[x, y, z] for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])])
    at = corners @ inverse[:3, :3].T + inverse[:3, 3]
    box = [np.floor(at.min(0)).astype(int).tolist(), np.ceil(at.max(0)).astype(int).tolist()]
    return place.model_copy(update={"image": index, "box_voxels": box})
