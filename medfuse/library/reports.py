"""Versions of reports: draft → preliminary → final → amended. Rows are only added; who did what stands in the audit log.

A person saves on top of the revision they saw. Where someone else was faster, nothing is overwritten: `Conflict` carries both texts.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from ..errors import UserError, WrongUse
from ..report import Report, Sentence
from .accounts import Account
from .audit import record
from .catalogue import ReportRow, TrainingRow, session


@dataclass(frozen=True)
class Revision:
    """One row of a report's history; ``change`` is what it did, one line each."""

    revision: int
    version: int
    state: str
    author: str
    made: datetime
    change: list[str]
    sha256: str
    report: Report


class Conflict(UserError):
    """Someone saved a newer revision meanwhile. ``theirs`` stands; ``mine`` is what was not saved."""

    def __init__(self, case_id: str, theirs: Revision, mine: Report) -> None:
        super().__init__(
            f"{case_id}: {theirs.author or 'medfuse'} saved revision {theirs.revision} meanwhile; nothing was overwritten, "
            "compare the two and save again"
        )
        self.theirs, self.mine = theirs, mine


def sha256_of(report: Report) -> str:
    return hashlib.sha256(report.model_dump_json().encode()).hexdigest()


def _revision(row: ReportRow) -> Revision:
    return Revision(row.revision, row.version, row.state, row.author, row.made, list(row.change), row.sha256, Report(**row.report))  # fmt: skip


def _newest(s: Session, case_id: str) -> ReportRow | None:
    query = select(ReportRow).where(ReportRow.case_id == case_id).order_by(ReportRow.revision.desc()).limit(1)
    return s.scalars(query).first()


def history(case_id: str) -> list[Revision]:
    """Every revision of a case's report, oldest first."""
    with session() as s:
        rows = s.scalars(select(ReportRow).where(ReportRow.case_id == case_id).order_by(ReportRow.revision))
        return [_revision(r) for r in rows]


def current(case_id: str) -> Revision | None:
    with session() as s:
        row = _newest(s, case_id)
        return None if row is None else _revision(row)


def final_version(case_id: str) -> Revision | None:
    """The newest signed version, whose content must still be what was signed. Raises UserError where it was changed."""
    signed = [r for r in history(case_id) if r.state in ("final", "amended")]
    if not signed:
        return None
    if sha256_of(signed[-1].report) != signed[-1].sha256:
        raise UserError(
            f"{case_id}: the signed report in the library is not what was signed; see medfuse audit and restore a backup"
        )
    return signed[-1]


def _add(
    s: Session, case_id: str, report: Report, author: str, change: list[str], *, after: ReportRow | None, result_id: int
) -> Revision:
    """The revision after the one that was read: where another was added meanwhile, the table refuses this one."""
    row = ReportRow(
        case_id=case_id, revision=1 if after is None else after.revision + 1, version=report.version, state=report.state,
        language=report.language, author=author, change=change, sha256=sha256_of(report), result_id=result_id,
        report=report.model_dump(mode="json"),
    )  # fmt: skip
    s.add(row)
    s.flush()
    return _revision(row)


def add_draft(s: Session, case_id: str, report: Report, result_id: int) -> Revision | None:
    """A new draft of a new prediction, in the caller's transaction. Signed versions and people's edits stay where they are:
    after a signature the draft is not taken up (amend it to work on it); before, edits remain in the history."""
    last = _newest(s, case_id)
    if last is not None and last.state in ("final", "amended"):
        return None
    version = 1 if last is None else last.version
    return _add(
        s,
        case_id,
        report.model_copy(update={"version": version}),
        "",
        ["drafted by medfuse"],
        after=last,
        result_id=result_id,
    )


def difference(before: Report, after: Report) -> list[str]:
    """Lines that went (-) and came (+), sentence by sentence with their state."""
    old, new = ([f"{s.id}: [{x.state}] {x.text}" for s in r.sections for x in s.sentences] for r in (before, after))
    lines = list(difflib.unified_diff(old, new, lineterm="", n=0))[2:]
    return [line for line in lines if not line.startswith("@@")]


def save(case_id: str, seen: int, report: Report, account: Account) -> Revision:
    """Save an edited report on top of revision ``seen``. Raises Conflict where another is newer, WrongUse on a signed one."""
    _need(account, "author", "edit a report")
    try:
        with session() as s:
            last = _newest(s, case_id)
            if last is None:
                raise WrongUse(f"{case_id}: has no report; run medfuse predict {case_id}")
            if last.state in ("final", "amended"):
                raise WrongUse(
                    f"{case_id}: version {last.version} is signed and does not change; amend it to make a new version"
                )
            before = _revision(last)
            if last.revision != seen:
                raise Conflict(case_id, before, report)
            fixed = {"version": last.version, "state": last.state, "signed_by": "", "case_id": case_id}
            report = report.model_copy(update=fixed)
            change = difference(before.report, report)
            if not change:
                return before
            saved = _add(s, case_id, report, account.name, change, after=last, result_id=last.result_id)
            audit = record(
                "report edited", who=account.name, case_id=case_id, revision=saved.revision, sha256=saved.sha256
            )
            _learn(s, before.report, report, account, audit)
            return saved
    except IntegrityError as e:  # two writers of one revision in the same instant
        theirs = current(case_id)
        if theirs is None:
            raise
        raise Conflict(case_id, theirs, report) from e


