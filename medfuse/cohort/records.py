"""A table of any kind as records: column → text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import UserError, os_fault
from ..foreign import foreign_json
from .encoding import decoded
from .tables import lines_of, sheet_lines

Record = dict[str, str]
DEEPEST = 8  # objects inside objects of a JSON table


@dataclass(frozen=True, kw_only=True)
class Records:
    """records: by number, of the line in a table of lines, else from 1. faults: those that cannot be used.
    encoding: as the file was read."""

    records: list[tuple[int, Record]]
    faults: dict[int, str] = field(default_factory=dict)
    encoding: str = ""


def read_records(path: Path, wanted: Iterable[str]) -> Records:
    """All records of a CSV, XLSX, JSON (a list of objects; inner ones as ``outer.inner``) or JSONL file.

    Raises UserError where it cannot be read, or lacks a column that is wanted.
    """
    columns = list(dict.fromkeys(wanted))
    suffix = path.suffix.lower()
    if suffix in (".xlsx", ".xlsm"):
        return _of_lines(path, sheet_lines(path), columns, "xlsx")
    try:
        text, encoding = decoded(path, path.read_bytes())
    except OSError as e:
        raise UserError(f"{path}: cannot be read ({os_fault(e)}); check its permissions") from e
    if suffix in (".json", ".jsonl", ".ndjson"):
        found = _of_json(path, text, by_line=suffix != ".json", encoding=encoding)
        _check(path, columns, {c for _, r in found.records for c in r})
        return found
    return _of_lines(path, lines_of(path, text, columns, "correct the recipe's columns"), columns, encoding)


def _check(path: Path, columns: list[str], known: set[str]) -> None:
    lacking = [c for c in columns if c not in known]
    if lacking:
        raise UserError(f"{path}: has no column {lacking[0]}; it has {', '.join(sorted(known)[:12])}")


def _of_lines(path: Path, lines: list[tuple[int, list[str]]], columns: list[str], encoding: str) -> Records:
    header = [h.strip() for h in lines[0][1]] if lines else []
    twice = [h for h, n in Counter(header).items() if n > 1 and h in columns]
    if twice:
        raise UserError(f"{path}: has the column {twice[0]} twice; name each column once")
    places = {h.casefold(): n for n, h in enumerate(header)}  # `lines_of` takes them in any case too
    _check(path, [c for c in columns if c.casefold() not in places], set(header))
    out = Records(records=[], encoding=encoding)
    for n, cells in lines[1:]:
        if not any(c.strip() for c in cells):
            continue
        if len(cells) != len(header):
            out.faults[n] = f"has {len(cells)} cells and the first line {len(header)}"
        pairs = ((c, places[c.casefold()]) for c in columns)
        out.records.append((n, {c: cells[at].strip() for c, at in pairs if at < len(cells)}))
    return out


def _of_json(path: Path, text: str, *, by_line: bool, encoding: str) -> Records:
    try:
        if by_line:
            every = [(n, foreign_json(s)) for n, s in enumerate(text.splitlines(), 1) if s.strip()]
        else:
            said = foreign_json(text)
            if not isinstance(said, list):
                raise UserError(f"{path}: is no list of objects; write one object a row, in [ ]")
            every = list(enumerate(said, 1))
    except ValueError as e:
        raise UserError(f"{path}: is no JSON ({type(e).__name__}: {str(e)[:80]}); export it again") from e
    out = Records(records=[], encoding=encoding)
    for n, item in every:
        if not isinstance(item, dict):
            out.faults[n] = "is no object"
        out.records.append((n, dict(_flat(item, "", 0)) if isinstance(item, dict) else {}))
    return out


def _flat(item: dict[str, object], before: str, depth: int) -> Iterator[tuple[str, str]]:
    for key, value in item.items():
        if isinstance(value, dict) and depth < DEEPEST:
            yield from _flat(value, f"{before}{key}.", depth + 1)
        elif isinstance(value, list):
            yield f"{before}{key}", "; ".join(str(v) for v in value)
        else:
            yield f"{before}{key}", "" if value is None else str(value)
