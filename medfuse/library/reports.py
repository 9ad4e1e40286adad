"""Versions of reports: draft → preliminary → final → amended. Rows are only added; who did what stands in the
audit log.

A person saves on top of the revision they saw. Where someone else was faster, nothing is overwritten:
`Conflict` carries both texts.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from ..errors import UserError, WrongUse
from ..io.names import log_name
from ..report import Report
from .accounts import Account, need
from .audit import enter
from .audit_key import need_key
from .catalogue import CaseRow, ReportRow, ResultRow, latest_result
from .report_changes import changed_sentences as changed_sentences
from .report_changes import difference as difference
from .report_changes import set_states as set_states
from .report_changes import waiting as waiting
from .report_changes import word_difference as word_difference
from .revisions import Conflict as Conflict
from .revisions import Revision as Revision
from .revisions import newest_row, revision_of
from .signatures import SIGNED, sha256_of, signature_of, with_banner
from .training_records import learn

if TYPE_CHECKING:
    from .library import Library

log = logging.getLogger(__name__)


def history(library: Library, case_id: str) -> list[Revision]:
    """Every revision of a case's report, oldest first."""
    with library.session() as s:
        rows = s.scalars(select(ReportRow).where(ReportRow.case_id == case_id).order_by(ReportRow.revision))
        return [revision_of(r) for r in rows]


def current(library: Library, case_id: str) -> Revision | None:
    """The revision that stands; None for a case without a report."""
    with library.session() as s:
        row = newest_row(s, case_id)
        return None if row is None else revision_of(row)


def final_version(library: Library, case_id: str) -> Revision | None:
    """The newest signed version, whose content must still be what was signed. Raises UserError where it was
    changed."""
    with library.session() as s:
        newest = (
            select(ReportRow)
            .where(ReportRow.case_id == case_id, ReportRow.state.in_(SIGNED))
            .order_by(ReportRow.revision.desc())
            .limit(1)
        )
        row = s.scalars(newest).first()
        if row is None:
            return None
        sound = hmac.compare_digest(signature_of(need_key(library), row), row.signature)
        if not sound or sha256_of(Report(**row.report)) != row.sha256:
            raise UserError(
                f"{case_id}: the signed report in the library is not what was signed; see medfuse audit "
                "and restore a backup"
            )
        return revision_of(row)


def _add(
    s: Session,
    case_id: str,
    report: Report,
    author: str,
    change: list[str],
    *,
    after: ReportRow | None,
    result_id: int,
    key: bytes | None = None,
) -> Revision:
    """The revision after the one that was read: where another was added meanwhile, the table refuses this
    one. ``key``: that it is signed with."""
    row = ReportRow(
        case_id=case_id,
        revision=1 if after is None else after.revision + 1,
        version=report.version,
        state=report.state,
        language=report.language,
        author=author,
        change=change,
        sha256=sha256_of(report),
        result_id=result_id,
        report=report.model_dump(mode="json"),
    )
    s.add(row)
    s.flush()
    if key is not None:
        row.signature = signature_of(key, row)
    return revision_of(row)


def add_draft(s: Session, case_id: str, report: Report, result_id: int) -> Revision | None:
    """A new draft of a new prediction, in the caller's transaction. It replaces nothing but an earlier draft:
    where the report is signed, or a person has worked on it, None, and the draft stands beside it (see
    `draft_beside`)."""
    last = newest_row(s, case_id)
    if last is not None and (last.state in SIGNED or last.author):
        log.warning(
            "%s: revision %d is the work of %s and stays; the new draft stands beside it",
            log_name(case_id),
            last.revision,
            last.author,
        )
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


def start(library: Library, report: Report, account: Account) -> Revision:
    """The first revision of a report by hand, of a case that no model has drafted one for. Raises Conflict
    where there is a report already."""
    need(account, "author", "write a report")
    case_id = report.case_id
    with library.session() as s:
        last = newest_row(s, case_id)
        if last is not None:
            raise Conflict(case_id, revision_of(last), report)
        begun = _add(s, case_id, report, account.name, ["begun by hand"], after=None, result_id=0)
        enter(
            s,
            "report begun",
            who=account.name,
            case_id=case_id,
            revision=begun.revision,
            sha256=begun.sha256,
        )
        return begun


