"""Blinded ratings of reports by people: what is to be rated by whom, and what they said.

Each signed or edited report gives two texts, as drafted and as it stands; a draft alone gives one. Where
another bundle or release drafted it before in other words, that draft is a third. The rater does not see
which.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

from rapidfuzz.distance import Levenshtein
from sqlalchemy import select

from ..errors import WrongUse
from ..io.cells import harmless
from ..report import Report
from .accounts import Account
from .audit import enter
from .catalogue import RatingRow, ReportRow

if TYPE_CHECKING:
    from .library import Library

SCALES = ("correctness", "completeness", "wording")
POINTS = 5


@dataclass(frozen=True)
class Item:
    """One text to rate. kind: earlier, drafted or edited; reference: the version that stands; bundle_hash: of
    the bundle that drafted it."""

    case_id: str
    kind: str
    text: str
    reference: str
    language: str
    bundle_hash: str


@dataclass(frozen=True, kw_only=True)
class Rating:
    """What one reader said of one text, 1 to 5 on each scale. edit_distance: words to insert, delete or
    replace until it is the reference; bundle_hash: of the bundle that drafted it."""

    case_id: str
    rater: str
    background: str
    kind: str
    correctness: int
    completeness: int
    wording: int
    seconds: float
    edit_distance: int
    language: str
    bundle_hash: str
    text: str
    reference: str


def words_of_report(report: Report) -> str:
    """Findings and impression as one text, without banner, state or version, which would tell."""
    chosen = [s for s in report.sections if s.id in ("findings", "impression")]
    return "\n".join(
        f"{s.title}\n" + " ".join(x.text for x in s.sentences if x.state != "rejected") for s in chosen
    )


def items(library: Library) -> list[Item]:
    """Every text that can be rated, by case."""
    with library.session() as s:
        rows = list(s.scalars(select(ReportRow).order_by(ReportRow.case_id, ReportRow.revision)))
    by_case: dict[str, list[ReportRow]] = {}
    for row in rows:
        by_case.setdefault(row.case_id, []).append(row)
    out = []
    for case_id, revisions in by_case.items():
        drafts = [r for r in revisions if not r.author]
        edits = [r for r in revisions if r.author]
        last = Report(**(edits or drafts)[-1].report)
        draft = Report(**drafts[-1].report) if drafts else last
        drafted = words_of_report(draft) if drafts else ""
        standing = words_of_report(last)
        language = revisions[-1].language
        if drafted:
            out.append(Item(case_id, "drafted", drafted, standing, language, draft.bundle_hash))
        before = next((r for r in drafts if words_of_report(Report(**r.report)) != drafted), None)
        if before is not None and before.language == language:
            first = Report(**before.report)
            out.append(
                Item(case_id, "earlier", words_of_report(first), standing, language, first.bundle_hash)
            )
        if edits and standing != drafted:
            out.append(Item(case_id, "edited", standing, standing, language, last.bundle_hash))
    return out


def waiting_for(library: Library, account: Account) -> list[Item]:
    """What this account has not rated, in an order of its own: random to a person, the same each time."""
    with library.session() as s:
        rated = select(RatingRow.case_id, RatingRow.kind).where(RatingRow.rater == account.name)
        done = {tuple(r) for r in s.execute(rated)}
    left = [i for i in items(library) if (i.case_id, i.kind) not in done]
    return sorted(
        left, key=lambda i: hashlib.sha256(f"{account.name}|{i.case_id}|{i.kind}".encode()).digest()
    )


def rate(library: Library, item: Item, account: Account, scores: dict[str, int], *, seconds: float) -> None:
    """Keep one rating. Raises WrongUse for a score outside 1 to 5 or an account without a stated
    background."""
    if not account.background.strip():
        raise WrongUse(
            f"account {account.name}: state a background (such as radiologist, 12 years) before "
            "rating; an admin adds it with medfuse account add --background"
        )
    if set(scores) != set(SCALES) or not all(1 <= v <= POINTS for v in scores.values()):
        raise WrongUse(f"a rating needs {', '.join(SCALES)} from 1 to {POINTS}")
    with library.session() as s:
        s.add(
            RatingRow(
                case_id=item.case_id,
                rater=account.name,
                background=account.background,
                kind=item.kind,
                seconds=round(seconds, 1),
                **scores,
                edit_distance=Levenshtein.distance(item.text.split(), item.reference.split()),
                language=item.language,
                bundle_hash=item.bundle_hash,
                text=item.text,
                reference=item.reference,
            )
        )
        enter(s, "report rated", who=account.name, case_id=item.case_id)


def ratings(library: Library) -> list[Rating]:
    """Every rating, oldest first."""
    with library.session() as s:
        rows = s.scalars(select(RatingRow).order_by(RatingRow.id))
        return [Rating(**{f.name: getattr(r, f.name) for f in fields(Rating)}) for r in rows]


def counts(library: Library) -> dict[str, int]:
    """Ratings by rater."""
    out: dict[str, int] = {}
    for r in ratings(library):
        out[r.rater] = out.get(r.rater, 0) + 1
    return out


def export(given: Iterable[Rating]) -> str:
    """Ratings as CSV, the file that `medfuse evaluate-readers` reads."""
    import csv
    from io import StringIO

    rows = [asdict(r) for r in given]
    text = StringIO()
    if rows:
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows({k: harmless(v) for k, v in row.items()} for row in rows)
    return text.getvalue()
