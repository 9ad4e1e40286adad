"""A list to choose from whose choice outlives a change of language.

Streamlit keeps a choice as the text that stood in the list: in another language it would be no option at all,
and a filter with it would fit nothing.
"""

from __future__ import annotations

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from apps.viewer.words import language


def choose(place: DeltaGenerator, label: str, options: dict[str, str], name: str) -> str:
    """The chosen code. ``options``: what is shown, in the reader's language, by its code; ``name``: of this
    list, for the session."""
    codes = list(options)
    kept = st.session_state.get(f"chosen-{name}")
    chosen = place.selectbox(
        label,
        codes,
        index=codes.index(kept) if kept in codes else 0,
        format_func=options.__getitem__,
        key=f"{name}-{language()}",
    )
    st.session_state[f"chosen-{name}"] = chosen
    return chosen
