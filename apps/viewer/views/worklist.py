"""The worklist: what is there, how complete, what was found, how far it is; adding studies; correcting roles and joins."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from apps.viewer import jobs, people, upload
from apps.viewer.words import branch, language, w
from medfuse.library import store
from medfuse.library.audit import record
from medfuse.library.worklist import Filters, Row, fits, worklist

MODALITIES = ("US", "CT", "MR")
STATE_MARKS = {"present": "●", "limited": "◐", "absent": "–", "failed": "✕"}
LIKELY = 0.5
DERIVED = ("focal_lesion", "solid_lesion")  # said by what they are derived from


def show() -> None:
    st.html(f'<div class="banner research">{w("research")}</div>')
    st.markdown(f"### {w('pages.worklist')}")
    every = worklist()
    upload.show(empty=not every)
    filters = _filters(sorted({f for row in every for f in row.findings}))
    rows = [r for r in every if fits(r, filters)]
    _running()
    if not every:
        st.info(w("worklist.empty"))
        return
    new = [r.case_id for r in rows if r.state == "new" and not r.conflict]
    left, middle, right = st.columns([3, 1.4, 1.4], vertical_alignment="center")
    left.caption(w("worklist.cases", n=len(rows)) + " · " + w("worklist.choose"))
    if new and people.may_look() and middle.button(w("worklist.predict_all", n=len(new)), key="predict-all"):
        jobs.predict(new, language())
        st.rerun()
    chosen = st.dataframe(
        _table(rows), key="cases", hide_index=True, width="stretch", height=min(640, 38 + 35 * max(1, len(rows))),
        on_select="rerun", selection_mode="single-row", column_config=_columns(),
    )  # fmt: skip
    at = chosen["selection"]["rows"]
    if at and at[0] < len(rows):
        _chosen(rows[at[0]], right)


def _filters(known: list[str]) -> Filters:
    any_ = w("worklist.any")
    states = branch("case_states")
    a, b, c, d, e, f, g = st.columns([1.5, 1.2, 1.2, 1, 1.4, 0.9, 1.6])
    words = a.text_input(w("worklist.search"), key="words")
    has = b.multiselect(w("worklist.has"), MODALITIES, key="has")
    lacks = c.multiselect(w("worklist.lacks"), MODALITIES, key="lacks")
    state = d.selectbox(w("worklist.state"), ["", "new", "drafted", "preliminary", "signed"], format_func=lambda s: states.get(s, any_), key="state")  # fmt: skip
    finding = e.selectbox(w("worklist.finding"), ["", *known], format_func=lambda x: x.replace("_", " ") or any_, key="finding")  # fmt: skip
    least = f.number_input(w("worklist.least"), 0.0, 1.0, LIKELY, 0.05, key="least", disabled=not finding)
    span = g.date_input(f"{w('worklist.since')} – {w('worklist.until')}", value=[], key="dates")
    dates = [d.strftime("%Y%m%d") for d in span] if isinstance(span, (tuple, list)) else []
    return Filters(words, tuple(has), tuple(lacks), state, *([*dates, "", ""])[:2], finding, least)


def _table(rows: list[Row]) -> pd.DataFrame:
    states, inside, outside = branch("case_states"), w("worklist.inside"), w("worklist.outside")

    def of(row: Row) -> dict:
        job = jobs.jobs.get(row.case_id)
        state = job.state if job and job.state in ("queued", "waiting", "failed") else "conflict" if row.conflict else row.state  # fmt: skip
        likely = sorted(((p, f) for f, p in row.findings.items() if p >= LIKELY and f not in DERIVED), reverse=True)
        domain = "" if row.in_domain is None else inside if row.in_domain else outside
        return {
            "patient": row.patient_id or row.case_id, "date": row.study_date,
            **{m: STATE_MARKS[row.states.get(m, "absent")] for m in MODALITIES},
            "found": ", ".join(f"{f.replace('_', ' ')} {p:.2f}" for p, f in likely[:3]) + (" ?" if row.cannot_tell else ""),
            "domain": domain + (" · SIM" if row.simulated else ""), "state": states[state],
        }  # fmt: skip

    return pd.DataFrame([of(r) for r in rows], columns=["patient", "date", *MODALITIES, "found", "domain", "state"])


def _columns() -> dict:
    marks = " ".join(f"{mark} {branch('states')[s]}" for s, mark in STATE_MARKS.items())
    column = st.column_config.TextColumn
    return {
        "patient": column(w("worklist.patient"), width="medium"), "date": column(w("worklist.date"), width="small"),
        **{m: column(m, width=45, help=marks) for m in MODALITIES},
        "found": column(w("worklist.found"), width="large"), "domain": column(w("worklist.domain"), width=120),
        "state": column(w("worklist.state"), width="small"),
    }  # fmt: skip


def _chosen(row: Row, place) -> None:
    """What can be done with the chosen case."""
    open_, predict = place.columns(2)
    if open_.button(w("worklist.open"), key="open", type="primary", disabled=bool(row.conflict)):
        st.session_state["case"] = row.case_id
        st.session_state.pop("blind", None)  # to read it, not to rate it
        st.switch_page(st.session_state["pages"]["read"])
    label = w("worklist.predict") if row.state == "new" else w("worklist.predict_again")
    if predict.button(label, key="predict", disabled=bool(row.conflict)):
        jobs.predict([row.case_id], language())
        st.rerun()
    if row.conflict:
        st.warning(row.conflict)
        if people.may_edit() and st.button(w("worklist.confirm"), key="confirm"):
            store.confirm(row.case_id)
            record("join confirmed", who=people.account().name, case_id=row.case_id)  # type: ignore[union-attr]
            st.rerun()
    with st.expander(w("worklist.series"), expanded=bool(row.unsure_roles)):
        _series(row.case_id)


def _series(case_id: str) -> None:
    """Roles as the headers gave them, to be corrected by a person; words that DICOM does not carry."""
    known = store.series_of(case_id)
    table = pd.DataFrame(
        [{"modality": s["modality"], "description": s["description"], "date": s["study_date"], "role": s["role"], "confidence": s["confidence"], "geometry": s["geometry"]} for s in known]
    )  # fmt: skip
    editable = people.may_edit()
    column = st.column_config
    edited = st.data_editor(
        table, key=f"roles-{case_id}", hide_index=True, width="stretch", disabled=[c for c in table if c != "role"] if editable else True,
        column_config={
            "role": column.SelectboxColumn(w("worklist.role"), options=sorted({*_roles(), *table["role"]}), required=True),
            "confidence": column.ProgressColumn(w("worklist.confidence"), min_value=0, max_value=1, format="%.2f"),
            "description": w("worklist.description"), "geometry": w("worklist.geometry"), "date": w("worklist.date"),
        },
    )  # fmt: skip
    changed = [(s, new) for s, new in zip(known, edited["role"], strict=True) if s["role"] != new]
    if changed and editable and st.button(w("worklist.save_roles"), key="save-roles"):
        for series, role in changed:
            store.set_role(series["uid"], role)
            record("role set", who=people.account().name, case_id=case_id, series=series["uid"], role=role)  # type: ignore[union-attr]
        st.success(w("worklist.roles_saved"))
    if not editable:
        return
    said = store.words_of(case_id)
    left, right, end = st.columns([2, 1, 0.6], vertical_alignment="bottom")
    indication = left.text_input(w("worklist.indication"), said["indication"], key=f"indication-{case_id}")
    risk = right.text_input(w("worklist.risk"), said["risk"], key=f"risk-{case_id}")
    if end.button(w("worklist.save_words"), key="save-words"):
        store.set_words(case_id, indication=indication, risk=risk)
        record("words set", who=people.account().name, case_id=case_id)  # type: ignore[union-attr]
        st.toast(w("worklist.roles_saved"))


@st.cache_data(show_spinner=False)
def _roles() -> list[str]:
    from medfuse.task import load_task

    task = load_task("upper-abdomen")
    return ["unknown", *sorted({r for m in task.modalities.values() for r in m.roles})]


def _running() -> None:
    """Predictions under way, looked at every second while there are any."""
    going = any(j.state in ("queued", "waiting") for j in jobs.jobs.values())
    failed = [j for j in jobs.jobs.values() if j.state == "failed"]
    for job in failed:
        st.error(job.why)
    if not going:
        return

    @st.fragment(run_every=1.0)
    def watch() -> None:
        waiting = [j for j in jobs.jobs.values() if j.state in ("queued", "waiting")]
        if not waiting:
            st.rerun()
        done = sum(j.state == "done" for j in jobs.jobs.values())
        now = next((j for j in waiting if j.state == "waiting"), waiting[0])
        text = w("worklist.running", case=now.case_id[:24], seconds=now.seconds) + f" · {done}/{done + len(waiting)}"
        st.progress(done / (done + len(waiting)), text=text)

    watch()
