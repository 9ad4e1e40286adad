"""The drafted report, section by section, with the reason of every sentence."""

from __future__ import annotations

import html

import streamlit as st

from medfuse.report import Report

MARKS = {"present": "●", "possible": "◐", "absent": "○", "not_assessed": "–", "notice": ""}


def show(drafted: Report) -> None:
    st.markdown(
        f"### Report <span class='badge limited'>{drafted.state}, version {drafted.version}</span>",
        unsafe_allow_html=True,
    )
    lines = []
    for section in drafted.sections:
        lines.append(f"<h5 style='margin:.6rem 0 .2rem'>{html.escape(section.title)}</h5>")
        for s in (x for x in section.sentences if x.state != "rejected"):
            mark = MARKS[s.assertion]
            colour = "#8a949c" if s.assertion == "not_assessed" else "#e8edf0"
            lines.append(f"<div style='color:{colour};margin:.12rem 0'>{mark} {html.escape(s.text)}</div>")
    st.markdown(
        f"<div id='report' style='font-size:.92rem;line-height:1.4'>{''.join(lines)}</div>", unsafe_allow_html=True
    )
    st.caption("● present  ◐ possible  ○ absent  – not assessed")
