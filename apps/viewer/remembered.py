"""Language and filters as a person left them: loading the page anew, another page and another day find them
so.

An account's lie with the library; a guest's in this server, by browser, the newest thousand.
"""

from __future__ import annotations

from collections import OrderedDict

import streamlit as st

from apps.viewer import people
from apps.viewer.desk import library
from apps.viewer.words import LANGUAGES, language
from medfuse.display.hanging import Windowed
from medfuse.errors import WrongUse
from medfuse.library.desks import Desk, desk_of, keep_desk

MOST = 1000
MOST_WINDOWS = 20  # own ones of a modality
_guests: OrderedDict[str, Desk] = OrderedDict()


def desk() -> Desk:
    """The desk of who is here, read once a session and account."""
    who = people.account()
    whose = who.name if who else ""
    held: Desk | None = st.session_state.get("desk")
    if held is not None and st.session_state.get("desk-of") == whose:
        return held
    st.session_state["desk-of"] = whose
    kept = desk_of(library(), who) if who else _guests.get(people.browser())
    if kept is not None:
        held = kept
    st.session_state["desk"] = held = held or Desk()
    return held


def recall_language() -> None:
    """Speak as this person did last, where the address names no other language."""
    known = st.session_state.get("desk-of")
    wanted = desk().language
    news = st.session_state.get("desk-of") != known
    if news and wanted in LANGUAGES and "language" not in st.query_params:
        st.session_state["language"] = wanted
        st.session_state.pop("language-choice", None)


def keep(**changed: object) -> Desk:
    """Note what is other than before; the desk as it is now."""
    was = desk()
    now = Desk.model_validate({**was.model_dump(), "language": language(), **changed})
    if now == was:
        return was
    st.session_state["desk"] = now
    who = people.account()
    if who is not None:
        keep_desk(library(), who, now)
    elif browser := people.browser():
        _guests[browser] = now
        _guests.move_to_end(browser)
        while len(_guests) > MOST:
            _guests.popitem(last=False)
    return now


def keep_window(wanted: Windowed) -> None:
    """A window of this person's own, or no longer one. Raises WrongUse where there are too many, or it has no
    width."""
    own = dict(desk().windows.get(wanted.modality, {}))
    if wanted.window is None:
        own.pop(wanted.name, None)
    elif not 0 < wanted.window[1] < float("inf") or not abs(wanted.window[0]) < float("inf"):
        raise WrongUse("this window has no width; choose another")
    else:
        own[wanted.name] = wanted.window
    if len(own) > MOST_WINDOWS:
        raise WrongUse(f"{MOST_WINDOWS} windows of a modality can be kept; remove one first")
    keep(windows={**desk().windows, wanted.modality: own})
