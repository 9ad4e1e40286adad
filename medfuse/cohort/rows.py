"""One message of a report as its source states it: a line of a table, an ORU, a DiagnosticReport, an SR."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date

from .persons import Persons
from .words import Status


@dataclass(frozen=True, kw_only=True)
class ReportRow:
    """One report message.

    id: unique among all. source: file and line. accession: as written, of one study or several (see
    `several`). also: another number that may be it. study_uids: StudyInstanceUIDs that it states. dates:
    what the date may mean (two where day and month cannot be told apart). issuer: who gave the numbers.
    labels: of a table with ``label:FINDING`` columns. persons: whom else the message names.
    """

    id: str
    source: str
    text: str
    accession: str = ""
    also: str = ""
    study_uids: tuple[str, ...] = ()
    dates: tuple[date, ...] = ()
    patient_id: str = ""
    issuer: str = ""
    modalities: tuple[str, ...] = ()
    status: Status = "final"
    name: str = ""
    sex: str = ""
    birth_date: str = ""
    labels: dict[str, float] = field(default_factory=dict)
    persons: Persons = field(default_factory=Persons)

    @property
    def stated(self) -> Persons:
        """Whom the message names, with its own patient and numbers."""
        own = (self.patient_id, self.also, *several(self.accession), *several(self.also))
        return self.persons | Persons.of([self.name], own)


@dataclass(frozen=True, kw_only=True)
class RefusedRow:
    """A report message that cannot be used, and why."""

    id: str
    source: str
    reason: str


@dataclass
class Reports:
    """What the sources gave: each message is in one of the two lists."""

    rows: list[ReportRow] = field(default_factory=list)
    refused: list[RefusedRow] = field(default_factory=list)
    encodings: dict[str, str] = field(default_factory=dict)  # by file
    messages: dict[str, int] = field(default_factory=dict)  # by file or folder that was given

    def add(self, other: Reports) -> None:
        """Take in what another source gave."""
        self.rows += other.rows
        self.refused += other.refused
        self.encodings |= other.encodings
        self.messages |= other.messages

    @property
    def given(self) -> int:
        """How many messages there were."""
        return len(self.rows) + len(self.refused)


def normal(number: str) -> str:
    """A number as it compares when exact text does not: case, marks, spaces and leading zeros aside; of
    HL7's ``123^HIS`` the first component."""
    return re.sub(r"[^0-9A-Z]", "", number.split("^")[0].upper()).lstrip("0")


def several(value: str) -> tuple[str, ...]:
    """The accession numbers of one field: several are parted by ; , | or blanks."""
    return tuple(dict.fromkeys(p for p in re.split(r"[;,|\s]+", value.strip()) if p))


def dates_of(value: str, *, day_first: bool | None = None) -> tuple[date, ...]:
    """What a date may mean: ISO, YYYYMMDD, YYYY/MM/DD, DD.MM.YYYY, and with slashes day or month first (both,
    unless ``day_first`` says which). Empty for what is no date."""
    text = value.strip()
    found = re.match(r"(\d{4})[-/.]?(\d{1,2})[-/.]?(\d{1,2})(?!\d{0,3}[-/.])", text)
    if found and not re.match(r"\d{1,2}[/.-]\d{1,2}[/.-]\d{4}", text):
        return _valid([(int(found[1]), int(found[2]), int(found[3]))])
    found = re.match(r"(\d{1,2})([/.-])(\d{1,2})[/.-](\d{4})", text)
    if not found:
        return ()
    a, b, year = int(found[1]), int(found[3]), int(found[4])
    if found[2] == ".":
        day_first = True
    orders = (
        [(year, b, a)]
        if day_first
        else [(year, a, b)]
        if day_first is False
        else [(year, b, a), (year, a, b)]
    )
    return _valid(orders)


def _valid(orders: list[tuple[int, int, int]]) -> tuple[date, ...]:
    out = []
    for year, month, day in orders:
        try:
            out.append(date(year, month, day))
        except ValueError:
            continue
    return tuple(dict.fromkeys(out))
