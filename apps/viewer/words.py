"""The viewer's words in the reader's language."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import streamlit as st
import yaml

from medfuse.modalities import MODALITIES

LANGUAGES = {"en": "English", "zh-TW": "繁體中文"}
Tree: TypeAlias = "dict[str, str | Tree]"  # words by name, in branches
MARKUP = "\\`[]<$"  # what begins code, pictures, links, tags and formulas


@cache
def table_of(language: str) -> Tree:
    """words.yaml with one language picked out: the same tree, its leaves strings."""
    at = list(LANGUAGES).index(language)

    def pick(node: dict[str, Any]) -> Tree:
        return {k: pick(v) if isinstance(v, dict) else str(v[at]) for k, v in node.items()}

    return pick(yaml.safe_load((Path(__file__).parent / "words.yaml").read_text(encoding="utf-8")))


def language() -> str:
    """The language that this session has chosen, English before it has."""
    return st.session_state.get("language", "en")


def _at(name: str, spoken: str = "") -> str | Tree:
    node: str | Tree = table_of(spoken or language())
    for part in name.split("."):
        if isinstance(node, str):
            raise KeyError(f"{name}: words.yaml holds one phrase above it")
        node = node[part]
    return node


def branch(name: str, spoken: str = "") -> Tree:
    """All words under a dotted name, for a component; in the reader's language or the one named. Raises
    KeyError where words.yaml has no such branch."""
    node = _at(name, spoken)
    if isinstance(node, str):
        raise KeyError(f"{name}: is one phrase of words.yaml, not a branch")
    return node


def names(name: str, spoken: str = "") -> dict[str, str]:
    """The phrases right under a dotted name, such as the states of a case by their code."""
    return {k: v for k, v in branch(name, spoken).items() if isinstance(v, str)}


def modality_words() -> dict[str, str]:
    """The name of each modality by its code."""
    return {m.code: m.word[language()] for m in MODALITIES.values()}


def w(name: str, /, **filled: object) -> str:
    """One phrase by its dotted name. Raises KeyError for a name that words.yaml lacks."""
    phrase = _at(name)
    if not isinstance(phrase, str):
        raise KeyError(f"{name}: is a branch of words.yaml, not one phrase")
    return phrase.format(**filled) if filled else phrase


def plain(text: object) -> str:
    """A text of somebody else's, such as a patient's id or a file's name, for a place that draws Markdown: no
    picture, link, formula or markup comes of it."""
    return "".join(f"\\{c}" if c in MARKUP else c for c in str(text))


def dated(date: str) -> str:
    """20240614 as 2024-06-14; anything else as it is."""
    return f"{date[:4]}-{date[4:6]}-{date[6:]}" if len(date) == 8 and date.isdigit() else date


def finding_word(finding: str) -> str:
    """A finding's name in the reader's language, by the first bundle that knows it; its id without one."""
    return _every_finding(language()).get(finding, finding.replace("_", " "))


@cache
def _every_finding(language: str) -> dict[str, str]:
    from medfuse.bundles.registry import list_bundles

    out: dict[str, str] = {}
    for folder in list_bundles():
        out = {**finding_names(str(folder), language), **out}
    return out


@cache
def finding_names(bundle: str, language: str) -> dict[str, str]:
    """Names of a bundle's findings in a language, from its task; empty for a bundle that is not here."""
    from medfuse.bundles.registry import find_bundle
    from medfuse.errors import WrongUse
    from medfuse.task import load_task

    try:
        path = find_bundle(bundle) / "task" / "task.yaml"
    except WrongUse:
        return {}
    return {f.id: f.label(language) for f in load_task(path).findings} if path.exists() else {}


@cache
def task_languages(bundle: str) -> tuple[str, ...]:
    """The languages of the templates of a bundle's task; the viewer's own where there is no such bundle."""
    from medfuse.bundles.registry import find_bundle
    from medfuse.drafting.templates import languages
    from medfuse.errors import WrongUse
    from medfuse.task import load_task

    try:
        path = find_bundle(bundle) / "task" / "task.yaml"
    except WrongUse:
        return tuple(LANGUAGES)
    spoken = languages(load_task(path)) if path.exists() else []
    return tuple(spoken) or tuple(LANGUAGES)
