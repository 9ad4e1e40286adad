"""The viewer: set the page up, know who is there, and go to the page that was asked for."""

from __future__ import annotations

import sys
from pathlib import Path

import streamlit as st
from PIL import Image as Picture
from PIL import ImageDraw
from streamlit.navigation.page import StreamlitPage

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # streamlit runs this file as a script

from apps.viewer import people, ready, remembered
from apps.viewer.registry import PAGES, ViewerPage
from apps.viewer.words import LANGUAGES, language, plain, w
from medfuse.faults import fault_sentence
from medfuse.library.accounts import acting_as

STYLE = """
<style>
  .block-container {padding: 1rem 1.6rem; max-width: 100%;}
  [data-testid="stHeader"] {background: transparent; height: 0;}
  .banners {display: flex; gap: .5rem; flex-wrap: wrap;} .banners .banner {flex: 1 1 20rem;}
  .block-container:has(.st-key-desk) {padding: .3rem .5rem 0; gap: .3rem;}
  .stMain:has(.st-key-desk) .banner {font-size: .75rem; padding: .05rem .5rem; flex: 0 1 auto;}
  .stMain:has(.st-key-desk) .banners {flex-wrap: nowrap; justify-content: flex-end;}
  [data-testid="stSidebar"]:has(~ * .st-key-desk) {width: 176px !important; min-width: 176px !important;}
  [data-testid="stSidebar"]:has(~ * .st-key-desk) [data-testid="stSidebarContent"] {padding-inline: .6rem;}
  .st-key-desk > * > [data-testid="stHorizontalBlock"] {flex-wrap: nowrap; gap: .5rem;
    height: calc(100vh - var(--desk-top, 90px)); max-height: max(420px, calc(100vh - var(--desk-top, 90px)));
    min-height: 420px; align-self: flex-start; flex: 1 1 auto;}
  .st-key-desk > * > * > [data-testid="stColumn"] {min-width: 0; height: 100%;}
  .st-key-desk > * > * > [data-testid="stColumn"]:first-child {flex: 0 0 var(--images-width, 62%);
    width: var(--images-width, 62%); overflow: hidden auto;}
  .st-key-images:has([data-testid="stExpander"]) {--below: 3.3rem;}
  .st-key-desk > * > * > [data-testid="stColumn"]:last-child {flex: 1 1 0; overflow: hidden auto;
    padding-right: .4rem;}
  :root[data-away] .st-key-desk > * > * > [data-testid="stColumn"]:last-child {display: none;}
  .stApp:has(.st-key-alone) :is([data-testid="stSidebar"], [data-testid="stExpandSidebarButton"]) {
    display: none;}
  .block-container:has(.st-key-alone) {padding: .5rem 1rem; gap: .3rem;}
  [data-testid="stBaseButton-primary"]:enabled p, [data-testid="stBaseButton-primaryFormSubmit"]:enabled p {
    color: #06252a;}
  .banner {padding: .3rem .9rem; border-radius: .4rem; font-weight: 600;}
  .banner.research {background: #3a3115; color: #ffd96a; border: 1px solid #6d5b20;}
  .banner.simulated {background: #1b2f45; color: #9fd0ff; border: 1px solid #2f5379;}
  .banner.outside {background: #4a1d1d; color: #ffb3ab; border: 1px solid #7d3530;}
  .badge {display: inline-block; padding: .05rem .5rem; border-radius: .8rem; font-size: .8rem;
    margin-right: .3rem;}
  .badge.present {background: #16423c; color: #8ee6d2;} .badge.limited {background: #4b3a10; color: #ffd479;}
  .badge.absent {background: #2a3036; color: #aab4bb;} .badge.failed {background: #571f1f; color: #ffaca4;}
  [data-testid="stSidebar"] {width: 230px !important; min-width: 230px !important;}
  :is([data-testid="stSidebar"], [class*="st-key-report-language-"]) [data-testid="stButtonGroup"] button {
    padding-inline: .45rem; min-width: 0; font-size: .8rem; white-space: nowrap;}
  :is([data-testid="stSidebar"], [class*="st-key-report-language-"]) [data-testid="stButtonGroup"] > div {
    flex-wrap: nowrap;}
  [class*="st-key-cases-"] [data-testid="stElementToolbar"] {display: none;}
  [data-unsaved] :is(.st-key-sign, .st-key-sign-now) button {pointer-events: none; opacity: .4;}
  .st-key-whose p {white-space: nowrap; overflow: hidden; text-overflow: ellipsis; margin: 0;}
  .st-key-whose code {white-space: nowrap;}
  .st-key-paper [data-testid^="stBaseButton"] :is(div, p) {white-space: normal; overflow: visible;}
  h3 {padding-top: .2rem !important; padding-bottom: .2rem !important;}
</style>
"""


@st.cache_resource
def _icon() -> Picture.Image:
    """A half-filled disc. A picture of our own: Streamlit would fetch a named icon from outside."""
    icon = Picture.new("RGBA", (64, 64))
    draw = ImageDraw.Draw(icon)
    draw.ellipse((6, 6, 58, 58), outline="#4fb3bf", width=6)
    draw.pieslice((6, 6, 58, 58), 90, 270, fill="#4fb3bf")
    return icon


def _speak() -> None:
    """Keep the choice under a key of our own: a widget's goes when another page is opened by a button."""
    st.session_state["language"] = st.session_state["language-choice"]
    remembered.keep()


def _recall() -> None:
    """The language stands in the address, so that loading the page anew keeps it."""
    asked = st.query_params.get("language")
    if "language" not in st.session_state and asked in LANGUAGES:
        st.session_state["language"] = asked
    remembered.recall_language()
    if language() != next(iter(LANGUAGES)):
        st.query_params["language"] = language()
    else:
        st.query_params.pop("language", None)


def _streamlit_page(page: ViewerPage) -> StreamlitPage:
    """The page as Streamlit's navigation takes it, in the reader's language."""
    title = w(f"pages.{page.key}") if page.title is None else page.title.get(language(), page.title["en"])
    return st.Page(
        page.show,
        title=title,
        icon=f":material/{page.icon}:",
        url_path=page.key,
        default=page is PAGES[0],
    )


def main() -> None:
    """Draw the frame around every page, and the page that was asked for."""
    people.note_browser()
    st.set_page_config(page_title="medfuse", page_icon=_icon(), layout="wide")
    st.html(STYLE)
    _recall()
    pages = {page.key: _streamlit_page(page) for page in PAGES}
    st.session_state["pages"] = pages  # for a page that leads to another
    chosen = st.navigation(list(pages.values()))
    with st.sidebar:
        st.segmented_control(
            w("language"),
            list(LANGUAGES),
            format_func=LANGUAGES.__getitem__,
            key="language-choice",
            required=True,
            default=language(),
            on_change=_speak,
        )
        people.sidebar()
        ready.watch()
    if not people.may_look():
        st.info(w("sign_in"))
        return
    _run(chosen)


def _run(page: StreamlitPage) -> None:
    """Draw a page with the rights of who is here; a fault of the machine is a sentence on it."""
    try:
        with acting_as(people.acts()):
            page.run()
    except Exception as e:
        why = fault_sentence(e)
        if why is None:
            raise
        st.error(plain(why))


main()