def draft_beside(library: Library, case_id: str) -> Report | None:
    """The draft of a newer prediction than the one that the report was drafted from; None where there is
    none."""
    with library.session() as s:
        newer = _newer_result(s, case_id, newest_row(s, case_id))
        return None if newer is None else Report(**newer.report)


def _newer_result(s: Session, case_id: str, last: ReportRow | None) -> ResultRow | None:
    newest = latest_result(s, case_id)
    return newest if last is not None and newest is not None and newest.id > last.result_id else None


def take_draft(library: Library, case_id: str, seen: int, account: Account) -> Revision:
    """Put the draft that stands beside revision ``seen`` in its place: a person's decision. What was there
    remains in the history. Raises Conflict where another revision is newer, WrongUse where there is no such
    draft or the report is signed."""
    need(account, "author", "take up a draft")
    with library.session() as s:
        last = newest_row(s, case_id)
        newer = _newer_result(s, case_id, last)
        if last is None or newer is None or last.state in SIGNED:
            raise WrongUse(f"{case_id}: no new draft stands beside an unsigned report; predict it again")
        beside = Report(**newer.report)
        if last.revision != seen:
            raise Conflict(case_id, revision_of(last), beside)
        report = beside.model_copy(update={"version": last.version})
        change = [f"new draft, taken up by {account.name}"]
        done = _add(s, case_id, report, "", change, after=last, result_id=newer.id)
        enter(
            s,
            "draft taken up",
            who=account.name,
            case_id=case_id,
            revision=done.revision,
            sha256=done.sha256,
        )
        return done


@contextmanager
def _one_writer(library: Library, case_id: str, mine: Report | None = None) -> Iterator[None]:
    """Of two who write one revision in the same instant, the second gets a Conflict with what the first
    wrote."""
    try:
        yield
    except IntegrityError as e:
        theirs = current(library, case_id)
        if theirs is None:
            raise
        raise Conflict(case_id, theirs, mine or theirs.report) from e


def save(library: Library, case_id: str, seen: int, report: Report, account: Account) -> Revision:
    """Save an edited report on top of revision ``seen``. Raises Conflict where another is newer, WrongUse on
    a signed one."""
    need(account, "author", "edit a report")
    with _one_writer(library, case_id, report), library.session() as s:
        last = newest_row(s, case_id)
        if last is None:
            raise WrongUse(f"{case_id}: has no report; run medfuse predict {case_id}")
        if last.state in SIGNED:
            raise WrongUse(
                f"{case_id}: version {last.version} is signed and does not change; amend it to "
                "make a new version"
            )
        before = revision_of(last)
        if last.revision != seen:
            raise Conflict(case_id, before, report)
        fixed = {"version": last.version, "state": last.state, "signed_by": "", "case_id": case_id}
        report = report.model_copy(update=fixed)
        change = difference(before.report, report)
        if not change:
            return before
        saved = _add(s, case_id, report, account.name, change, after=last, result_id=last.result_id)
        enter(
            s,
            "report edited",
            who=account.name,
            case_id=case_id,
            marks=learn(s, before.report, report, account),
            revision=saved.revision,
            sha256=saved.sha256,
        )
        return saved


def promote(library: Library, case_id: str, seen: int, account: Account) -> Revision:
    """draft → preliminary: read by a person, not yet signed."""
    need(account, "author", "pass on a report")
    return _step(library, case_id, seen, account, PASSED_ON)


def sign(
    library: Library, case_id: str, seen: int, account: Account, *, looked_at: tuple[str, ...] = ()
) -> Revision:
    """Make the report final (or amended, for a later version). ``looked_at``: doubts that the signer has seen
    and put aside, for the audit log. Raises WrongUse while a sentence waits for a decision, or identifiers
    do."""
    need(account, "author", "sign a report")
    return _step(library, case_id, seen, account, replace(SIGNING, looked_at=looked_at))


def restore(library: Library, case_id: str, seen: int, revision: int, account: Account) -> Revision:
    """Put an earlier revision's text back on top of revision ``seen``. Raises WrongUse where there is no such
    revision, and what `save` raises."""
    with library.session() as s:
        row = s.scalars(
            select(ReportRow).where(ReportRow.case_id == case_id, ReportRow.revision == revision)
        ).first()
        if row is None:
            raise WrongUse(f"{case_id}: there is no revision {revision} of its report")
        earlier = Report(**row.report)
    now = current(library, case_id)
    assert now is not None
    return save(library, case_id, seen, earlier.model_copy(update={"banner": now.report.banner}), account)


