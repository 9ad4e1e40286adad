"""Who is at the desk: signing in with a local account or the institution's identity provider, and what was looked at.

On the loopback address a guest may look; everything else takes an account. On any other address so does looking.
"""

from __future__ import annotations

import os

import streamlit as st

from apps.viewer.pixels import shelf
from apps.viewer.words import w
from medfuse.errors import UserError
from medfuse.library.accounts import Account, add_account, authenticate, list_accounts
from medfuse.library.audit import record

LOOPBACK = ("127.0.0.1", "localhost", "::1", "")


def account() -> Account | None:
    """The account of this session, or None for a guest."""
    if _has_oidc() and st.user.is_logged_in:
        return _from_provider()
    return st.session_state.get("account")


def may_edit() -> bool:
    who = account()
    return who is not None and who.may("author")


def may_look() -> bool:
    return account() is not None or st.get_option("server.address") in LOOPBACK


def _has_oidc() -> bool:
    """MEDFUSE_OIDC=1: secrets.toml beside MEDFUSE_HOME holds [auth], see docs/viewer.md."""
    return os.environ.get("MEDFUSE_OIDC") == "1"


def _from_provider() -> Account | None:
    """The provider says who somebody is; the account list says what they may do. Unknown people only look."""
    email = str(st.user.get("email") or st.user.get("sub") or "")
    known = {a.name: a for a in list_accounts()}
    return known.get(email, Account(email, "reader", str(st.user.get("name") or "")))


def viewed(case_id: str) -> None:
    """Note once a session that a case was looked at."""
    seen = st.session_state.setdefault("viewed", set())
    if case_id not in seen:
        seen.add(case_id)
        who = account()
        record("case viewed", who=who.name if who else "guest", case_id=case_id)


def session_id() -> str:
    from streamlit.runtime.scriptrunner import get_script_run_ctx

    context = get_script_run_ctx()
    return context.session_id if context else ""


def sidebar() -> None:
    """Who is signed in, or a way to be."""
    who = account()
    if who is not None:
        st.caption(":material/person: " + w("signed_in", name=who.full_name or who.name, role=w(f"roles.{who.role}")))
        if st.button(w("sign_out"), key="sign-out"):
            record("signed out", who=who.name)
            shelf.take(session_id())
            st.session_state.pop("account", None)
            if _has_oidc():
                st.logout()
            st.rerun()
        return
    if _has_oidc():
        if st.button(w("sign_in"), key="sign-in"):
            st.login()
        return
    if not list_accounts() and st.get_option("server.address") in LOOPBACK:
        _first_account()
        return
    with st.expander(w("sign_in"), expanded=not may_look()), st.form("sign-in", border=False):
        name = st.text_input(w("name"), key="sign-in-name")
        password = st.text_input(w("password"), type="password", key="sign-in-password")
        if st.form_submit_button(w("sign_in")):
            try:
                _take(authenticate(name, password))
            except UserError as e:
                record("sign-in refused", who=name)
                st.error(str(e))
    if may_look():
        st.caption(w("guest"))


def _take(who: Account) -> None:
    record("signed in", who=who.name)
    st.session_state["account"] = who
    st.rerun()


def _first_account() -> None:
    """On this machine alone, and only while there is none: the person who begins is the admin."""
    with st.expander(w("first_account"), expanded=False), st.form("first-account", border=False):
        st.caption(w("first_account_why"))
        name = st.text_input(w("name"), key="first-name")
        full = st.text_input(w("full_name"), key="first-full")
        background = st.text_input(w("background"), key="first-background")
        password = st.text_input(w("password"), type="password", key="first-password")
        if st.form_submit_button(w("make_account")):
            try:
                who = add_account(name, password, "admin", full_name=full, background=background)
            except UserError as e:
                st.error(str(e))
                return
            record("account added", who=name, account=name, role="admin")
            _take(who)
    st.caption(w("guest"))
