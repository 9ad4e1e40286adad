"""What the browser says in single messages: each bears a serial and is sent again until the page's data says
that it was heard, as a page that is being drawn anew may lose it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import streamlit as st

from medfuse.display.contract import Message, read_message

M = TypeVar("M", bound=Message)


def heard(*events: str) -> dict[str, int]:
    """The serial of the newest message of each event that this session heard."""
    return {e: st.session_state.get(_place(e), 0) for e in events}


def fresh(event: str, model: type[M], message: object) -> M | None:
    """The message, the first time that it comes; None where there is none, or it was heard before.

    It counts as heard even where it cannot be read, or the browser would send it for ever. Raises UserError
    then.
    """
    serial = message.get("serial") if isinstance(message, Mapping) else None
    if isinstance(serial, int):
        if serial <= st.session_state.get(_place(event), 0):
            return None
        st.session_state[_place(event)] = serial
    return read_message(model, message) if message else None


def _place(event: str) -> str:
    return f"heard-{event}"
