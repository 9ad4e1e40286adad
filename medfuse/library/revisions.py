"""One revision of a report, and the conflict of two that were made at once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from ..errors import UserError
from ..report import Report, SignedOff
from .catalogue import ReportRow
from .signatures import SIGNED


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

    @property
    def signed(self) -> SignedOff | None:
        """Who signed it and when; None where nobody did."""
        if self.state not in SIGNED:
            return None
        return SignedOff(name=self.report.signed_by or self.author, at=self.made, version=self.version)


class Conflict(UserError):
    """Someone saved a newer revision meanwhile. ``theirs`` stands; ``mine`` is what was not saved."""

    def __init__(self, case_id: str, theirs: Revision, mine: Report) -> None:
        super().__init__(
            f"{case_id}: {theirs.author or 'medfuse'} saved revision {theirs.revision} meanwhile; "
            "nothing was overwritten, "
            "compare the two and save again"
        )
        self.theirs = theirs
        self.mine = mine


def revision_of(row: ReportRow) -> Revision:
    """A row as it is handed out."""
    return Revision(
        row.revision,
        row.version,
        row.state,
        row.author,
        row.made,
        list(row.change),
        row.sha256,
        Report(**row.report),
    )


def newest_row(s: Session, case_id: str) -> ReportRow | None:
    """The row that stands, in the caller's transaction."""
    query = select(ReportRow).where(ReportRow.case_id == case_id).order_by(ReportRow.revision.desc()).limit(1)
    return s.scalars(query).first()
