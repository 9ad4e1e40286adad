"""The report panel: work on it sentence by sentence, see its versions, sign it, send it out."""

from __future__ import annotations

import html

import streamlit as st

from apps.viewer import components, jobs, people
from apps.viewer.evidence import Places
from apps.viewer.words import LANGUAGES, branch, w
from medfuse.errors import UserError
from medfuse.library import reports, workbench
from medfuse.library.accounts import Account
from medfuse.library.reports import Conflict, Revision
from medfuse.prediction import Prediction
from medfuse.report import Report, Sentence

FORMATS = ("pdf", "text", "sr", "fhir", "seg", "json", "encapsulated")


@st.fragment
def show(case_id: str, prediction: Prediction, places: Places) -> None:
    now = reports.current(case_id)
    if now is None:
        return
    left, right = st.columns([2, 1.4], vertical_alignment="center")
    label = w("report.state", state=branch("report.report_states")[now.state], version=now.version)
    left.markdown(f"### {w('report.panel')} <span class='badge limited'>{label}</span>", unsafe_allow_html=True)
    wanted = right.segmented_control(
        w("report.draft_language"), list(LANGUAGES), format_func=LANGUAGES.__getitem__, default=now.report.language,
        key=f"report-language-{case_id}", required=True, label_visibility="collapsed",
    )  # fmt: skip
    if wanted != now.report.language:
        _other_language(case_id, now, wanted, places)
        return
    signed = now.state in ("final", "amended")
    _conflict(case_id)
    changed = _editor(case_id, now, places, editable=people.may_edit() and not signed)
    if changed:
        now = reports.current(case_id) or now
    if not people.may_edit() and not signed:
        st.caption(w("report.look_only"))
    _actions(case_id, now, signed)
    _versions(case_id)
    _exports(case_id, now)
    if changed:  # only now: a button pressed in the same moment has had its turn, on top of the change
        st.rerun(scope="fragment")


def _data(report: Report, places: Places) -> list[dict]:
    def chips(x: Sentence) -> list[dict]:
        seen: dict[str, dict] = {}
        for place in x.evidence:
            at, label = places.of(place), places.where(place)
            if at is not None:
                title = f"{x.finding.replace('_', ' ')} {x.probability:.2f}" if x.probability is not None else x.finding
                seen.setdefault(label, {"label": label, "title": title, "place": at})
        return list(seen.values())[:4]

    return [
        {"id": s.id, "title": s.title, "sentences": [{**x.model_dump(mode="json"), "chips": chips(x)} for x in s.sentences]}
        for s in report.sections
    ]  # fmt: skip


def _editor(case_id: str, now: Revision, places: Places, *, editable: bool) -> bool:
    """Show the sentences; whether the reader changed them, which is saved then."""
    who = people.account()
    pending = workbench.typed(case_id, who) if editable and who else None
    stale = pending is not None and pending.get("revision") != now.revision and now.author != (who.name if who else "")
    restored = f"restored-{case_id}"
    if pending and not stale and restored not in st.session_state:
        st.session_state[restored] = True
        st.toast(w("report.restored"))
    data = {"revision": now.revision, "sections": _data(now.report, places), "may_edit": editable,
            "answered": st.session_state.get("changed"),
        "pending": None if stale else pending, "words": branch("report")}  # fmt: skip
    key = f"report-{case_id}-{now.version}-{'edit' if editable else 'look'}"
    done = components.report(data, key=key, on_changed_change=lambda: None, on_typing_change=lambda: None)
    if not editable or who is None:
        return False
    if done.typing and not done.changed:
        _keep(case_id, done.typing, who)
    if not done.changed or st.session_state.get("changed") == done.changed["serial"]:
        return False
    st.session_state["changed"] = done.changed["serial"]
    return _try(_save, case_id, done.changed["revision"], _merged(now.report, done.changed["sections"]), who)


def _save(case_id: str, revision: int, mine: Report, who: Account) -> None:
    reports.save(case_id, revision, mine, who)
    workbench.forget_typing(case_id, who)


def _keep(case_id: str, typing: dict, who: Account) -> None:
    """Words in the middle of an edit, or (no text) that it was given up."""
    if typing["text"] is None:
        workbench.forget_typing(case_id, who)
        return
    workbench.keep_typing(case_id, typing, who)
    st.session_state[f"restored-{case_id}"] = True  # this session knows it already


def _merged(report: Report, sections: list[dict]) -> Report:
    """The report with the sections as the reader left them; what a sentence rests on stays with it."""
    out = report.model_copy(deep=True)
    changed = {s["id"]: s["sentences"] for s in sections}
    for section in out.sections:
        if section.id in changed:
            fields = set(Sentence.model_fields)
            section.sentences = [Sentence(**{k: v for k, v in x.items() if k in fields}) for x in changed[section.id]]
    return out


