"""ledger.csv: one row a report message and one a study (by a recipe: a file, a row of a table), so that the
counts add up to what was given."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Literal

from ..io.cells import harmless_row
from .link import Link
from .rows import Reports
from .studies import Study

Kind = Literal["report", "study", "file", "row"]


@dataclass(frozen=True)
class LedgerRow:
    """kind: report or study; file or row. id: of the report message, StudyInstanceUID, path in the folder, or
    table and number. status: linked, unresolved (a person decides), refused or, of a file, ignored.
    linked_to: StudyInstanceUIDs, ids of reports, or cases, parted by blanks."""

    kind: Kind
    id: str
    status: str
    rule: str
    linked_to: str
    reason: str


COLUMNS = tuple(f.name for f in fields(LedgerRow))


def ledger_rows(reports: Reports, links: Iterable[Link], studies: list[Study]) -> list[LedgerRow]:
    """Every message that was given, in order, then every study by date."""
    known: dict[str, LedgerRow] = {}
    claims: dict[tuple[str, str], list[Link]] = {}
    for link in links:
        to = " ".join(s.uid for s in link.studies)
        report = link.report
        known[report.id] = LedgerRow("report", report.id, link.status, link.rule, to, link.reason)
        for row in report.history:
            why = f"{row.status}; kept with {report.id}" + (f": {link.reason}" if link.reason else "")
            known[row.id] = LedgerRow("report", row.id, link.status, link.rule, to, why)
        for study in link.studies:
            claims.setdefault(study.key, []).append(link)
    for refused in reports.refused:
        reason = f"{refused.source}: {refused.reason}"
        known[refused.id] = LedgerRow("report", refused.id, "refused", "", "", reason)
    order = [*(r.id for r in reports.rows), *(r.id for r in reports.refused)]
    return [*(known[i] for i in order), *(_study_row(s, claims.get(s.key, [])) for s in studies)]


def _study_row(study: Study, links: list[Link]) -> LedgerRow:
    if links:
        ids = " ".join(k.report.id for k in links)
        return LedgerRow("study", study.uid, "linked", links[0].rule, ids, "")
    return LedgerRow("study", study.uid, "unresolved", "", "", study.conflict or "no report was linked to it")


def write_ledger(path: Path, rows: Iterable[LedgerRow]) -> None:
    """A CSV that spreadsheets open: UTF-8 with its mark; a value that would be a formula begins with '."""
    with path.open("w", newline="", encoding="utf-8-sig") as f:
        out = csv.writer(f)
        out.writerow(COLUMNS)
        out.writerows(harmless_row(astuple(row)) for row in rows)


def read_ledger(path: Path) -> list[LedgerRow]:
    """What `write_ledger` wrote."""
    with path.open(newline="", encoding="utf-8-sig") as f:
        lines = [{k: line[k] for k in COLUMNS} for line in csv.DictReader(f)]
    return [LedgerRow(**line) for line in lines]  # type: ignore[arg-type]


def counts(rows: Iterable[LedgerRow], kind: Kind) -> Counter[str]:
    """How many rows of a kind have each status."""
    return Counter(r.status for r in rows if r.kind == kind)
