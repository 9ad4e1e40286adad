"""Blinded human evaluation: one text at a time, in random order, without saying who wrote it."""

from __future__ import annotations

import time

import streamlit as st

from apps.viewer import people
from apps.viewer.desk import library
from apps.viewer.words import plain, w
from medfuse.errors import UserError
from medfuse.library import ratings
from medfuse.library.accounts import Account


def show() -> None:
    """The page: the next text that this account has not rated."""
    st.markdown(f"### {w('pages.rate')}")
    who = people.account()
    if who is None:
        st.info(w("rate.need"))
        return
    left = ratings.waiting_for(library(), who)
    done = ratings.counts(library()).get(who.name, 0)
    if not left:
        st.success(w("rate.done", n=done))
    else:
        _one(left[0], who, len(left))
    if who.may("admin"):
        st.download_button(
            w("cohort.csv"),
            ratings.export(ratings.ratings(library())),
            file_name="ratings.csv",
            key="ratings-csv",
        )


def _one(item: ratings.Item, who: Account, left: int) -> None:
    key = f"{item.case_id}-{item.kind}"
    started = st.session_state.setdefault("rating-started", {}).setdefault(key, time.monotonic())
    st.caption(w("rate.intro") + " · " + w("rate.left", n=left))
    text, form = st.columns([1.6, 1], gap="large")
    with text.container(border=True):
        st.text(item.text)
        if st.button(w("worklist.open"), key="rate-open", help=item.case_id):
            st.session_state["case"] = st.session_state["blind"] = item.case_id
            st.switch_page(st.session_state["pages"]["read"])
    with form.form(f"rate-{key}"):
        scores = {
            s: st.segmented_control(w(f"rate.{s}"), [1, 2, 3, 4, 5], key=f"{s}-{key}") for s in ratings.SCALES
        }
        st.caption(w("rate.scale"))
        if st.form_submit_button(w("rate.next"), type="primary"):
            try:
                ratings.rate(
                    library(),
                    item,
                    who,
                    {k: int(v or 0) for k, v in scores.items()},
                    seconds=time.monotonic() - started,
                )
            except UserError as e:
                st.error(plain(e))
                return
            st.session_state.pop("blind", None)
            st.rerun()
