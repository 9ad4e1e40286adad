"""Every version of a report: what each changed word by word, and a way back to it."""

from __future__ import annotations

import html

import streamlit as st

from apps.viewer.desk import library
from apps.viewer.words import names, w
from medfuse.library import reports
from medfuse.library.reports import Revision

SHOWN = 40  # of the newest
_TAGS = {"=": "{}", "-": "<del style='color:#ff9d94'>{}</del>", "+": "<ins style='color:#8ee6d2'>{}</ins>"}


def show(case_id: str) -> int | None:
    """The list, newest first; the revision that somebody wants back, or None."""
    wanted = None
    with st.expander(w("report.versions")), st.container(height=380, border=False):
        rows = reports.history(library(), case_id)
        for before, r in reversed(list(zip([None, *rows], rows, strict=False))[-SHOWN:]):
            left, right = st.columns([5, 1.4], vertical_alignment="center")
            who = r.author or w("report.drafted_by")
            left.caption(
                f"{r.revision} · v{r.version} {names('report.report_states')[r.state]} · {who} · "
                f"{r.made:%Y-%m-%d %H:%M} UTC"
            )
            if _may_come_back(r, rows[-1]) and right.button(w("report.restore"), key=f"restore-{r.revision}"):
                wanted = r.revision
            st.html(_changes(before, r))
    return wanted


def _may_come_back(r: Revision, newest: Revision) -> bool:
    from apps.viewer import people

    return people.may_edit() and newest.state not in ("final", "amended") and r.revision != newest.revision


def _changes(before: Revision | None, r: Revision) -> str:
    """What a revision did: words that went and came, or the step that it was."""
    lines = []
    if before is not None and any(line[:1] in "+-" for line in r.change):
        for old, new in reports.changed_sentences(before.report, r.report):
            parts = reports.word_difference(old, new)
            lines.append("".join(_TAGS[what].format(html.escape(text)) for what, text in parts))
    else:
        lines += [html.escape(x) for x in r.change]
    rows = "".join(f"<div style='margin:.1rem 0'>{line}</div>" for line in lines)
    return f"<div style='font-size:.85rem;line-height:1.45'>{rows}</div>"
