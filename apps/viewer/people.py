"""Who is at the desk: signing in with a local account or the institution's identity provider, and what was
looked at.

A guest may look in this machine's own browser; everything else takes an account. From any other place, a
proxy on this machine among them, so does looking.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from typing import NoReturn

import streamlit as st

from apps.viewer.browsers import browsers
from apps.viewer.desk import look_as, whole_library
from apps.viewer.guard import LOOPBACK, on_this_machine
from apps.viewer.pixels import shelf
from apps.viewer.presence import presence
from apps.viewer.seats import IDLE_S, LONGEST_S, Seat, cookie_name, seats
from apps.viewer.tries import tries
from apps.viewer.words import plain, w
from medfuse.errors import UserError
from medfuse.library.accounts import Account, add_account, authenticate, list_accounts
from medfuse.library.audit import record
from medfuse.library.projects import projects_of

GUEST = Account("(guest)", "reader")  # no name that an account can have
FIRST_ACCOUNT = "MEDFUSE_FIRST_ACCOUNT"  # environment: the word that `medfuse view` printed, see there


def account() -> Account | None:
    """The account of this session, or None for a guest. One that was removed, changed or idle for too long is
    a guest from the next click on."""
    if _has_oidc() and st.user.is_logged_in:
        return _from_provider() if _provided_in_time() else None
    seat = _seat()
    if seat is None:
        return None
    if _holds(seat):
        seat.seen = time.monotonic()
        return seat.account
    _leave("session ended", seat.account)
    return None


def _seat() -> Seat | None:
    """The sign-in of this browser, also where it was made in another window of it; or of this session alone,
    where the browser keeps no cookies."""
    at_browser = seats.at(browser())
    if at_browser is not None:
        st.session_state["seated"] = True
        return at_browser
    if st.session_state.pop("seated", False):  # signed out in another window
        st.session_state.pop("account", None)
        return None
    held: Account | None = st.session_state.get("account")
    if held is None:
        return None
    kept: Seat | None = st.session_state.get("seat")
    if kept is None or kept.account != held:
        kept = st.session_state["seat"] = Seat(held)
    return kept


def browser() -> str:
    """The name that this server gave to the browser; empty where it keeps no cookies."""
    named = str(st.context.cookies.get(cookie_name(st.get_option("server.port")), ""))
    return named if seats.knows(named) else ""


def _provided_in_time() -> bool:
    """Whether the provider's word is of today, and its browser not idle: a page loaded anew is no new
    sign-in. Who is too late is signed out."""
    said = float(str(st.user.get("iat") or time.time()))  # when the provider said so
    if not (browsers.has_seen(browser()) or st.session_state.get("noted")):
        st.session_state["noted"] = True  # a browser without a name is not remembered
        record(whole_library(), "signed in", who=_from_provider().name, by="identity provider")
    idle = browsers.idle_s(browser(), time.monotonic())
    if time.time() - said < LONGEST_S and idle < IDLE_S:
        return True
    browsers.forget(browser())
    _leave("session ended", _from_provider())
    _leave_the_provider()


def _leave_the_provider() -> NoReturn:
    """Send the browser to the provider's sign-out. Running the page anew now would drop that message."""
    st.logout()
    st.stop()


def note_browser() -> None:
    """Bind this session to the browser that it began in."""
    browsers.note(session_id(), browser())


def address() -> str:
    """Where the browser is: as a proxy on this machine saw it, where one stands between; "" for this machine.
    From any other peer the header is that peer's own invention: it would be counted as somebody else."""
    peer = str(st.context.ip_address or "")
    behind = st.context.headers.get("X-Forwarded-For") or ""
    return peer or behind.rpartition(",")[2].strip()


def still_looking() -> Callable[[], bool]:
    """Whether who is on this page may look later too, to be asked outside of any page: not once they were
    signed out, removed or idle for too long."""
    word = browser()
    if _has_oidc() and st.user.is_logged_in:
        return lambda: not word or browsers.signed_in(word, time.monotonic())
    seat = _seat()
    if seat is None:
        return lambda: True  # a guest at this machine
    named = seats.at(word) is seat
    return lambda: _holds(seat) and (not named or seats.at(word) is seat)


def browser_may_look(word: str) -> bool:
    """Whether somebody with an account is signed in at the browser with this word in its cookie."""
    seat = seats.at(word)
    return _holds(seat) if seat is not None else browsers.signed_in(word, time.monotonic())


def _holds(seat: Seat) -> bool:
    return not seat.over() and seat.account in list_accounts(whole_library())


def _leave(event: str, who: Account) -> None:
    record(whole_library(), event, who=who.name)
    shelf.take(session_id())
    seats.leave(browser())
    presence.gone(who.name)
    browsers.forget(browser())
    for key in ("account", "seat", "seated"):
        st.session_state.pop(key, None)


def _sees() -> frozenset[str] | None:
    """The projects that are shown on this page; all where no page is drawn. None of them to who may not look:
    a part of a page runs alone, also after its reader was signed out."""
    if not session_id():
        return None
    who = account()
    return projects_of(who) if who is not None or at_this_machine() else frozenset()


