"""The viewer's one page: choose a case, read its images side by side, see the findings and the drafted report."""

from __future__ import annotations

import sys
from pathlib import Path

import streamlit as st

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # streamlit runs this file as a script

from apps.viewer import findings, images, registrations, report, worklist
from medfuse.errors import UserError
from medfuse.library import store

STYLE = """
<style>
  .block-container {padding-top: 1.2rem; padding-bottom: 1rem; max-width: 100%;}
  [data-testid="stHeader"] {background: transparent; height: 0;}
  .banner {padding: .45rem .9rem; border-radius: .4rem; margin-bottom: .5rem; font-weight: 600;}
  .banner.research {background: #3a3115; color: #ffd96a; border: 1px solid #6d5b20;}
  .banner.simulated {background: #1b2f45; color: #9fd0ff; border: 1px solid #2f5379;}
  .banner.outside {background: #4a1d1d; color: #ffb3ab; border: 1px solid #7d3530;}
  .badge {display: inline-block; padding: .05rem .5rem; border-radius: .8rem; font-size: .8rem; margin-right: .3rem;}
  .badge.present {background: #16423c; color: #8ee6d2;} .badge.limited {background: #4b3a10; color: #ffd479;}
  .badge.absent {background: #2a3036; color: #8a949c;} .badge.failed {background: #571f1f; color: #ffaca4;}
  [data-testid="stSidebar"] {width: 240px !important; min-width: 240px !important;}
  h3 {padding-top: .2rem !important; padding-bottom: .2rem !important;}
</style>
"""


@st.cache_resource(max_entries=4, show_spinner="Reading the images…")
def load(case_id: str, _version: int):
    """The case's images; at most four cases stay in memory."""
    return store.load_case(case_id)


def banners(prediction, drafted) -> None:
    kinds = (
        ["research"] + (["simulated"] if prediction.simulated else []) + ([] if prediction.in_domain else ["outside"])
    )
    for kind, text in zip(kinds, drafted.banner, strict=False):
        st.markdown(f'<div class="banner {kind}">{text}</div>', unsafe_allow_html=True)


def main() -> None:
    st.set_page_config(page_title="medfuse", page_icon="◐", layout="wide")
    st.markdown(STYLE, unsafe_allow_html=True)
    row = worklist.choose()
    if row is None:
        st.info("The library is empty. Add cases with `medfuse ingest PATH`, then `medfuse predict CASE`.")
        return
    try:
        case = load(row["case_id"], len(row["series"]))
    except UserError as e:  # such as identifiers that wait for a person: its one sentence is what to show
        st.warning(str(e))
        return
    result = store.load_result(row["case_id"])
    if result is None:
        st.markdown('<div class="banner research">Research viewer, not for clinical use.</div>', unsafe_allow_html=True)
        st.info(f"Not predicted yet: run `medfuse predict {row['case_id']}`.")
        images.show(case, None)
        return
    prediction, drafted = result
    banners(prediction, drafted)
    images.show(case, prediction)
    registrations.show(case)
    left, right = st.columns([1.25, 1], gap="large")
    with left:
        findings.show(prediction)
    with right:
        report.show(drafted)


main()