def _learn(s: Session, before: Report, after: Report, account: Account, audit: str) -> None:
    """A training record for every sentence whose state or words a person changed."""
    for section in after.sections:
        old = before.section(section.id)
        earlier = list(old.sentences) if old else []
        for n, sentence in enumerate(section.sentences):
            if sentence.state == "drafted" or sentence in earlier:
                continue
            drafted = _draft_of(sentence, earlier, n)
            action = "added" if drafted is None else "edited" if drafted.text != sentence.text else sentence.state
            s.add(TrainingRow(
                case_id=after.case_id, kind="sentence", action=action, drafted="" if drafted is None else drafted.text,
                final="" if sentence.state == "rejected" else sentence.text, section=section.id, finding=sentence.finding,
                language=after.language, author=account.name, bundle_hash=after.bundle_hash, audit=audit,
            ))  # fmt: skip


def _draft_of(sentence: Sentence, earlier: list[Sentence], place: int) -> Sentence | None:
    """The sentence that this one came from: the same words, else the one in its place that speaks of the same finding."""
    same = [x for x in earlier if x.text == sentence.text]
    if same:
        return same[0]
    if place < len(earlier) and earlier[place].finding == sentence.finding and sentence.state == "edited":
        return earlier[place]
    return None


def note_answer(
    case_id: str, question: str, drafted: str, final: str, action: str, account: Account, bundle_hash: str
) -> None:
    """A person's word on an answer of `medfuse ask`."""
    _need(account, "author", "judge an answer")
    audit = record("answer judged", who=account.name, case_id=case_id, question=question, action=action)
    with session() as s:
        s.add(TrainingRow(case_id=case_id, kind="answer", action=action, question=question, drafted=drafted, final=final,
                          author=account.name, bundle_hash=bundle_hash, audit=audit))  # fmt: skip


def set_states(report: Report, state: str, which: Callable[[Sentence], bool] = lambda x: True) -> Report:
    """A copy with the sentences chosen by ``which`` set to accepted or rejected; edited ones stay edited."""
    out = report.model_copy(deep=True)
    for section in out.sections:
        for x in section.sentences:
            if which(x) and not (state == "accepted" and x.state in ("edited", "rejected")):
                x.state = state  # type: ignore[assignment]
    return out


def waiting(report: Report) -> list[Sentence]:
    """Sentences that nobody has accepted, edited or rejected."""
    return [x for s in report.sections for x in s.sentences if x.state == "drafted"]


def promote(case_id: str, seen: int, account: Account) -> Revision:
    """draft → preliminary: read by a person, not yet signed."""
    _need(account, "author", "pass on a report")
    return _step(case_id, seen, account, ("draft",), "preliminary", "report preliminary", check=False)


def sign(case_id: str, seen: int, account: Account) -> Revision:
    """Make the report final (or amended, for a later version). Raises WrongUse while a sentence waits for a decision."""
    _need(account, "author", "sign a report")
    now = current(case_id)
    state = "amended" if now is not None and now.version > 1 else "final"
    return _step(case_id, seen, account, ("draft", "preliminary"), state, "report signed", check=True)


def _step(case_id: str, seen: int, account: Account, allowed: tuple[str, ...], state: str, event: str, *, check: bool) -> Revision:  # fmt: skip
    with session() as s:
        last = _newest(s, case_id)
        if last is None:
            raise WrongUse(f"{case_id}: has no report; run medfuse predict {case_id}")
        now = _revision(last)
        if now.revision != seen:
            raise Conflict(case_id, now, now.report)
        if now.state not in allowed:
            raise WrongUse(f"{case_id}: the report is {now.state}; " + ("amend it to make a new version" if now.state in ("final", "amended") else "nothing to do"))  # fmt: skip
        open_ = waiting(now.report)
        if check and open_:
            raise WrongUse(f"{case_id}: {len(open_)} sentence{'s' * (len(open_) > 1)} not yet accepted, edited or rejected, first: {open_[0].text[:60]!r}; decide on each before signing")  # fmt: skip
        signed_by = (account.full_name or account.name) if check else ""
        report = now.report.model_copy(update={"state": state, "signed_by": signed_by})
        done = _add(s, case_id, report, account.name, [event], after=last, result_id=last.result_id)
        record(
            event, who=account.name, case_id=case_id, revision=done.revision, version=done.version, sha256=done.sha256
        )
        return done


def amend(case_id: str, account: Account, reason: str) -> Revision:
    """A new version on top of a signed one, with every sentence open again; the signed one stays."""
    _need(account, "author", "amend a report")
    if not reason.strip():
        raise WrongUse(f"{case_id}: say why the report is amended (--reason)")
    with session() as s:
        last = _newest(s, case_id)
        if last is None or last.state not in ("final", "amended"):
            raise WrongUse(
                f"{case_id}: only a signed report is amended; this one is {last.state if last else 'missing'}"
            )
        now = _revision(last)
        report = now.report.model_copy(
            deep=True, update={"state": "draft", "version": now.version + 1, "signed_by": ""}
        )
        done = _add(s, case_id, report, account.name, [f"amended: {reason}"], after=last, result_id=last.result_id)
        record(
            "report amended",
            who=account.name,
            case_id=case_id,
            revision=done.revision,
            version=done.version,
            reason=reason,
        )
        return done


def training_records() -> list[dict]:
    """Every record with its author and audit trail, oldest first."""
    with session() as s:
        out = []
        for r in s.scalars(select(TrainingRow).order_by(TrainingRow.id)):
            fields = ("case_id", "kind", "action", "question", "drafted", "final", "section", "finding", "language", "author", "bundle_hash", "audit")  # fmt: skip
            out.append({k: getattr(r, k) for k in fields} | {"made": r.made.isoformat()})
        return out


def _need(account: Account, role: str, what: str) -> None:
    if not account.may(role):  # type: ignore[arg-type]
        raise WrongUse(f"account {account.name} is a {account.role} and may not {what}; it takes the role {role}")
