"""Questions about the open study; an answer says what it rests on, and a person's word on it is kept to learn
from."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from apps.viewer import jobs, people
from apps.viewer.desk import library
from apps.viewer.evidence import Places
from apps.viewer.fragments import redraw
from apps.viewer.replies import AnswerReply
from apps.viewer.words import plain, w
from medfuse.errors import UserError
from medfuse.library.accounts import Account
from medfuse.library.training_records import note_answer


@st.fragment
def show(case_id: str, places: Places) -> None:
    """The part of the reading page below the findings: a question, and the answers so far."""
    st.markdown(f"### {w('ask.title')}")
    with st.form(f"ask-{case_id}", border=False):
        left, right = st.columns([5, 1], vertical_alignment="bottom")
        question = left.text_input(
            "?", placeholder=w("ask.placeholder"), key="question", label_visibility="collapsed"
        )
        asked = right.form_submit_button("↵")
    answers: list[Asked] = st.session_state.setdefault(f"answers-{case_id}", [])
    if asked and question.strip():
        try:
            with st.spinner(w("ask.thinking")):
                answers.insert(0, Asked(question, jobs.call(jobs.ask, case_id, question)))
        except UserError as e:
            st.error(plain(e))
    for n, one in enumerate(answers[:5]):
        _answer(one, places)
        who = people.account()
        if who and who.may("author") and not one.judged:
            _judge(case_id, one, who, key=str(len(answers) - n))


@dataclass
class Asked:
    """A question with its answer; ``judged``: accepted or rejected by a person, empty before."""

    question: str
    reply: AnswerReply
    judged: str = ""


def _answer(one: Asked, places: Places) -> None:
    reply = one.reply
    where = dict.fromkeys(s for p in reply.evidence if (s := places.where(p)))
    sure = "" if reply.probability is None else f" ({reply.probability:.2f})"
    st.markdown(f"**{plain(one.question)}**  \n{plain(reply.answer)}{sure}")
    st.caption(" · ".join(x for x in (reply.why, ", ".join(where)) if x))


def _judge(case_id: str, one: Asked, who: Account, *, key: str) -> None:
    """A person's word on an answer, kept to learn from."""
    left, right, _ = st.columns([1, 1, 4])
    for column, action in ((left, "accept"), (right, "reject")):
        if column.button(w(f"ask.{action}"), key=f"{action}-{key}"):
            one.judged = f"{action}ed"
            note_answer(
                library(),
                case_id,
                one.question,
                one.reply.answer,
                one.reply.answer if action == "accept" else "",
                one.judged,
                who,
                one.reply.bundle_hash,
            )
            redraw()