look_as(_sees)


def acts() -> Account | None:
    """Whose rights what is done here takes: those of the account, or of a guest, who only looks; None (all of
    them, as on the command line) while nobody made an account."""
    return account() or (GUEST if list_accounts(whole_library()) else None)


def may_add() -> bool:
    """Whether who is here may add studies and have them predicted."""
    who = acts()
    return who is None or who.may("author")


def may_edit() -> bool:
    """Whether who is here may change reports."""
    who = account()
    return who is not None and who.may("author")


def may_look() -> bool:
    """Whether who is here may see patients: everybody at this machine, elsewhere those with an account."""
    return account() is not None or at_this_machine()


def at_this_machine() -> bool:
    """Whether who is here sits at this machine, with nothing between."""
    return (st.get_option("server.address") or "localhost") in LOOPBACK and on_this_machine(
        st.context.headers.to_dict()
    )


def _has_oidc() -> bool:
    """MEDFUSE_OIDC=1: secrets.toml beside MEDFUSE_HOME holds [auth], see docs/viewer.md."""
    return os.environ.get("MEDFUSE_OIDC") == "1"


def _from_provider() -> Account:
    """The provider says who somebody is; the account list says what they may do. Unknown people only look. An
    address that the provider says it has not verified is anybody's."""
    verified = str(st.user.get("email_verified", True)).lower() != "false"
    email = str((verified and st.user.get("email")) or st.user.get("sub") or "")
    known = {a.name: a for a in list_accounts(whole_library())}
    return known.get(email, Account(email, "reader", str(st.user.get("name") or "")))


def viewed(case_id: str) -> None:
    """Note once a session that a case was looked at."""
    seen = st.session_state.setdefault("viewed", set())
    if case_id not in seen:
        seen.add(case_id)
        who = account()
        record(whole_library(), "case viewed", who=who.name if who else "guest", case_id=case_id)


def session_id() -> str:
    """Streamlit's name of this browser's session; empty outside of one."""
    from streamlit.runtime.scriptrunner import get_script_run_ctx

    context = get_script_run_ctx()
    return context.session_id if context else ""


def sidebar() -> None:
    """Who is signed in, or a way to be."""
    who = account()
    if who is not None:
        st.caption(
            ":material/person: "
            + w("signed_in", name=plain(who.full_name or who.name), role=w(f"roles.{who.role}"))
        )
        if st.button(w("sign_out"), key="sign-out"):
            _leave("signed out", who)
            if _has_oidc():
                _leave_the_provider()
            st.rerun()
        return
    if _has_oidc():
        if st.button(w("sign_in"), key="sign-in"):
            st.login()
        return
    if not list_accounts(whole_library()) and at_this_machine() and os.environ.get(FIRST_ACCOUNT):
        _first_account(os.environ[FIRST_ACCOUNT])
        return
    with st.expander(w("sign_in"), expanded=not may_look()), st.form("sign-in", border=False):
        name = st.text_input(w("name"), key="sign-in-name")
        password = st.text_input(w("password"), type="password", key="sign-in-password")
        if st.form_submit_button(w("sign_in")):
            _sign_in(name, password)
    if may_look():
        st.caption(w("guest"))


def _sign_in(name: str, password: str) -> None:
    wait = tries.wait_s(name, address())
    if wait > 0:
        record(whole_library(), "sign-in closed", who=name[:200])
        st.error(w("too_many_tries", minutes=int(wait // 60) + 1))
        return
    try:
        who = authenticate(whole_library(), name, password)
    except UserError as e:
        tries.wrong(name, address())
        record(whole_library(), "sign-in refused", who=name[:200])
        st.error(plain(e))
        return
    tries.right(name, address())
    _take(who)


def _take(who: Account) -> None:
    record(whole_library(), "signed in", who=who.name)
    seats.take(browser(), who)
    if seats.at(browser()) is None:
        st.session_state["account"] = who
    st.rerun()


def _first_account(word: str) -> None:
    """At this machine alone, and only while there is none: who reads the word that `medfuse view` printed is
    the admin."""
    with st.expander(w("first_account"), expanded=False), st.form("first-account", border=False):
        st.caption(w("first_account_why"))
        name = st.text_input(w("name"), key="first-name")
        full = st.text_input(w("full_name"), key="first-full")
        background = st.text_input(w("background"), key="first-background")
        password = st.text_input(w("password"), type="password", key="first-password")
        given = st.text_input(w("first_word"), key="first-word")
        if st.form_submit_button(w("make_account")):
            if not secrets.compare_digest(given.strip().encode(), word.encode()):
                st.error(w("first_word_wrong"))
                return
            try:
                who = add_account(
                    whole_library(), name, password, "admin", full_name=full, background=background, by=name
                )
            except UserError as e:
                st.error(plain(e))
                return
            _take(who)
    st.caption(w("guest"))
