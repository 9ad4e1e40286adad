"""The front end's parts as Streamlit components: their programs come once from /medfuse/ui, their data with
each run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

from medfuse.display.contract import Message

# the program is fetched by the browser once; what a rerun sends is the data alone
_MOUNT = """
const url = new URL('medfuse/ui/medfuse.js', document.baseURI).href
export default function (component) {
  const root = component.parentElement
  root.medfuseGone = false
  import(url).then((m) => { if (!root.medfuseGone) m.mount(component) })
  return () => { root.medfuseGone = true; import(url).then((m) => { if (root.medfuseGone) m.unmount(root) }) }
}
"""
_CSS = (Path(__file__).parent / "frontend" / "src" / "reader.css").read_text(encoding="utf-8")


def _part(part: str) -> Callable[..., Any]:
    component = st.components.v2.component(f"medfuse_{part}", css=_CSS, js=_MOUNT)

    def mount(data: Message, *, key: str, **events: Any) -> Any:
        """``key``: another one mounts the part anew. Events are called as ``on_NAME_change``."""
        return component(data={"part": part, "key": key, **data.model_dump(mode="json")}, key=key, **events)

    return mount


reader = _part("reader")
findings = _part("findings")
report = _part("report")
opener = _part("opener")
referred = _part("referred")
