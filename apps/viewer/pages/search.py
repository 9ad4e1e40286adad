"""Words find cases, a case finds its like, one modality finds another: in the shared space of the bundle."""

from __future__ import annotations

import base64
from dataclasses import replace
from io import BytesIO

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from apps.viewer import jobs
from apps.viewer.choices import choose
from apps.viewer.desk import library
from apps.viewer.words import finding_word, modality_words, names, plain, w
from medfuse.errors import UserError
from medfuse.library import results, store
from medfuse.library.worklist import Row, worklist
from medfuse.workflows.search_request import Hit, SearchRequest, SearchResult

TOP = 12


def show() -> None:
    """The page: what to look for, and what was found last."""
    st.markdown(f"### {w('pages.search')}")
    every = worklist(library())
    if "search-like" in st.session_state:  # another page, or a card, asked for cases like this one
        st.session_state["search-way"] = "like"
    st.segmented_control(
        w("pages.search"),
        ["words", "like"],
        format_func=names("search").__getitem__,
        default="words" if "search-way" not in st.session_state else None,
        key="search-way",
        label_visibility="collapsed",
        required=True,
    )
    columns = st.columns([3, 1.2, 1.2, 1.2, 0.8], vertical_alignment="bottom")
    wanted = _narrowed(_query(every, *columns[:2]), every, *columns[2:4])
    if columns[4].button(w("search.go"), type="primary", key="search-go") and (wanted.words or wanted.like):
        try:
            with st.spinner(w("ask.thinking")):
                st.session_state["search-found"] = wanted, jobs.call(jobs.search, wanted)
        except UserError as problem:
            st.error(plain(problem))
    found: tuple[SearchRequest, SearchResult] | None = st.session_state.get("search-found")
    if found and found[0] == wanted:  # results stand under their own query alone
        _results(found[1])


def _query(every: list[Row], left: DeltaGenerator, right: DeltaGenerator) -> SearchRequest:
    """What to look for: words, or cases like one, by one of its senses."""
    like_key = st.session_state.pop("search-like", None)
    if st.session_state.get("search-way") != "like":
        return SearchRequest(words=left.text_input(w("search.query"), key="search-words") or None, top=TOP)
    cases = [r.case_id for r in every if r.state != "new"]
    start = cases.index(like_key) if like_key in cases else 0
    like = left.selectbox(w("search.like"), cases, index=start if cases else None, key="search-case")
    sense = choose(right, w("search.compare_from"), _senses(), "search-from")
    return SearchRequest(like=like, query_modality="" if sense == "joint" else sense, top=TOP)


def _narrowed(
    wanted: SearchRequest, every: list[Row], left: DeltaGenerator, right: DeltaGenerator
) -> SearchRequest:
    """The same search by one sense alone, or of cases with one finding."""
    any_ = w("worklist.any")
    by = choose(left, w("search.by"), {"": any_, **_senses()}, "search-sense")
    known = sorted({f for row in every for f in row.findings})
    findings = {"": any_, **{f: finding_word(f) for f in known}}
    finding = choose(right, w("worklist.finding"), findings, "search-finding")
    return replace(wanted, modality=by, finding=finding)


def _senses() -> dict[str, str]:
    return {"joint": w("search.joint"), **modality_words()}


def _results(found: SearchResult) -> None:
    if found.tags:
        said = [f"{t.text.rstrip('.')} {t.probability:.2f}" for t in found.tags[:6] if t.probability >= 0.05]
        st.caption(f"{w('search.tags')}: {' · '.join(said)}")
    if not found.results:
        st.info(w("search.nothing"))
    for start in range(0, len(found.results), 4):
        for column, row in zip(st.columns(4), found.results[start : start + 4], strict=False):
            with column.container(border=True):
                _card(row)


def _card(row: Hit) -> None:
    picture = thumbnail(row.case_id, row.modality)
    if picture:
        st.html(f'<img src="{picture}" style="width:100%;border-radius:4px;background:#000" alt="">')
    st.caption(
        f"{row.case_id[:28]} · {w('search.score')} {row.score:.3f} · "
        f"{w('search.by_sense', sense=_senses()[row.modality])}"
    )
    left, right = st.columns(2)
    if left.button(w("worklist.open"), key=f"open-{row.case_id}"):
        st.session_state["case"] = row.case_id
        st.switch_page(st.session_state["pages"]["read"])
    if right.button("≈", key=f"like-{row.case_id}", help=w("search.like")):
        st.session_state["search-like"] = row.case_id
        st.session_state.pop("search-case", None)
        st.rerun()


@st.cache_data(max_entries=200, show_spinner=False)
def thumbnail(case_id: str, modality: str) -> str:
    """A middle slice (or where the likeliest lesion lies) as a data URL: it goes with the page, under no
    address of its own."""
    from medfuse.display.draw import render
    from medfuse.display.places import display_slice
    from medfuse.display.views import count

    try:
        case = store.load_case(library(), case_id)
    except UserError:
        return ""
    result = results.load_result(library(), case_id)
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
