"""The worklist: what is there, how complete, what was found, how far it is; adding studies; correcting roles
and joins."""

from __future__ import annotations

import hashlib
from datetime import date

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from apps.viewer import components, jobs, people, remembered, rows, upload
from apps.viewer.choices import choose
from apps.viewer.desk import library
from apps.viewer.presence import presence
from apps.viewer.words import dated, finding_word, language, names, plain, w
from medfuse.display.contract import Message
from medfuse.library import store
from medfuse.library.accounts import Account, list_accounts
from medfuse.library.desks import Desk
from medfuse.library.queue import assign
from medfuse.library.worklist import ORDERS, Filters, Row, fits, ordered
from medfuse.modalities import MODALITIES

STATE_MARKS = {"present": "●", "limited": "◐", "absent": "–", "failed": "✕"}
LIKELY = 0.5
MOST = 2000  # rows of the table: who looks for a case narrows the filters
WHOSE = ("name", "patient", "age")
DERIVED = ("focal_lesion", "solid_lesion")  # said by what they are derived from


def show() -> None:
    """The page: studies to add, the cases that fit the filters, and the chosen one."""
    st.html(f'<div class="banner research">{w("research")}</div>')
    st.markdown(f"### {w('pages.worklist')}")
    every = rows.rows()
    upload.show(empty=not every)
    filters = _filters(sorted({f for row in every for f in row.findings}))
    found = ordered([r for r in every if fits(r, filters)], remembered.desk().order)
    _running()
    if not every:
        st.info(w("worklist.empty"))
        return
    left, middle, right = st.columns([3, 1.4, 1.4], vertical_alignment="center")
    shown = found[:MOST]
    cut = f" · {w('worklist.first', n=MOST)}" if len(found) > MOST else ""
    left.caption(w("worklist.cases", n=len(found)) + cut + " · " + w("worklist.choose"))
    _predict_all(found, middle)
    chosen = st.dataframe(
        _table(shown),
        # the browser names a chosen row by its number: another list is another table, with nothing chosen
        key=f"cases-{_name_of(shown)}",
        hide_index=True,
        width="stretch",
        height=min(640, 38 + 35 * max(1, len(shown))),
        on_select="rerun",
        selection_mode=["single-row", "single-cell"],
        column_config=_columns(),
    )
    components.opener(Message(), key="opener")
    at = [*chosen["selection"]["rows"], *(cell[0] for cell in chosen["selection"].get("cells", []))]
    if at and at[0] < len(shown):
        _chosen(shown[at[0]], right)


def _predict_all(found: list[Row], place: DeltaGenerator) -> None:
    """A button that predicts every new case that was found, where there are any."""
    new = [r.case_id for r in found if r.state == "new" and not r.conflict]
    if new and people.may_add() and place.button(w("worklist.predict_all", n=len(new)), key="predict-all"):
        jobs.predict(new, language(), people.acts())
        st.rerun()


def _name_of(rows: list[Row]) -> str:
    """The same for the same cases in the same order."""
    return hashlib.sha256("\n".join(r.case_id for r in rows).encode()).hexdigest()[:16]


def _filters(known: list[str]) -> Filters:
    any_ = w("worklist.any")
    states = names("case_states")
    _lay_out(remembered.desk())
    a, b, c, d, e, f, g = st.columns([1.5, 1.2, 1.2, 1, 1.4, 0.9, 1.6])
    words = a.text_input(w("worklist.search"), key="words")
    has = b.multiselect(w("worklist.has"), list(MODALITIES), key="has", placeholder=any_)
    lacks = c.multiselect(w("worklist.lacks"), list(MODALITIES), key="lacks", placeholder=any_)
    stages = {"": any_, **{s: states[s] for s in ("new", "drafted", "preliminary", "signed")}}
    state = choose(d, w("worklist.state"), stages, "state")
    finding = choose(e, w("worklist.finding"), {"": any_, **{f: finding_word(f) for f in known}}, "finding")
    least = f.number_input(
        w("worklist.least"), min_value=0.0, max_value=1.0, step=0.05, key="least", disabled=not finding
    )
    span = g.date_input(
        f"{w('worklist.since')} – {w('worklist.until')}",
        value=st.session_state["first-dates"],
        key="dates",
        format="YYYY-MM-DD",
    )
    dates = [d.isoformat() for d in span] if isinstance(span, (tuple, list)) else []
    since, until = [*dates, "", ""][:2]
    remembered.keep(
        words=words,
        has=tuple(has),
        lacks=tuple(lacks),
        state=state,
        finding=finding,
        least=least,
        since=since,
        until=until,
    )
    left, right, _ = st.columns([1.2, 1.2, 4], vertical_alignment="bottom")
    order = choose(left, w("worklist.order"), {o: names("worklist.orders")[o] for o in ORDERS}, "order")
    who = people.account()
    mine = right.checkbox(w("worklist.mine"), key="mine") if who else False
    remembered.keep(order=order, mine=mine)
    reader = who.name if who and mine else ""
    return Filters(words, tuple(has), tuple(lacks), state, since, until, finding, least, reader)


