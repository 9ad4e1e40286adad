"""Words find cases, a case finds its like, one modality finds another: in the shared space of the bundle."""

from __future__ import annotations

import base64
from io import BytesIO

import streamlit as st

from apps.viewer import jobs
from apps.viewer.words import branch, w
from medfuse.errors import UserError
from medfuse.library import store
from medfuse.library.worklist import worklist

SENSES = ("joint", "US", "CT", "MR")


def show() -> None:
    st.markdown(f"### {w('pages.search')}")
    names = {"joint": w("search.joint"), **branch("modalities")}
    like_key = st.session_state.pop("search-like", None)
    way = st.segmented_control("", [w("search.words"), w("search.like")], default=w("search.like") if like_key else w("search.words"), key="search-way", label_visibility="collapsed", required=True)  # fmt: skip
    every = worklist()
    known = sorted({f for row in every for f in row.findings})
    a, b, c, d, e = st.columns([3, 1.2, 1.2, 1.2, 0.8], vertical_alignment="bottom")
    words = like = None
    query = ""
    if way == w("search.words"):
        words = a.text_input(w("search.query"), key="search-words")
    else:
        cases = [r.case_id for r in every if r.state != "new"]
        start = cases.index(like_key) if like_key in cases else 0
        like = a.selectbox(w("search.like"), cases, index=start if cases else None, key="search-case")
        query = b.selectbox(f"{w('search.compare_from')}", SENSES, format_func=names.__getitem__, key="search-from")
    sense = c.selectbox(
        w("search.by"), ["", *SENSES], format_func=lambda s: names.get(s, w("worklist.any")), key="search-sense"
    )
    finding = d.selectbox(w("worklist.finding"), ["", *known], format_func=lambda f: f.replace("_", " ") or w("worklist.any"), key="search-finding")  # fmt: skip
    if e.button(w("search.go"), type="primary", key="search-go") and (words or like):
        try:
            with st.spinner(w("ask.thinking")):
                found = jobs.call(
                    jobs.search, words or None, like, finding, sense, "" if query == "joint" else query, 12
                )
            st.session_state["search-found"] = found
        except UserError as problem:
            st.error(str(problem))
    found = st.session_state.get("search-found")
    if found:
        _results(found, names)


def _results(found: dict, names: dict[str, str]) -> None:
    if found.get("tags"):
        tags = [t for t in found["tags"][:6] if t["probability"] >= 0.05]
        st.caption(
            f"{w('search.tags')}: " + " · ".join(f"{t['text'].rstrip('.')} {t['probability']:.2f}" for t in tags)
        )
    if not found["results"]:
        st.info(w("search.nothing"))
    for start in range(0, len(found["results"]), 4):
        for column, row in zip(st.columns(4), found["results"][start : start + 4], strict=False):
            with column.container(border=True):
                _card(row, names)


def _card(row: dict, names: dict[str, str]) -> None:
    picture = thumbnail(row["case_id"], row["modality"])
    if picture:
        st.html(f'<img src="{picture}" style="width:100%;border-radius:4px;background:#000" alt="">')
    st.caption(
        f"{row['case_id'][:28]} · {w('search.score')} {row['score']:.3f} · {w('search.by_sense', sense=names[row['modality']])}"
    )
    left, right = st.columns(2)
    if left.button(w("worklist.open"), key=f"open-{row['case_id']}"):
        st.session_state["case"] = row["case_id"]
        st.switch_page(st.session_state["pages"]["read"])
    if right.button("≈", key=f"like-{row['case_id']}", help=w("search.like")):
        st.session_state["search-like"] = row["case_id"]
        st.session_state.pop("search-way", None)
        st.session_state.pop("search-case", None)
        st.rerun()


@st.cache_data(max_entries=200, show_spinner=False)
def thumbnail(case_id: str, modality: str) -> str:
    """A middle slice (or where the likeliest lesion lies) as a data URL: it goes with the page, under no address of its own."""
    from medfuse.reporting.display import count, display_slice, render

    try:
        case = store.load_case(case_id)
    except UserError:
        return ""
    result = store.load_result(case_id)
    wanted = [n for n, i in enumerate(case.images) if modality in ("joint", i.modality)]
    if not wanted:
        return ""
    lesions = [x for x in (result[0].lesions if result else []) if x.place.image in wanted]
    n = lesions[0].place.image if lesions else wanted[0]
    image = case.images[n]
    at = display_slice(image, lesions[0].place) if lesions else count(image) // 2
    buffer = BytesIO()
    render(image, at, places=[(lesions[0].place, "")] if lesions else [], height=220).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
