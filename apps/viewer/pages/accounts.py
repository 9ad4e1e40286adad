"""Accounts and the audit log, for an admin."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from apps.viewer import people
from apps.viewer.desk import library
from apps.viewer.words import names, plain, w
from medfuse.errors import UserError
from medfuse.library import accounts as people_known
from medfuse.library import audit, audit_check


def show() -> None:
    """The page: accounts beside the newest events of the audit log."""
    st.markdown(f"### {w('pages.people')}")
    who = people.account()
    if who is None or not who.may("admin"):
        st.info(w("people.need"))
        return
    left, right = st.columns([1, 1.4], gap="large")
    with left:
        st.markdown(f"#### {w('people.accounts')}")
        rows = [
            {
                w("name"): a.name,
                w("people.role"): names("roles")[a.role],
                w("people.full_name"): a.full_name,
                w("people.background"): a.background,
            }
            for a in people_known.list_accounts(library())
        ]
        st.dataframe(pd.DataFrame(rows), hide_index=True, width="stretch")
        _add(who)
    with right:
        st.markdown(f"#### {w('people.audit')}")
        found = audit_check.differences(library())
        for difference in found:
            st.error(plain(difference.what))
        if found:
            return
        entries = audit.entries(library())
        st.caption(w("people.intact", n=len(entries)))
        table = pd.DataFrame(
            [
                {word: _said(k, str(row.get(k, ""))) for k, word in names("people.columns").items()}
                for row in (e.as_json() for e in entries[::-1][:500])
            ]
        )
        st.dataframe(table, hide_index=True, width="stretch", height=520)


def _said(column: str, text: str) -> str:
    """A cell of the audit log as a person reads it."""
    if column == "event":
        return names("people.events").get(text, text)
    return text[:19].replace("T", " ") if column == "at" else text


def _add(who: people_known.Account) -> None:
    with st.form("add-account", clear_on_submit=True):
        name = st.text_input(w("name"), key="new-name")
        full = st.text_input(w("full_name"), key="new-full")
        background = st.text_input(w("background"), key="new-background")
        role = st.selectbox(
            w("people.role"),
            people_known.ROLES,
            format_func=names("roles").__getitem__,
            index=1,
            key="new-role",
        )
        password = st.text_input(w("password"), type="password", key="new-password")
        if st.form_submit_button(w("make_account")):
            try:
                people_known.add_account(
                    library(), name, password, role, full_name=full, background=background, by=who.name
                )
            except UserError as e:
                st.error(plain(e))
                return
            st.rerun()
