"""Before a report is signed: it is shown as it will leave, what contradicts itself is named, and the person
confirms."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import streamlit as st

from apps.viewer.desk import library
from apps.viewer.fragments import redraw
from apps.viewer.words import w
from medfuse.bundles.registry import find_by_hash
from medfuse.display.marks import Bidirectional, Distance
from medfuse.drafting.review import Doubt, review
from medfuse.errors import UserError
from medfuse.exports.text import report_text
from medfuse.knowledge import Graph, task_graph
from medfuse.library import results, store, workbench
from medfuse.library.reports import Revision
from medfuse.task import load_task


def doubts_of(case_id: str, now: Revision) -> list[Doubt]:
    """What to look at before this revision is signed."""
    lengths = []
    for m in workbench.measurements(library(), case_id):
        if isinstance(m, Distance | Bidirectional) and m.unit == "mm":
            lengths += [m.value, m.short] if isinstance(m, Bidirectional) else [m.value]
    result = results.load_result(library(), case_id)
    for x in result[0].outlined if result else ():
        lengths += [v for v in (x.long_axis_mm, x.short_axis_mm) if v is not None]
    who = store.identity_of(library(), case_id)
    return review(
        now.report,
        sex=who.sex,
        measured_mm=lengths,
        conflict=who.conflict,
        graph=_graph(now.report.bundle, now.report.bundle_hash),
    )


@cache
def _graph(bundle: str, bundle_hash: str) -> Graph | None:
    """How the findings of a report's task exclude each other; None where its bundle is gone, or has none."""
    if not bundle:
        return None
    try:
        return task_graph(load_task(find_by_hash(bundle, bundle_hash) / "task" / "task.yaml"))
    except UserError:
        return None


def confirm(case_id: str, now: Revision, sign: Callable[[tuple[str, ...]], None]) -> None:
    """The report as it will leave, the doubts, and a button that signs; ``sign`` gets the doubts that
    were put aside."""
    asked = f"signing-{case_id}"
    if st.session_state.get(asked) != now.revision:
        return
    doubts = doubts_of(case_id, now)
    with st.container(border=True, key="signing"):
        st.markdown(f"**{w('signing.title')}**")
        for doubt in doubts:
            (st.error if doubt.blocks else st.warning)(_with_words(w(f"signing.{doubt.kind}"), doubt))
        with st.container(height=300):
            st.text(report_text(now.report))
        blocked = any(d.blocks for d in doubts)
        seen = not doubts or (not blocked and st.checkbox(w("signing.looked"), key=f"looked-{now.revision}"))
        left, right = st.columns(2)
        if left.button(w("signing.now"), key="sign-now", type="primary", disabled=blocked or not seen):
            st.session_state.pop(asked)
            sign(tuple(_with_words(d.kind, d) for d in doubts))
        if right.button(w("signing.back"), key="sign-back"):
            st.session_state.pop(asked)
            redraw()


def ask(case_id: str, now: Revision) -> None:
    """Show the confirmation from now on, for this revision alone."""
    st.session_state[f"signing-{case_id}"] = now.revision


def _with_words(kind: str, doubt: Doubt) -> str:
    """A kind of doubt with the words that it is about, where it has any."""
    return f"{kind}: {doubt.said}" if doubt.said else kind
