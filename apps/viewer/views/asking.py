"""Questions about the open study; an answer says what it rests on, and a person's word on it is kept to learn from."""

from __future__ import annotations

import streamlit as st

from apps.viewer import jobs, people
from apps.viewer.evidence import Places
from apps.viewer.words import w
from medfuse.errors import UserError
from medfuse.library.reports import note_answer
from medfuse.prediction import Place


@st.fragment
def show(case_id: str, places: Places) -> None:
    st.markdown(f"### {w('ask.title')}")
    with st.form(f"ask-{case_id}", border=False):
        left, right = st.columns([5, 1], vertical_alignment="bottom")
        question = left.text_input("?", placeholder=w("ask.placeholder"), key="question", label_visibility="collapsed")
        asked = right.form_submit_button("↵")
    answers = st.session_state.setdefault(f"answers-{case_id}", [])
    if asked and question.strip():
        try:
            with st.spinner(w("ask.thinking")):
                answers.insert(0, {"question": question, **jobs.call(jobs.ask, case_id, question)})
        except UserError as e:
            st.error(str(e))
    for n, a in enumerate(answers[:5]):
        where = [s for p in a.get("evidence", []) if (s := places.where(Place(**p)))]
        sure = "" if a.get("probability") is None else f" ({a['probability']:.2f})"
        st.markdown(f"**{a['question']}**  \n{a['answer']}{sure}")
        st.caption(" · ".join([x for x in (a.get("why", ""), ", ".join(dict.fromkeys(where))) if x]))
        who = people.account()
        if who and who.may("author") and "judged" not in a:
            left, right, _ = st.columns([1, 1, 4])
            for column, action in ((left, "accept"), (right, "reject")):
                if column.button(w(f"ask.{action}"), key=f"{action}-{len(answers) - n}"):
                    kind = f"{action}ed"
                    note_answer(
                        case_id,
                        a["question"],
                        a["answer"],
                        a["answer"] if kind == "accepted" else "",
                        kind,
                        who,
                        a.get("bundle_hash", ""),
                    )
                    a["judged"] = kind
                    st.rerun(scope="fragment")