def _lay_out(left: Desk) -> None:
    """Put the filters back as they were left; what this session has set already stays."""
    kept = {
        "words": left.words,
        "has": [m for m in left.has if m in MODALITIES],
        "lacks": [m for m in left.lacks if m in MODALITIES],
        "chosen-state": left.state,
        "chosen-finding": left.finding,
        "least": left.least,
        "chosen-order": left.order,
        "mine": left.mine,
    }
    fresh = st.session_state.get("laid-out-for") != st.session_state.get("desk-of")
    st.session_state["laid-out-for"] = st.session_state.get("desk-of")
    for key, value in kept.items():
        if fresh or key not in st.session_state:
            st.session_state[key] = value
    if fresh:  # lists take what was chosen only when they are drawn for the first time
        for key in [
            k for k in st.session_state if str(k).startswith(("state-", "finding-", "order-", "dates"))
        ]:
            del st.session_state[key]
    if "dates" not in st.session_state:
        st.session_state["first-dates"] = [date.fromisoformat(d) for d in (left.since, left.until) if d]


def _table(rows: list[Row]) -> pd.DataFrame:
    told = ["date", "study", *MODALITIES, "state", "reader", "found", "domain", "images", "accession"]
    columns = [*WHOSE, *told]  # what a narrow window leaves out comes last
    return pd.DataFrame([_line(r) for r in rows], columns=columns)


def _line(row: Row) -> dict[str, str]:
    """One case as the table shows it."""
    domain = {None: "", True: w("worklist.inside"), False: w("worklist.outside")}[row.in_domain]
    return {
        "name": ("⚑ " if row.critical else "") + row.name,
        "patient": row.patient_id or row.case_id,
        "age": " ".join(x for x in (row.sex, "" if row.age is None else str(row.age)) if x),
        "accession": row.accession,
        "date": dated(row.study_date),
        "study": " · ".join(x for x in (row.body_part, row.description) if x),
        "images": f"{row.series} / {row.files}" if row.files else str(row.series),
        **{m: STATE_MARKS[row.states.get(m, "absent")] for m in MODALITIES},
        "found": _likely(row),
        "domain": domain + (" · SIM" if row.simulated else ""),
        "state": names("case_states")[_state(row)],
        "reader": _reader(row),
    }


def _likely(row: Row) -> str:
    """The three likeliest findings, and a question mark where the images leave one open."""
    likely = [(p, f) for f, p in row.findings.items() if p >= LIKELY and f not in DERIVED]
    said = [f"{finding_word(f)} {p:.2f}" for p, f in sorted(likely, reverse=True)[:3]]
    return ", ".join(said) + (" ?" if row.cannot_tell else "")


def _reader(row: Row) -> str:
    """To whom a case is assigned, and who has it open now."""
    here = presence.at(row.case_id)
    return " ".join(x for x in (row.reader, f"◉ {', '.join(here)}" if here else "") if x)


def _state(row: Row) -> str:
    """How far a case is: what the model is doing with it comes first."""
    job = jobs.jobs.get(row.case_id)
    if job and job.state in ("queued", "waiting", "failed"):
        return job.state
    return "conflict" if row.conflict else row.state


def _columns() -> dict:
    marks = " ".join(f"{mark} {names('states')[s]}" for s, mark in STATE_MARKS.items())
    column = st.column_config.TextColumn
    return {
        "name": column(w("worklist.name"), width=170),
        "patient": column(w("worklist.patient"), width=105),
        "age": column(w("worklist.age"), width=84),
        "accession": column(w("worklist.accession"), width=130),
        "study": column(w("worklist.study"), width=185),
        "images": column(w("worklist.images"), width=90, help=w("worklist.images_help")),
        "reader": column(w("worklist.reader"), width="small"),
        "date": column(w("worklist.date"), width=85),
        **{m: column(m, width=40, help=marks) for m in MODALITIES},
        "found": column(w("worklist.found"), width="medium"),
        "domain": column(w("worklist.domain"), width=120),
        "state": column(w("worklist.state"), width="small"),
    }


def _chosen(row: Row, place: DeltaGenerator) -> None:
    """What can be done with the chosen case."""
    open_, predict = place.columns(2)
    if open_.button(w("worklist.open"), key="open", type="primary", disabled=bool(row.conflict)):
        st.session_state["case"] = row.case_id
        st.session_state.pop("blind", None)  # to read it, not to rate it
        st.switch_page(st.session_state["pages"]["read"])
    label = w("worklist.predict") if row.state == "new" else w("worklist.predict_again")
    if predict.button(label, key="predict", disabled=bool(row.conflict) or not people.may_add()):
        jobs.predict([row.case_id], language(), people.acts())
        st.rerun()
    _assignment(row)
    if row.conflict:
        st.warning(plain(row.conflict))
        if people.may_edit() and st.button(w("worklist.confirm"), key="confirm"):
            store.confirm(library(), row.case_id, by=people.account())
            st.rerun()
    with st.expander(w("worklist.series"), expanded=bool(row.unsure_roles)):
        _series(row.case_id)


