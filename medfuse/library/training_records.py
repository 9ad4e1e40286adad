"""What people teach: every sentence and answer that they accepted, edited, rejected or added."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.orm import Session

from ..errors import WrongUse
from ..report import Report, Sentence
from .accounts import Account, need
from .audit import enter
from .catalogue import TrainingRow

if TYPE_CHECKING:
    from .library import Library


class TrainingRecord(BaseModel, frozen=True):
    """One line of `medfuse export training-records`. action: what the person did. question: of a judged
    answer. drafted: the words as drafted. final: the words that stand, empty for rejected ones. section:
    of the report. finding: that the sentence speaks of. bundle_hash: of the bundle that drafted or
    answered. audit: seal of the entry of the audit log that says so. made: when, UTC."""

    case_id: str
    kind: Literal["sentence", "answer"]
    action: Literal["accepted", "edited", "rejected", "added"]
    question: str = ""
    drafted: str = ""
    final: str = ""
    section: str = ""
    finding: str = ""
    language: str = ""
    author: str
    bundle_hash: str = ""
    audit: str = ""
    made: datetime


def learn(s: Session, before: Report, after: Report, account: Account) -> tuple[TrainingRow, ...]:
    """A training record for every sentence whose state or words a person changed; to be marked with the entry
    of the audit log that says so."""
    learned: list[TrainingRow] = []
    for section in after.sections:
        old = before.section(section.id)
        earlier = list(old.sentences) if old else []
        for n, sentence in enumerate(section.sentences):
            if sentence.state == "drafted" or sentence in earlier:
                continue
            drafted = _draft_of(sentence, earlier, n)
            action = (
                "added" if drafted is None else "edited" if drafted.text != sentence.text else sentence.state
            )
            learned.append(
                TrainingRow(
                    case_id=after.case_id,
                    kind="sentence",
                    action=action,
                    drafted="" if drafted is None else drafted.text,
                    final="" if sentence.state == "rejected" else sentence.text,
                    section=section.id,
                    finding=sentence.finding,
                    language=after.language,
                    author=account.name,
                    bundle_hash=after.bundle_hash,
                )
            )
    s.add_all(learned)
    return tuple(learned)


def _draft_of(sentence: Sentence, earlier: list[Sentence], place: int) -> Sentence | None:
    """The sentence that this one came from: the same words, else the one in its place that speaks of the same
    finding."""
    same = [x for x in earlier if x.text == sentence.text]
    if same:
        return same[0]
    if place < len(earlier) and earlier[place].finding == sentence.finding and sentence.state == "edited":
        return earlier[place]
    return None


def note_answer(
    library: Library,
    case_id: str,
    question: str,
    drafted: str,
    final: str,
    action: str,
    account: Account,
    bundle_hash: str,
) -> None:
    """A person's word on an answer of `medfuse ask` by the bundle of ``bundle_hash``. Raises WrongUse where
    it is not known which bundle answered: such a record teaches nothing."""
    need(account, "author", "judge an answer")
    if not bundle_hash:
        raise WrongUse(f"{case_id}: it is not known which bundle gave this answer; ask the question again")
    row = TrainingRow(
        case_id=case_id,
        kind="answer",
        action=action,
        question=question,
        drafted=drafted,
        final=final,
        author=account.name,
        bundle_hash=bundle_hash,
    )
    with library.session() as s:
        s.add(row)
        enter(
            s,
            "answer judged",
            who=account.name,
            case_id=case_id,
            marks=(row,),
            question=question,
            action=action,
        )


def training_records(library: Library) -> list[TrainingRecord]:
    """Every record with its author and audit trail, oldest first."""
    with library.session() as s:
        rows = s.scalars(select(TrainingRow).order_by(TrainingRow.id))
        return [TrainingRecord.model_validate(r, from_attributes=True) for r in rows]
