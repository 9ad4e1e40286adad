"""The viewer's words in the reader's language."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st
import yaml

LANGUAGES = {"en": "English", "zh-TW": "繁體中文"}


@cache
def _table(language: str) -> dict[str, Any]:
    """words.yaml with one language picked out: the same tree, its leaves strings."""
    at = list(LANGUAGES).index(language)

    def pick(node: Any) -> Any:
        return {k: pick(v) for k, v in node.items()} if isinstance(node, dict) else str(node[at])

    return pick(yaml.safe_load((Path(__file__).parent / "words.yaml").read_text()))


def language() -> str:
    return st.session_state.get("language", "en")


def branch(name: str) -> dict[str, Any]:
    """All words under a name, for a component."""
    node = _table(language())
    for part in name.split("."):
        node = node[part]
    return node


def w(name: str, /, **filled: object) -> str:
    """One phrase by its dotted name. Raises KeyError for a name that words.yaml lacks."""
    node: Any = _table(language())
    for part in name.split("."):
        node = node[part]
    return node.format(**filled) if filled else node
