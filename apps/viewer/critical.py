"""The flag of a critical result, and the log of whom it was told."""

from __future__ import annotations

import streamlit as st

from apps.viewer import people
from apps.viewer.desk import library
from apps.viewer.fragments import redraw
from apps.viewer.words import names, w
from medfuse.errors import UserError
from medfuse.library import critical
from medfuse.library.accounts import Account


def show(case_id: str) -> None:
    """What was flagged and told so far, and for an author the next step."""
    log = critical.critical_log(library(), case_id)
    stands = critical.is_critical(log)
    who = people.account()
    if stands:
        st.error(f"⚑ {w('critical.stands')}: {[n.said for n in log if n.event == critical.FLAGGED][-1]}")
    if not log and (who is None or not who.may("author")):
        return
    with st.expander(w("critical.title"), expanded=stands):
        for n in log:
            words = " · ".join(x for x in (n.said, n.to, n.how) if x)
            st.caption(
                f"{n.at[:16].replace('T', ' ')} UTC · {n.who} · {names('critical.events')[n.event]} · {words}"
            )
        if who is not None and who.may("author"):
            _next(case_id, who, stands=stands)


def _next(case_id: str, who: Account, *, stands: bool) -> None:
    with st.form(f"critical-{case_id}", border=False, clear_on_submit=True):
        if stands:
            left, right = st.columns(2)
            to = left.text_input(w("critical.to"), key="critical-to")
            how = right.text_input(w("critical.how"), key="critical-how")
            why = st.text_input(w("critical.why_not"), key="critical-why")
            told = left.form_submit_button(w("critical.told"))
            lifted = right.form_submit_button(w("critical.lift"))
        else:
            said = st.text_input(w("critical.what"), key="critical-what")
            flagged = st.form_submit_button(w("critical.flag"))
    try:
        if stands and told:
            critical.tell(library(), case_id, to, how, who)
        elif stands and lifted:
            critical.lift(library(), case_id, why, who)
        elif not stands and flagged:
            critical.flag(library(), case_id, said, who)
        else:
            return
    except UserError as e:
        st.error(str(e))
        return
    redraw()
