"""The report panel: work on it sentence by sentence, see its versions, sign it, send it out."""

from __future__ import annotations

import html
from collections.abc import Callable

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from apps.viewer import components, critical, jobs, keys, people, signing, versions
from apps.viewer.blank import blank_report, with_every_section, without_empty_sections
from apps.viewer.desk import library
from apps.viewer.evidence import Places
from apps.viewer.fragments import redraw
from apps.viewer.post import fresh, heard
from apps.viewer.templates import Templates, fitting, load_templates, said
from apps.viewer.words import LANGUAGES, branch, finding_word, language, names, plain, task_languages, w
from medfuse.display.contract import (
    ChangedSection,
    Chip,
    ReportChange,
    ReportData,
    ShownSection,
    ShownSentence,
    Typing,
    read_message,
)
from medfuse.errors import UserError
from medfuse.exports.registry import FORMATS
from medfuse.library import Library, reports, workbench
from medfuse.library.accounts import Account
from medfuse.library.reports import Conflict, Revision
from medfuse.report import Report, Sentence


@st.fragment
def show(case_id: str, places: Places, *, drafted: bool, simulated: bool) -> None:
    """The part of the reading page beside the findings: the report as it stands, and what may be done
    with it. ``drafted``: by the model, so that it can be composed in another language."""
    now = reports.current(library(), case_id)
    if now is None:
        _begin(case_id, simulated=simulated)
        return
    left, right = st.columns([2, 1.4], vertical_alignment="center")
    label = w("report.state", state=names("report.report_states")[now.state], version=now.version)
    left.markdown(
        f"### {w('report.panel')} <span class='badge limited'>{label}</span>", unsafe_allow_html=True
    )
    wanted = _language(case_id, now, right) if drafted else now.report.language
    if wanted != now.report.language:
        _other_language(case_id, now, wanted, places)
        return
    signed = now.state in ("final", "amended")
    with st.container():  # also when empty: the editor below keeps its place, and what is being typed
        _conflict(case_id)
    changed = _editor(case_id, now, places, editable=people.may_edit() and not signed)
    if changed:
        now = reports.current(library(), case_id) or now
    if targets := _targets(now.report):
        st.html(targets)
    if not people.may_edit() and not signed:
        st.caption(w("report.look_only"))
    if not signed:
        _template(case_id, now, places.modalities)
    _actions(case_id, now, signed)
    critical.show(case_id)
    _versions(case_id, now)
    _exports(case_id, now)
    if changed:  # only now: a button pressed in the same moment has had its turn, on top of the change
        redraw()


def _targets(report: Report) -> str:
    """The targets over time as HTML, as the sentences of the comparison stand; "" without any."""
    found = report.standing_targets
    if found is None:
        return ""
    head, *rows = ([html.escape(c) for c in row] for row in found.cells)
    lines = ["<tr><th>" + "</th><th>".join(head) + "</th></tr>"]
    lines += ["<tr><td>" + "</td><td>".join(row) + "</td></tr>" for row in rows]
    table = f"<table style='border-spacing:.9rem .2rem;text-align:left'>{''.join(lines)}</table>"
    return (
        f"<div style='font-size:.9rem'><b>{html.escape(found.title)}</b>{table}"
        f"<small>{html.escape(found.rule)}</small></div>"
    )


def _begin(case_id: str, *, simulated: bool) -> None:
    """A way to write where the model drafted nothing."""
    st.markdown(f"### {w('report.panel')}")
    st.info(w("report.by_hand"))
    who = people.account()
    if who is None or not people.may_edit():
        st.caption(w("report.look_only"))
        return
    if st.button(w("report.write"), key="write-by-hand"):
        reports.start(library(), blank_report(case_id, language(), simulated=simulated), who)
        redraw()


def _language(case_id: str, now: Revision, place: DeltaGenerator) -> str:
    """The language that the report is to be shown in."""
    spoken = dict.fromkeys([*task_languages(now.report.bundle), now.report.language])
    return place.segmented_control(
        w("report.draft_language"),
        list(spoken),
        format_func=lambda x: LANGUAGES.get(x, x),
        default=now.report.language,
        key=f"report-language-{case_id}",
        required=True,
        label_visibility="collapsed",
    )


def _sections(report: Report, places: Places) -> list[ShownSection]:
    return [
        ShownSection(
            id=s.id,
            title=s.title,
            sentences=[
                ShownSentence(**x.model_dump(mode="json"), chips=_chips(x, places)) for x in s.sentences
            ],
        )
        for s in report.sections
    ]


