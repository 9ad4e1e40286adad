"""The header of the slice that a reader asks for: read when it is asked for, by who may see the case."""

from __future__ import annotations

import streamlit as st

from apps.viewer.desk import library
from apps.viewer.post import fresh
from medfuse.display.contract import CaseImages
from medfuse.display.tags import ShownTag, ShownTags, TagsAsked
from medfuse.io.tags import tags_of
from medfuse.library.image_files import stored_path

PLACE = "tags"  # in the session: of which case they are, and what is shown


def shown(case_key: str) -> ShownTags | None:
    """What is open over the images of a case."""
    key, tags = st.session_state.get(PLACE, ("", None))
    return tags if key == case_key else None


def wished(case_key: str, message: object, cases: list[CaseImages]) -> bool:
    """Read what a new message asks for, or put it away; False where there is none.

    cases: whose images the page shows, in their order. Raises UserError for a message that cannot be read.
    """
    asked = fresh("tags", TagsAsked, message)
    if asked is None:
        return False
    if asked.image is None:
        st.session_state.pop(PLACE, None)
        return True
    files = [names for case in cases for names in case.files]
    names = files[asked.image] if 0 <= asked.image < len(files) else []
    st.session_state[PLACE] = (case_key, _read(asked, names))
    return True


def _read(asked: TagsAsked, names: list[str]) -> ShownTags:
    image, at = asked.image or 0, asked.slice
    if not names:
        return ShownTags(image=image, slice=at)
    found = tags_of(stored_path(library(), names[min(at, len(names) - 1)]))
    if isinstance(found, str):
        return ShownTags(image=image, slice=at, problem=found)
    lines = [ShownTag(depth=x.depth, tag=x.tag, name=x.name, vr=x.vr, value=x.value) for x in found.lines]
    return ShownTags(image=image, slice=at, lines=lines, left=found.left)
