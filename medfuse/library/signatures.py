"""The keyed signature of a signed report: over its content, who signed it, when, and as what."""

from __future__ import annotations

import hashlib
from datetime import UTC

from ..drafting.phrases import SIGNED as SAID_SIGNED
from ..drafting.phrases import UNSIGNED as SAID_UNSIGNED
from ..report import Report
from .audit_key import mac
from .catalogue import ReportRow

SIGNED = ("final", "amended")  # states of a report that somebody signed


def sha256_of(report: Report) -> str:
    """The hash of a report's content, which its signature and the audit log name."""
    return hashlib.sha256(report.model_dump_json().encode()).hexdigest()


def with_banner(report: Report, *, signed: bool) -> Report:
    """The report under the first banner that fits: a signed one no longer waits for a signature."""
    said = SAID_SIGNED if signed else SAID_UNSIGNED
    first = said.get(report.language, said["en"])
    return report.model_copy(update={"banner": [first, *report.banner[1:]]})


def signature_of(key: bytes, row: ReportRow) -> str:
    """HMAC-SHA-256 of a signed version as it stands in the database. Raises ValidationError where it holds no
    report."""
    made = row.made.replace(tzinfo=row.made.tzinfo or UTC).astimezone(UTC).isoformat()
    parts = (row.case_id, row.revision, row.version, row.state, row.author, made, row.result_id)
    return mac(key, ["signature", *parts, sha256_of(Report(**row.report))])