def _chips(x: Sentence, places: Places) -> list[Chip]:
    """The places that a sentence rests on, each once, four at most."""
    seen: dict[str, Chip] = {}
    for place in x.evidence:
        at = places.of(place)
        if at is not None:
            label = places.short(place)
            title = f"{finding_word(x.finding)} · {places.where(place)}"
            seen.setdefault(label, Chip(label=label, title=title, place=at))
    return list(seen.values())[:4]


def _editor(case_id: str, now: Revision, places: Places, *, editable: bool) -> bool:
    """Show the sentences; whether the reader changed them, which is saved then."""
    who = people.account() if editable else None
    data = ReportData(
        revision=now.revision,
        sections=_sections(with_every_section(now.report) if editable else now.report, places),
        may_edit=editable,
        heard=heard("changed"),
        pending=_unfinished(case_id, now, who) if who else None,
        words=branch("report"),
        macros={n: said(x, now.report.language) for n, x in _known_templates().macros.items()},
        keys=keys.of_person(),
    )
    key = f"report-{case_id}-{now.version}-{'edit' if editable else 'look'}"
    done = components.report(data, key=key, on_changed_change=lambda: None, on_typing_change=lambda: None)
    return who is not None and _take(case_id, now, done.changed, done.typing, who)


def _unfinished(case_id: str, now: Revision, who: Account) -> Typing | None:
    """What this account was typing when its session ended, unless another person has saved since."""
    pending = workbench.typed(library(), case_id, who)
    if pending is None or (pending.revision != now.revision and now.author != who.name):
        return None
    restored = f"restored-{case_id}"
    if restored not in st.session_state:
        st.session_state[restored] = True
        st.toast(w("report.restored"))
    return pending


def _take(case_id: str, now: Revision, changed: object, typing: object, who: Account) -> bool:
    """Keep what the browser sent: words in the middle of an edit, or a change, which is saved; whether it
    was."""
    try:
        change = fresh("changed", ReportChange, changed)
        if typing and change is None:
            _keep(case_id, read_message(Typing, typing), who)
    except UserError as e:
        st.error(plain(e))
        return False
    if change is None:
        return False
    return _try(_save, case_id, change.revision, _merged(now.report, change.sections), who)


def _save(kept: Library, case_id: str, revision: int, mine: Report, who: Account) -> None:
    reports.save(kept, case_id, revision, mine, who)
    workbench.forget_typing(kept, case_id, who)


def _keep(case_id: str, typing: Typing, who: Account) -> None:
    """Words in the middle of an edit, or (no text) that it was given up."""
    if typing.text is None:
        workbench.forget_typing(library(), case_id, who)
        return
    workbench.keep_typing(library(), case_id, typing, who)
    st.session_state[f"restored-{case_id}"] = True  # this session knows it already


def _merged(report: Report, sections: list[ChangedSection]) -> Report:
    """The report with the sections as the reader left them; what a sentence rests on stays with it."""
    out = with_every_section(report.model_copy(deep=True))
    changed = {s.id: s.sentences for s in sections}
    for section in out.sections:
        section.sentences = changed.get(section.id, section.sentences)
    return without_empty_sections(out)


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
        redraw()
    if right.button(w("report.put_mine"), key="put-mine"):
        st.session_state.pop(key)
        newest = reports.current(library(), case_id)
        assert newest is not None
        try:
            reports.save(library(), case_id, newest.revision, e.mine, who)
        except Conflict as again:
            st.session_state[key] = again
        redraw()


def _actions(case_id: str, now: Revision, signed: bool) -> None:
    who = people.account()
    editor = who if people.may_edit() else None
    if signed:
        _signed_actions(case_id, now.report, editor)
    elif editor is not None:
        _draft_actions(case_id, now, editor)


def _signed_actions(case_id: str, report: Report, editor: Account | None) -> None:
    """Who signed it, and for an editor the way to amend it."""
    st.success("✔ " + w("report.signed_by", name=report.signed_by))
    if editor is None:
        return
    with st.popover(w("report.amend")):
        why = st.text_input(w("report.amend_why"), key=f"why-{case_id}")
        if st.button(w("report.amend"), key="amend", disabled=not why.strip()):
            _do(reports.amend, case_id, editor, why)


def _draft_actions(case_id: str, now: Revision, who: Account) -> None:
    """What may be done with a draft: take a newer one, accept all, make it preliminary, sign."""
    if reports.draft_beside(library(), case_id) is not None:
        st.info(w("report.beside"))
        if st.button(w("report.take_beside"), key="take-beside"):
            _do(reports.take_draft, case_id, now.revision, who)
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
    torn = f"conflict-{case_id}" in st.session_state
    hint = w("report.conflict_open") if torn else _why_not_signed(now.report, left_over)
    if c.button(w("report.sign"), key="sign", type="primary", disabled=bool(hint), help=hint or None):
        signing.ask(case_id, now)
    if hint:
        st.caption(hint)
        return
    signing.confirm(case_id, now, lambda seen: _do(_sign, case_id, now.revision, who, seen))


