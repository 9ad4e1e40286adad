"""The pages of the viewer, in the order of its menu; the first one opens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from apps.viewer.pages import accounts, cohort, rating, reading, search, worklist


@dataclass(frozen=True, kw_only=True)
class ViewerPage:
    """One page. ``key`` is its address and the name of its words (``pages.KEY`` of words.yaml), ``icon`` a
    Material symbol, ``title`` by language stands in place of words.yaml for a page from outside."""

    key: str
    show: Callable[[], None]
    icon: str
    title: dict[str, str] | None = None


PAGES: list[ViewerPage] = [
    ViewerPage(key="worklist", show=worklist.show, icon="list"),
    ViewerPage(key="read", show=reading.show, icon="radiology"),
    ViewerPage(key="search", show=search.show, icon="search"),
    ViewerPage(key="cohort", show=cohort.show, icon="monitoring"),
    ViewerPage(key="rate", show=rating.show, icon="balance"),
    ViewerPage(key="people", show=accounts.show, icon="group"),
]
