"""Messages of one report → the report as it stands: final over preliminary, corrections replace, addenda are
appended; all of it is kept."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date

from .rows import ReportRow, normal

_SAYS_ADDENDUM = re.compile(r"\n\s*(?=(?:addendum|補充報告|附加報告)\b)", re.IGNORECASE)


@dataclass
class Report:
    """A report as it stands. row: the message that governs. text: its words without addenda. history: the
    other messages, oldest first. waiting: why it must wait for a person. rival: another final report has the
    same number and other words."""

    row: ReportRow
    text: str
    addenda: list[str] = field(default_factory=list)
    history: list[ReportRow] = field(default_factory=list)
    waiting: str = ""
    rival: bool = False

    @property
    def id(self) -> str:
        """Of the message that governs."""
        return self.row.id

    @property
    def whole(self) -> str:
        """All its words, addenda at the end."""
        return "\n\n".join([self.text, *self.addenda])

    @property
    def dates(self) -> tuple[date, ...]:
        """What its date may be: that of the first message, as later ones are dated when they were written."""
        first = next((r for r in (*self.history, self.row) if r.dates), self.row)
        return first.dates


def standing(rows: Iterable[ReportRow]) -> list[Report]:
    """One report for the messages of each number, in order of the first."""
    groups: dict[tuple[str, ...], list[ReportRow]] = {}
    for row in rows:
        alone = () if row.accession else (row.id,)
        who = normal(row.patient_id) or row.name.casefold()
        groups.setdefault((normal(row.accession), who, row.issuer.casefold(), *alone), []).append(row)
    return [report for group in _with_unsigned(groups) for report in _stand(group)]


def _with_unsigned(groups: dict[tuple[str, ...], list[ReportRow]]) -> list[list[ReportRow]]:
    """Messages that name no patient or issuer belong to the one group of their number that does, where there
    is just one."""
    by_number: dict[str, list[tuple[str, ...]]] = {}
    for key in groups:
        if len(key) == 3:
            by_number.setdefault(key[0], []).append(key)
    for keys in by_number.values():
        said = [k for k in keys if k[1] or k[2]]
        bare = [k for k in keys if not k[1] and not k[2]]
        if len(said) == 1 and bare:
            groups[said[0]] = groups[said[0]] + groups.pop(bare[0])
    return list(groups.values())


def _stand(group: list[ReportRow]) -> list[Report]:
    if all(r.dates for r in group):
        group = sorted(group, key=lambda r: max(r.dates))  # stable: same days stay as they came
    cancelled = _cancelled(group)
    if cancelled:
        return [_waits(cancelled, group, "was cancelled")]
    corrected = [r for r in group if r.status == "corrected"]
    if corrected:
        return [_whole(corrected[-1], group)]
    by_words = {_plain(r.text): r for r in reversed(group) if r.status == "final"}
    finals = list(reversed(by_words.values()))
    if len(finals) > 1:
        return _rivals(group, finals)
    return [_whole(finals[0], group) if finals else _without_final(group)]


def _cancelled(group: list[ReportRow]) -> ReportRow | None:
    """The last cancellation, where no final text came after it."""
    at = [i for i, r in enumerate(group) if r.status == "cancelled"]
    if not at or any(r.status in ("final", "corrected") for r in group[at[-1] :]):
        return None
    return group[at[-1]]


def _without_final(group: list[ReportRow]) -> Report:
    drafts = [r for r in group if r.status == "preliminary"]
    if drafts:
        return _waits(drafts[-1], group, "is only preliminary: no final report came")
    return _waits(group[-1], group, "is an addendum without its report")


def _whole(base: ReportRow, group: list[ReportRow]) -> Report:
    text, *addenda = _SAYS_ADDENDUM.split(base.text)
    seen = {_plain(a) for a in addenda}
    after = group.index(base) + 1 if base.status == "corrected" else 0  # a correction holds what came before
    for row in group[after:]:
        if row.status == "addendum" and _plain(row.text) not in seen:
            addenda.append(row.text)
            seen.add(_plain(row.text))
    return Report(row=base, text=text, addenda=addenda, history=[r for r in group if r is not base])


def _rivals(group: list[ReportRow], finals: list[ReportRow]) -> list[Report]:
    """Several final texts of one number. Other messages go with the first of them."""
    out = [Report(row=r, text=r.text, rival=True) for r in finals]
    out[0].history = [r for r in group if r not in finals]
    if any(r.status in ("addendum", "preliminary") for r in out[0].history):
        for one in out:
            one.waiting = "shares its number with another final report and an addendum or draft"
    return out


def _waits(row: ReportRow, group: list[ReportRow], why: str) -> Report:
    return Report(row=row, text=row.text, history=[r for r in group if r is not row], waiting=why)


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()
