"""Blinded ratings of reports by people: what is to be rated by whom, and what they said.

Each signed or edited report gives two texts, as drafted and as it stands; a draft alone gives one. The rater does not see which.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein
from sqlalchemy import select

from ..errors import WrongUse
from ..report import Report
from .accounts import Account
from .audit import record
from .catalogue import RatingRow, ReportRow, session

SCALES = ("correctness", "completeness", "wording")
POINTS = 5


@dataclass(frozen=True)
class Item:
    """One text to rate. kind: drafted or edited; reference: the version that stands."""

    case_id: str
    kind: str
    text: str
    reference: str
    language: str


def words_of_report(report: Report) -> str:
    """Findings and impression as one text, without banner, state or version, which would tell."""
    chosen = [s for s in report.sections if s.id in ("findings", "impression")]
    return "\n".join(f"{s.title}\n" + " ".join(x.text for x in s.sentences if x.state != "rejected") for s in chosen)


def items() -> list[Item]:
    """Every text that can be rated, by case."""
    with session() as s:
        rows = list(s.scalars(select(ReportRow).order_by(ReportRow.case_id, ReportRow.revision)))
    by_case: dict[str, list[ReportRow]] = {}
    for row in rows:
        by_case.setdefault(row.case_id, []).append(row)
    out = []
    for case_id, revisions in by_case.items():
        drafts = [r for r in revisions if not r.author]
        edits = [r for r in revisions if r.author]
        drafted = words_of_report(Report(**drafts[-1].report)) if drafts else ""
        standing = words_of_report(Report(**(edits or drafts)[-1].report))
        language = revisions[-1].language
        if drafted:
            out.append(Item(case_id, "drafted", drafted, standing, language))
        if edits and standing != drafted:
            out.append(Item(case_id, "edited", standing, standing, language))
    return out


def waiting_for(account: Account) -> list[Item]:
    """What this account has not rated, in an order of its own: random to a person, the same each time."""
    with session() as s:
        rated = select(RatingRow.case_id, RatingRow.kind).where(RatingRow.rater == account.name)
        done = {tuple(r) for r in s.execute(rated)}
    left = [i for i in items() if (i.case_id, i.kind) not in done]
    return sorted(left, key=lambda i: hashlib.sha256(f"{account.name}|{i.case_id}|{i.kind}".encode()).digest())


def rate(item: Item, account: Account, scores: dict[str, int], *, seconds: float) -> None:
    """Keep one rating. Raises WrongUse for a score outside 1 to 5 or an account without a stated background."""
    if not account.background.strip():
        raise WrongUse(f"account {account.name}: state a background (such as radiologist, 12 years) before rating; an admin adds it with medfuse account add --background")  # fmt: skip
    if set(scores) != set(SCALES) or not all(1 <= v <= POINTS for v in scores.values()):
        raise WrongUse(f"a rating needs {', '.join(SCALES)} from 1 to {POINTS}")
    with session() as s:
        s.add(RatingRow(
            case_id=item.case_id, rater=account.name, background=account.background, kind=item.kind, seconds=round(seconds, 1), **scores,
            edit_distance=Levenshtein.distance(item.text.split(), item.reference.split()), language=item.language, text=item.text, reference=item.reference,
        ))  # fmt: skip
        record("report rated", who=account.name, case_id=item.case_id)


def ratings() -> list[dict]:
    """Every rating, oldest first."""
    fields = (
        "case_id",
        "rater",
        "background",
        "kind",
        *SCALES,
        "seconds",
        "edit_distance",
        "language",
        "text",
        "reference",
    )
    with session() as s:
        return [{f: getattr(r, f) for f in fields} for r in s.scalars(select(RatingRow).order_by(RatingRow.id))]


def counts() -> dict[str, int]:
    """Ratings by rater."""
    out: dict[str, int] = {}
    for r in ratings():
        out[r["rater"]] = out.get(r["rater"], 0) + 1
    return out


def export(rows: Iterable[dict]) -> str:
    """Ratings as CSV, the file that `medfuse evaluate-readers` reads."""
    import csv
    from io import StringIO

    rows = list(rows)
    text = StringIO()
    if rows:
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()
