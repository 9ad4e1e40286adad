"""Reports from a table: CSV with any common delimiter and encoding, or XLSX; columns by a map."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError, WrongUse, os_fault
from .encoding import decoded
from .rows import RefusedRow, ReportRow, Reports, dates_of
from .words import modalities_of, status_of

NEEDED = ("accession", "text")
OPTIONAL = ("date", "patient_id", "modality", "status", "site", "id", "name", "sex", "birth_date")
DELIMITERS = (",", ";", "\t", "|")
LONGEST = 10_000_000  # characters of one field


@dataclass(frozen=True, kw_only=True)
class TableFormat:
    """How a table is read: our name → the column's (names that are left out are their own), and an encoding
    where it is known."""

    columns: dict[str, str]
    encoding: str = ""

    def column(self, name: str) -> str:
        """The header of one of our names."""
        return self.columns.get(name, name)


def parse_columns(given: str) -> dict[str, str]:
    """``accession=AccNo,text=Report`` as a map. Raises WrongUse for a name that is none of ours."""
    out = {}
    for part in filter(None, (p.strip() for p in given.split(","))):
        ours, sign, theirs = part.partition("=")
        if not sign or ours.strip() not in (*NEEDED, *OPTIONAL):
            known = ", ".join((*NEEDED, *OPTIONAL))
            raise WrongUse(f"--columns {part}: give NAME=COLUMN, where NAME is one of {known}")
        out[ours.strip()] = theirs.strip()
    return out


def read_table(path: Path, how: TableFormat) -> Reports:
    """Every line of a table; a line that cannot be used is among the refused. Raises UserError for a table
    that cannot be read at all."""
    if path.suffix.lower() in (".xlsx", ".xlsm"):
        name, lines = "xlsx", sheet_lines(path)
    else:
        try:
            text, name = decoded(path, path.read_bytes(), how.encoding)
        except OSError as e:
            raise UserError(f"{path}: cannot be read ({os_fault(e)}); check its permissions") from e
        lines = _lines(path, text, how)
    header = [h.strip() for h in lines[0][1]] if lines else []
    places = _places(path, header, how)
    body = [(n, cells) for n, cells in lines[1:] if any(c.strip() for c in cells)]
    out = _Table(path=path, header=header, places=places).read(body)
    out.encodings[path.name] = name
    return out


def _lines(path: Path, text: str, how: TableFormat) -> list[tuple[int, list[str]]]:
    """Line number and cells. The delimiter is the one under which the header holds the columns."""
    wanted = [how.column(n) for n in NEEDED]
    return lines_of(path, text, wanted, "give --columns accession=NAME,text=NAME")


def lines_of(path: Path, text: str, wanted: Iterable[str], advice: str) -> list[tuple[int, list[str]]]:
    """Line number and cells of a CSV, under the delimiter that parts the columns that are wanted. Raises
    UserError where none does, and for quotes that are not closed; advice: what to do about the former."""
    first = text.split("\n", 1)[0].strip("\r")
    columns = list(wanted)
    for delimiter in DELIMITERS:
        names = {c.strip().casefold() for c in next(csv.reader([first], delimiter=delimiter), [])}
        if {c.casefold() for c in columns} <= names:
            break
    else:
        seen = ", ".join(c.strip()[:40] for c in re.split(r"[,;\t|]", first)[:8])
        named = f"column{'s' * (len(columns) > 1)} {' and '.join(columns)}"
        raise UserError(
            f"{path}: no header with the {named} under a comma, semicolon, tab or bar (found: {seen}); "
            f"{advice}"
        )
    csv.field_size_limit(LONGEST)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    out = []
    start = 1
    try:
        for cells in reader:
            out.append((start, cells))
            start = reader.line_num + 1
    except csv.Error as e:
        raise UserError(
            f"{path} line {start}: {e}; put texts with quotes, delimiters or line breaks in closed quotes"
        ) from e
    return out


def sheet_lines(path: Path) -> list[tuple[int, list[str]]]:
    """Line number and cells of the first sheet of a workbook. Raises UserError for what is none."""
    try:
        from openpyxl import load_workbook
    except ImportError as e:
        raise UserError(f"{path}: XLSX needs the package openpyxl; pip install medfuse[cohort]") from e
    try:
        sheet = load_workbook(path, read_only=True, data_only=True).worksheets[0]
        rows = list(sheet.iter_rows(values_only=True))
    except (OSError, ValueError, KeyError, SyntaxError, EOFError) as e:
        raise UserError(f"{path}: is no XLSX that can be read ({type(e).__name__}); save it as CSV") from e
    except Exception as e:  # zip and XML parsers each have their own errors
        raise UserError(f"{path}: is a damaged XLSX ({type(e).__name__}); save it as CSV") from e
    return [(n, ["" if v is None else _cell(v) for v in row]) for n, row in enumerate(rows, 1)]


def _cell(value: object) -> str:
    isoformat = getattr(value, "isoformat", None)
    return isoformat()[:10] if callable(isoformat) else str(value)


def _places(path: Path, header: list[str], how: TableFormat) -> dict[str, int]:
    """Our name → place of its column. Raises UserError for one that is missing or there twice."""
    folded = [h.casefold() for h in header]
    twice = [h for h, n in Counter(folded).items() if n > 1 and h]
    if twice:
        raise UserError(f"{path}: has the column {twice[0]} twice; name each column once")
    out = {}
    for name in (*NEEDED, *OPTIONAL):
        column = how.column(name)
        if column.casefold() in folded:
            out[name] = folded.index(column.casefold())
        elif name in NEEDED or name in how.columns:
            raise UserError(f"{path}: has no column {column}; it has {', '.join(header[:12])}")
    return out


@dataclass(frozen=True, kw_only=True)
class _Table:
    path: Path
    header: list[str]
    places: dict[str, int]

    def read(self, lines: list[tuple[int, list[str]]]) -> Reports:
        out = Reports()
        day_first = self._day_first(lines)
        taken: Counter[str] = Counter()
        for n, cells in lines:
            name = self._get(cells, "id") or self._get(cells, "accession") or f"{self.path.name}:{n}"
            taken[name] += 1
            if taken[name] > 1:
                name = f"{name}#{taken[name]}"
            fault = self._fault(cells)
            if fault:
                out.refused.append(RefusedRow(id=name, source=f"{self.path.name}:{n}", reason=fault))
                continue
            out.rows.append(self._row(name, n, cells, day_first))
        return out

    def _get(self, cells: list[str], name: str) -> str:
        at = self.places.get(name, -1)
        return cells[at].strip() if 0 <= at < len(cells) else ""

    def _fault(self, cells: list[str]) -> str:
        if len(cells) != len(self.header):
            return (
                f"the line has {len(cells)} fields and the header {len(self.header)}; put texts with "
                "delimiters in quotes"
            )
        if not self._get(cells, "text"):
            return "the report is empty; export it again with its text"
        if "\ufffd" in self._get(cells, "text"):
            return (
                "the text holds replacement characters: it was saved under a wrong encoding; export it again"
            )
        if status_of(self._get(cells, "status"), "") is None:
            return f"its status {self._get(cells, 'status')[:30]!r} is not known; see docs/cohort.md"
        when = self._get(cells, "date")
        if when and not dates_of(when):
            return f"its date {when[:30]!r} is none; write YYYY-MM-DD"
        return ""

    def _row(self, name: str, n: int, cells: list[str], day_first: bool | None) -> ReportRow:
        text = self._get(cells, "text")
        patient, _, rest = self._get(cells, "patient_id").partition("^")
        parts = rest.split("^")
        issuer = self._get(cells, "site") or (parts[2] if len(parts) > 2 else "")
        status = status_of(self._get(cells, "status"), text)
        assert status is not None
        return ReportRow(
            id=name,
            source=f"{self.path.name}:{n}",
            text=text,
            accession=self._get(cells, "accession"),
            dates=dates_of(self._get(cells, "date"), day_first=day_first),
            patient_id=patient.strip(),
            issuer=issuer,
            modalities=modalities_of(self._get(cells, "modality")),
            status=status,
            name=self._get(cells, "name"),
            sex=self._get(cells, "sex").upper()[:1],
            birth_date="".join(c for c in self._get(cells, "birth_date") if c.isdigit()),
            labels=dict(self._labels(cells)),
        )

    def _labels(self, cells: list[str]) -> Iterator[tuple[str, float]]:
        for at, column in enumerate(self.header):
            if column.startswith("label:") and cells[at].strip():
                try:
                    value = float(cells[at])
                except ValueError:
                    continue
                if 0 <= value <= 1:
                    yield column.removeprefix("label:"), value

    def _day_first(self, lines: list[tuple[int, list[str]]]) -> bool | None:
        """Whether dates with slashes have the day first: some day after the 12th tells; None where none
        does, or both orders occur."""
        first = second = False
        for _, cells in lines:
            found = re.match(r"(\d{1,2})[/-](\d{1,2})[/-]\d{4}", self._get(cells, "date"))
            if found:
                first |= int(found[1]) > 12
                second |= int(found[2]) > 12
        return None if first == second else first
