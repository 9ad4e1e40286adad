"""Accounts and the audit log, for an admin."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from apps.viewer import people
from apps.viewer.words import branch, w
from medfuse.errors import UserError
from medfuse.library import accounts as people_known
from medfuse.library import audit


def show() -> None:
    st.markdown(f"### {w('pages.people')}")
    who = people.account()
    if who is None or not who.may("admin"):
        st.info(w("people.need"))
        return
    left, right = st.columns([1, 1.4], gap="large")
    with left:
        st.markdown(f"#### {w('people.accounts')}")
        rows = [{"name": a.name, "role": branch("roles")[a.role], "full name": a.full_name, "background": a.background} for a in people_known.list_accounts()]  # fmt: skip
        st.dataframe(pd.DataFrame(rows), hide_index=True, width="stretch")
        _add(who)
    with right:
        st.markdown(f"#### {w('people.audit')}")
        try:
            entries = audit.entries()
        except UserError as e:
            st.error(str(e))
            return
        st.caption(w("people.intact", n=len(entries)))
        table = pd.DataFrame(
            [
                {k: str(e.get(k, "")) for k in ("at", "who", "event", "case", "revision", "account")}
                for e in entries[::-1][:500]
            ]
        )
        st.dataframe(table, hide_index=True, width="stretch", height=520)


def _add(who: people_known.Account) -> None:
    with st.form("add-account", clear_on_submit=True):
        name = st.text_input(w("name"), key="new-name")
        full = st.text_input(w("full_name"), key="new-full")
        background = st.text_input(w("background"), key="new-background")
        role = st.selectbox(
            w("people.role"), people_known.ROLES, format_func=branch("roles").__getitem__, index=1, key="new-role"
        )
        password = st.text_input(w("password"), type="password", key="new-password")
        if st.form_submit_button(w("make_account")):
            try:
                people_known.add_account(name, password, role, full_name=full, background=background)
            except UserError as e:
                st.error(str(e))
                return
            audit.record("account added", who=who.name, account=name, role=role)
            st.rerun()
