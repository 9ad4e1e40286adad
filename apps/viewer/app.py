"""The viewer: set the page up, know who is there, and go to the page that was asked for."""

from __future__ import annotations

import sys
from pathlib import Path

import streamlit as st
from PIL import Image as Picture
from PIL import ImageDraw

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # streamlit runs this file as a script

from apps.viewer import people
from apps.viewer.views import accounts, cohort, rating, reading, search, worklist
from apps.viewer.words import LANGUAGES, language, w

STYLE = """
<style>
  .block-container {padding: 1rem 1.6rem; max-width: 100%;}
  [data-testid="stHeader"] {background: transparent; height: 0;}
  .banners {display: flex; gap: .5rem; flex-wrap: wrap;} .banners .banner {flex: 1 1 20rem;}
  [data-testid="stLayoutWrapper"]:has(> .st-key-images) {position: sticky; top: 0; z-index: 50; background: #101417; padding: .3rem 0 .5rem; border-bottom: 1px solid #2a343b;}
  .banner {padding: .3rem .9rem; border-radius: .4rem; font-weight: 600;}
  .banner.research {background: #3a3115; color: #ffd96a; border: 1px solid #6d5b20;}
  .banner.simulated {background: #1b2f45; color: #9fd0ff; border: 1px solid #2f5379;}
  .banner.outside {background: #4a1d1d; color: #ffb3ab; border: 1px solid #7d3530;}
  .badge {display: inline-block; padding: .05rem .5rem; border-radius: .8rem; font-size: .8rem; margin-right: .3rem;}
  .badge.present {background: #16423c; color: #8ee6d2;} .badge.limited {background: #4b3a10; color: #ffd479;}
  .badge.absent {background: #2a3036; color: #aab4bb;} .badge.failed {background: #571f1f; color: #ffaca4;}
  [data-testid="stSidebar"] {width: 230px !important; min-width: 230px !important;}
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


def main() -> None:
    st.set_page_config(page_title="medfuse", page_icon=_icon(), layout="wide")
    st.html(STYLE)
    pages = {
        "worklist": st.Page(
            worklist.show, title=w("pages.worklist"), icon=":material/list:", url_path="worklist", default=True
        ),
        "read": st.Page(reading.show, title=w("pages.read"), icon=":material/radiology:", url_path="read"),
        "search": st.Page(search.show, title=w("pages.search"), icon=":material/search:", url_path="search"),
        "cohort": st.Page(cohort.show, title=w("pages.cohort"), icon=":material/monitoring:", url_path="cohort"),
        "rate": st.Page(rating.show, title=w("pages.rate"), icon=":material/balance:", url_path="rate"),
        "people": st.Page(accounts.show, title=w("pages.people"), icon=":material/group:", url_path="people"),
    }
    st.session_state["pages"] = pages  # for a page that leads to another
    chosen = st.navigation(list(pages.values()))
    with st.sidebar:
        st.segmented_control(
            w("language"), list(LANGUAGES), format_func=LANGUAGES.__getitem__, key="language-choice", required=True,
            default=language(), on_change=_speak,
        )  # fmt: skip
        people.sidebar()
    if not people.may_look():
        st.info(w("sign_in"))
        return
    chosen.run()


main()
