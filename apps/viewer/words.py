"""The viewer's words in the reader's language."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st
import yaml

LANGUAGES = {"en": "English", "zh-TW": "繁體中文"}


@cache
def table_of(language: str) -> dict[str, Any]:
    """words.yaml with one language picked out: the same tree, its leaves strings."""
    at = list(LANGUAGES).index(language)

    def pick(node: Any) -> Any:
        return {k: pick(v) for k, v in node.items()} if isinstance(node, dict) else str(node[at])

    return pick(yaml.safe_load((Path(__file__).parent / "words.yaml").read_text()))


def language() -> str:
    return st.session_state.get("language", "en")


def branch(name: str) -> dict[str, Any]:
    """All words under a name, for a component."""
    node = table_of(language())
    for part in name.split("."):
        node = node[part]
    return node


def w(name: str, /, **filled: object) -> str:
    """One phrase by its dotted name. Raises KeyError for a name that words.yaml lacks."""
    node: Any = table_of(language())
    for part in name.split("."):
        node = node[part]
    return node.format(**filled) if filled else node


@cache
def finding_names(bundle: str, language: str) -> dict[str, str]:
    """Names of a bundle's findings in a language, from its task; empty for a bundle that is not here."""
    import medfuse
    from medfuse.settings import settings
    from medfuse.task import load_task

    for root in (settings().home / "bundles", Path(medfuse.__file__).parent / "bundles"):
        path = root / bundle / "task" / "task.yaml"
        if path.exists():
            return {f.id: f.label(language) for f in load_task(path).findings}
    return {}