def _conflict(case_id: str) -> None:
    """Two readers, one report: nothing is lost, the person decides."""
    key = f"conflict-{case_id}"
    e: Conflict | None = st.session_state.get(key)
    who = people.account()
    if e is None or who is None:
        return
    st.error(w("report.conflict", who=e.theirs.author or "medfuse"))
    st.code("\n".join(reports.difference(e.theirs.report, e.mine)), language="diff")
    left, right = st.columns(2)
    if left.button(w("report.take_theirs"), key="take-theirs"):
        st.session_state.pop(key)
        st.rerun(scope="fragment")
    if right.button(w("report.put_mine"), key="put-mine"):
        st.session_state.pop(key)
        newest = reports.current(case_id)
        assert newest is not None
        try:
            reports.save(case_id, newest.revision, e.mine, who)
        except Conflict as again:
            st.session_state[key] = again
        st.rerun(scope="fragment")


def _actions(case_id: str, now: Revision, signed: bool) -> None:
    who = people.account()
    if signed:
        st.success("✔ " + w("report.signed_by", name=now.report.signed_by))
        if people.may_edit() and who:
            with st.popover(w("report.amend")):
                why = st.text_input(w("report.amend_why"), key=f"why-{case_id}")
                if st.button(w("report.amend"), key="amend", disabled=not why.strip()):
                    _do(reports.amend, case_id, who, why)
        return
    if not people.may_edit() or who is None:
        return
    left_over = len(reports.waiting(now.report))
    a, b, c = st.columns([1.3, 1.5, 1])
    if a.button(w("report.accept_all", n=left_over), key="accept-all", disabled=not left_over):
        _do(
            reports.save,
            case_id,
            now.revision,
            reports.set_states(now.report, "accepted", lambda x: x.state == "drafted"),
            who,
        )
    if b.button(w("report.preliminary"), key="preliminary", disabled=now.state != "draft"):
        _do(reports.promote, case_id, now.revision, who)
    hint = w("report.sign_hint", n=left_over) if left_over else None
    if c.button(w("report.sign"), key="sign", type="primary", disabled=bool(left_over), help=hint):
        _do(reports.sign, case_id, now.revision, who)


def _try(work, case_id: str, *arguments) -> bool:
    """One step of the report; a refusal is its one sentence, and then False."""
    try:
        work(case_id, *arguments)
    except Conflict as e:
        st.session_state[f"conflict-{case_id}"] = e
    except UserError as e:
        st.error(str(e))
        return False
    return True


def _do(work, case_id: str, *arguments) -> None:
    """One step of the report, then the newest state."""
    if _try(work, case_id, *arguments):
        st.rerun(scope="fragment")


def _versions(case_id: str) -> None:
    with st.expander(w("report.versions")), st.container(height=380, border=False):
        for r in reversed(reports.history(case_id)[-40:]):
            who = r.author or w("report.drafted_by")
            st.caption(
                f"{r.revision} · v{r.version} {branch('report.report_states')[r.state]} · {who} · {r.made:%Y-%m-%d %H:%M}"
            )
            lines = [line for line in r.change if line[:1] in "+-"]
            if lines:
                st.code("\n".join(lines), language="diff", wrap_lines=True)
            elif r.change:
                st.caption("; ".join(r.change))


def _exports(case_id: str, now: Revision) -> None:
    left, middle, right = st.columns([1.2, 1, 1], vertical_alignment="bottom")
    wanted = left.selectbox(w("report.export"), FORMATS, format_func=lambda f: {"fhir": "FHIR R4B", "encapsulated": "PDF in DICOM", "seg": "DICOM SEG", "sr": "DICOM SR"}.get(f, f.upper()), key=f"format-{case_id}")  # fmt: skip
    made = st.session_state.get("made")
    if middle.button(w("report.make"), key="make"):
        try:
            with st.spinner(" "):
                made = (case_id, now.revision, wanted, *jobs.call(jobs.export, case_id, wanted, now.report.language))
            st.session_state["made"] = made
        except UserError as e:
            st.error(str(e))
            return
    if made and made[:3] == (case_id, now.revision, wanted):
        right.download_button(w("report.download"), made[4], file_name=f"{case_id}.{made[3]}", key="download")


def _other_language(case_id: str, now: Revision, wanted: str, places: Places) -> None:
    """Composed anew from the prediction, to read: edits are in the language they were made in."""
    names = branch("report.languages")
    st.info(w("report.other_language", language=names[now.report.language]))
    key = f"composed-{case_id}-{wanted}-{now.revision}"
    if key not in st.session_state:
        with st.spinner(" "):
            st.session_state[key] = jobs.call(jobs.compose, case_id, wanted)
    shown = Report(**st.session_state[key])
    lines = []
    for section in shown.sections:
        lines.append(f"<h5 style='margin:.6rem 0 .2rem'>{html.escape(section.title)}</h5>")
        lines += [f"<div style='margin:.12rem 0'>{html.escape(s.text)}</div>" for s in section.sentences]
    st.html(f"<div style='font-size:.95rem;line-height:1.5'>{''.join(lines)}</div>")
