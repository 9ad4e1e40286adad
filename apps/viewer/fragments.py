"""Drawing a part of the page anew, whichever run the wish for it comes in."""

from __future__ import annotations

from typing import NoReturn

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx


def redraw() -> NoReturn:
    """Run this fragment again; the whole page where the whole page is running. A click or a drawing that
    meets such a run comes in it, and Streamlit refuses to draw a fragment alone from there."""
    context = get_script_run_ctx()
    alone = context is not None and bool(context.fragment_ids_this_run)
    st.rerun(scope="fragment" if alone else "app")
    raise AssertionError  # Streamlit has stopped the run