def _assignment(row: Row) -> None:
    """Who has it open, and to whom it is given."""
    who = people.account()
    here = [name for name in presence.at(row.case_id) if who is None or name != who.name]
    if here:
        st.warning(w("worklist.open_at", name=", ".join(here)))
    if who is None or not who.may("author"):
        return
    known = ["", *(a.name for a in list_accounts(library()) if a.may("author"))]
    left, right = st.columns([1, 4], vertical_alignment="bottom")
    at = known.index(row.reader) if row.reader in known else 0
    key = f"assign-{row.case_id}-{row.reader}"
    nobody = w("worklist.nobody")
    to = left.selectbox(
        w("worklist.reader"), known, index=at, key=key, format_func=lambda name: name or nobody
    )
    if to != row.reader and right.button(w("worklist.assign"), key="assign"):
        assign(library(), row.case_id, to, who)
        st.rerun()


def _series(case_id: str) -> None:
    """Roles as the headers gave them, to be corrected by a person; words that DICOM does not carry."""
    who = people.account()
    editable = people.may_edit()
    known = store.series_of(library(), case_id)
    roles = _role_table(case_id, known, editable=editable)
    changed = [(s.uid, new) for s, new in zip(known, roles, strict=True) if s.role != new]
    if not editable or who is None:
        return
    if changed and st.button(w("worklist.save_roles"), key="save-roles"):
        for uid, role in changed:
            store.set_role(library(), uid, role, by=who)
        st.success(w("worklist.roles_saved"))
    _words(case_id, who)


def _role_table(case_id: str, known: list[store.KnownSeries], *, editable: bool) -> list[str]:
    """The series of a case in a table; the role of each as it now stands there."""
    shown = {"date": "study_date"}
    columns = ("modality", "description", "date", "role", "confidence", "geometry")
    table = pd.DataFrame([{c: getattr(s, shown.get(c, c)) for c in columns} for s in known], columns=columns)
    column = st.column_config
    edited = st.data_editor(
        table,
        key=f"roles-{case_id}",
        hide_index=True,
        width="stretch",
        disabled=[c for c in columns if c != "role"] if editable else True,
        column_config={
            "role": column.SelectboxColumn(
                w("worklist.role"), options=sorted({*_roles(), *table["role"]}), required=True
            ),
            "confidence": column.ProgressColumn(
                w("worklist.confidence"), min_value=0, max_value=1, format="%.2f"
            ),
            "modality": w("worklist.modality"),
            "description": w("worklist.description"),
            "geometry": w("worklist.geometry"),
            "date": w("worklist.date"),
        },
    )
    return list(edited["role"])


def _words(case_id: str, who: Account) -> None:
    """Why the patient was imaged, and the documented risk, by hand."""
    said = store.words_of(library(), case_id)
    left, right, end = st.columns([2, 1, 0.6], vertical_alignment="bottom")
    indication = left.text_input(w("worklist.indication"), said["indication"], key=f"indication-{case_id}")
    risk = right.text_input(w("worklist.risk"), said["risk"], key=f"risk-{case_id}")
    if end.button(w("worklist.save_words"), key="save-words"):
        store.set_words(library(), case_id, indication=indication, risk=risk, by=who)
        st.toast(w("worklist.roles_saved"))


@st.cache_data(show_spinner=False)
def _roles() -> list[str]:
    from medfuse.task import load_task

    task = load_task("upper-abdomen")
    return ["unknown", *sorted({r for m in task.modalities.values() for r in m.roles})]


def _mine() -> list[jobs.Job]:
    """Predictions of the cases that are shown here."""
    return [j for j in list(jobs.jobs.values()) if store.has_case(library(), j.case_id)]


def _running() -> None:
    """Predictions under way, looked at every second while there are any."""
    going = any(j.state in ("queued", "waiting") for j in _mine())
    failed = [j for j in _mine() if j.state == "failed"]
    for job in failed:
        st.error(plain(job.why))
    if not going:
        return

    @st.fragment(run_every=1.0)
    def watch() -> None:
        waiting = [j for j in _mine() if j.state in ("queued", "waiting")]
        if not waiting:
            st.rerun()
        done = sum(j.state == "done" for j in _mine())
        now = next((j for j in waiting if j.state == "waiting"), waiting[0])
        text = (
            w("worklist.running", case=now.case_id[:24], seconds=now.seconds)
            + f" · {done}/{done + len(waiting)}"
        )
        st.progress(done / (done + len(waiting)), text=text)

    watch()