@dataclass(frozen=True, kw_only=True)
class _Step:
    """A change of a report's state: from which states, its event in the audit log, and whether it is a
    signature."""

    allowed: tuple[str, ...]
    event: str
    signs: bool
    looked_at: tuple[str, ...] = ()

    def state_after(self, now: Revision) -> Literal["preliminary", "final", "amended"]:
        """final for a first signed version, amended for a later one; preliminary without a signature."""
        return "preliminary" if not self.signs else "amended" if now.version > 1 else "final"


PASSED_ON = _Step(allowed=("draft",), event="report preliminary", signs=False)
SIGNING = _Step(allowed=("draft", "preliminary"), event="report signed", signs=True)


def _step(library: Library, case_id: str, seen: int, account: Account, step: _Step) -> Revision:
    with _one_writer(library, case_id), library.session() as s:
        last = newest_row(s, case_id)
        if last is None:
            raise WrongUse(f"{case_id}: has no report; run medfuse predict {case_id}")
        now = revision_of(last)
        if now.revision != seen:
            raise Conflict(case_id, now, now.report)
        if now.state not in step.allowed:
            raise WrongUse(
                f"{case_id}: the report is {now.state}; "
                + ("amend it to make a new version" if now.state in SIGNED else "nothing to do")
            )
        if step.signs:
            _check_ready(now.report)
            case = s.get(CaseRow, case_id)
            if case is not None and case.conflict:
                raise WrongUse(
                    f"{case_id}: {case.conflict}; look at the studies and confirm them before signing"
                )
        signed_by = (account.full_name or account.name) if step.signs else ""
        report = now.report.model_copy(update={"state": step.state_after(now), "signed_by": signed_by})
        report = with_banner(report, signed=True) if step.signs else report
        done = _add(
            s,
            case_id,
            report,
            account.name,
            [step.event],
            after=last,
            result_id=last.result_id,
            key=need_key(library) if step.signs else None,
        )
        enter(
            s,
            step.event,
            who=account.name,
            case_id=case_id,
            revision=done.revision,
            version=done.version,
            sha256=done.sha256,
            looked_at=list(step.looked_at),
        )
        return done


def _check_ready(report: Report) -> None:
    """Raises WrongUse for a report that cannot be signed: a sentence waits, or nothing of the images is
    said."""
    open_ = waiting(report)
    if open_:
        raise WrongUse(
            f"{report.case_id}: {len(open_)} sentence{'s' * (len(open_) > 1)} not yet accepted, edited or "
            f"rejected, first: {open_[0].text[:60]!r}; decide on each before signing"
        )
    if not says_something(report):
        raise WrongUse(
            f"{report.case_id}: the report says nothing of the images; write or accept a sentence under "
            "findings or impression before signing"
        )


def says_something(report: Report) -> bool:
    """Whether a finding or an impression stands in it: without either there is nothing to sign."""
    told = (s for s in report.sections if s.id in ("findings", "impression"))
    return any(x.text.strip() and x.state != "rejected" for s in told for x in s.sentences)


def amend(library: Library, case_id: str, account: Account, reason: str) -> Revision:
    """A new version on top of a signed one, with every sentence open again; the signed one stays."""
    need(account, "author", "amend a report")
    if not reason.strip():
        raise WrongUse(f"{case_id}: say why the report is amended (--reason)")
    with library.session() as s:
        last = newest_row(s, case_id)
        if last is None or last.state not in SIGNED:
            raise WrongUse(
                f"{case_id}: only a signed report is amended; this one is {last.state if last else 'missing'}"
            )
        now = revision_of(last)
        report = now.report.model_copy(
            deep=True, update={"state": "draft", "version": now.version + 1, "signed_by": ""}
        )
        report = with_banner(report, signed=False)
        done = _add(
            s, case_id, report, account.name, [f"amended: {reason}"], after=last, result_id=last.result_id
        )
        enter(
            s,
            "report amended",
            who=account.name,
            case_id=case_id,
            revision=done.revision,
            version=done.version,
            reason=reason,
        )
        return done