def _sign(kept: Library, case_id: str, revision: int, who: Account, seen: tuple[str, ...]) -> None:
    reports.sign(kept, case_id, revision, who, looked_at=seen)


def _why_not_signed(report: Report, left_over: int) -> str:
    """Why the report cannot be signed yet, or nothing."""
    if left_over:
        return w("report.sign_hint", n=left_over)
    return "" if reports.says_something(report) else w("report.says_nothing")


def _try(work: Callable[..., object], case_id: str, *arguments: object) -> bool:
    """One step of the report; a refusal is its one sentence, and then False."""
    try:
        work(library(), case_id, *arguments)
    except Conflict as e:
        st.session_state[f"conflict-{case_id}"] = e
        st.toast(w("report.conflict_above"), icon=":material/warning:")  # the notice may be out of sight
    except UserError as e:
        st.error(plain(e))
        return False
    return True


def _do(work: Callable[..., object], case_id: str, *arguments: object) -> None:
    """One step of the report, then the newest state."""
    if _try(work, case_id, *arguments):
        redraw()


def _versions(case_id: str, now: Revision) -> None:
    wanted = versions.show(case_id)
    who = people.account()
    if wanted is not None and who is not None:
        _do(reports.restore, case_id, now.revision, wanted, who)


def _template(case_id: str, now: Revision, modalities: set[str]) -> None:
    """A template's sentences at the end of their sections, to be filled in."""
    who = people.account()
    if who is None or not people.may_edit():
        return
    known = fitting(_known_templates(), modalities)
    if not known:
        return
    titles = {"": w("report.template")} | {n: said(t.title, language()) for n, t in known.items()}
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    name = left.selectbox(
        w("report.template"),
        list(titles),
        format_func=titles.__getitem__,
        key=f"template-{case_id}",
        label_visibility="collapsed",
    )
    if right.button(w("report.insert"), key="insert-template", disabled=not name):
        report = with_every_section(now.report.model_copy(deep=True))
        for section in report.sections:
            lines = known[name].sections.get(section.id, [])
            section.sentences += [Sentence(text=said(x, report.language), state="edited") for x in lines]
        _do(reports.save, case_id, now.revision, without_empty_sections(report), who)


def _known_templates() -> Templates:
    try:
        return load_templates(library().home)
    except UserError as e:
        st.error(plain(e))
        return Templates()


def _exports(case_id: str, now: Revision) -> None:
    left, middle, right = st.columns([1.2, 1, 1], vertical_alignment="bottom")
    wanted = left.selectbox(
        w("report.export"),
        list(FORMATS),
        index=list(FORMATS).index("pdf"),
        format_func=lambda f: FORMATS[f].title,
        key=f"format-{case_id}",
    )
    made: tuple[tuple[str, int, str], jobs.Exported] | None = st.session_state.get("made")
    asked = (case_id, now.revision, wanted)
    if middle.button(w("report.make"), key="make"):
        try:
            with st.spinner(" "):
                made = (asked, jobs.call(jobs.export, case_id, wanted, now.report.language))
            st.session_state["made"] = made
        except UserError as e:
            st.error(plain(e))
            return
    if made and made[0] == asked:
        done = made[1]
        right.download_button(
            w("report.download"), done.data, file_name=f"{case_id}.{done.name}", key="download"
        )
        for problem in done.problems:
            st.warning(plain(problem))


def _other_language(case_id: str, now: Revision, wanted: str, places: Places) -> None:
    """Composed anew from the prediction, to read: edits are in the language they were made in."""
    st.info(
        w(
            "report.other_language",
            language=names("report.languages").get(now.report.language, now.report.language),
        )
    )
    key = f"composed-{case_id}-{wanted}-{now.revision}"
    if key not in st.session_state:
        with st.spinner(" "):
            st.session_state[key] = jobs.call(jobs.compose, case_id, wanted)
    shown: Report = st.session_state[key]
    lines = []
    for section in shown.sections:
        lines.append(f"<h5 style='margin:.6rem 0 .2rem'>{html.escape(section.title)}</h5>")
        lines += [f"<div style='margin:.12rem 0'>{html.escape(s.text)}</div>" for s in section.sentences]
        lines += [_targets(shown)] if section.id == "comparison" else []
    st.html(f"<div style='font-size:.95rem;line-height:1.5'>{''.join(lines)}</div>")
