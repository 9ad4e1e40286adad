"""On whatever page a reader is: a notice when a prediction that they asked for has ended, with a link to its
case."""

from __future__ import annotations

from urllib.parse import quote

import streamlit as st

from apps.viewer import jobs, people
from apps.viewer.desk import library
from apps.viewer.words import language, plain, w
from medfuse.library import store

EVERY_S = 2.0
SEEN = "predictions-under-way"  # in the session: cases whose end is to be told


def watch() -> None:
    """Tell of what ended since the page was last drawn, and look again while something of this reader's is
    under way."""
    if tell():
        st.fragment(run_every=EVERY_S)(tell)()


def tell() -> bool:
    """Toast each prediction of this reader's that ended; whether more are under way. Nothing is told, nor a
    patient named, to somebody who may not look: they share no account with who asked as nobody."""
    if not people.may_look():
        return False
    who = people.account()
    mine = {j.case_id: j for j in list(jobs.jobs.values()) if j.by == (who.name if who else "")}
    going = {c for c, j in mine.items() if j.state in ("queued", "waiting")}
    ended = [mine[c] for c in sorted(st.session_state.get(SEEN, set()) - going) if c in mine]
    st.session_state[SEEN] = going
    for job in ended:
        shown = st.query_params.get("case") == job.case_id  # its page shows it by itself
        if not shown and store.has_case(library(), job.case_id):
            _toast(job)
    return bool(going)


def _toast(job: jobs.Job) -> None:
    name = plain(store.identity_of(library(), job.case_id).name or job.case_id)
    if job.state == "failed":
        st.toast(w("ready.failed", name=name, why=plain(job.why)), icon=":material/error:", duration="long")
        return
    address = f"read?language={language()}&case={quote(job.case_id, safe='')}"
    said = w("ready.done", name=name)
    st.toast(f"{said} · [{w('ready.open')}]({address})", icon=":material/task_alt:", duration="long")
