"""The case list in the sidebar: search, filter by modality, one line a case."""

from __future__ import annotations

import streamlit as st

from medfuse.library import store


def choose() -> dict | None:
    """Show the list and return the chosen row, or None for an empty library."""
    with st.sidebar:
        st.markdown("## ◐ medfuse")
        words = st.text_input("Search", placeholder="patient or case id", key="search")
        wanted = st.multiselect("Has modality", ["US", "CT", "MR"], key="has")
        rows = [
            r for r in store.list_cases(tuple(wanted)) if words.lower() in f"{r['case_id']} {r['patient_id']}".lower()
        ]
        if not rows:
            return None
        st.caption(f"{len(rows)} case{'s' if len(rows) > 1 else ''}")
        chosen = st.radio(
            "Cases", range(len(rows)), key="case",
            format_func=lambda i: rows[i]["patient_id"] or rows[i]["case_id"],
            captions=[f"{r['study_date']} · {'+'.join(r['modalities'])} · {'waits for a person' if r['conflict'] else r['state']}" for r in rows],
        )  # fmt: skip
    return rows[chosen]
