"""Files and folders of reports by what they hold → messages; ids are made unique over all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ..errors import UserError, WrongUse, os_fault
from .dicom_reports import is_dicom, read_dicom_report
from .fhir import read_fhir
from .hl7v2 import is_hl7, read_hl7
from .rows import RefusedRow, Reports
from .tables import TableFormat, read_table

TABLES = (".csv", ".tsv", ".txt", ".xlsx", ".xlsm")
JSON = (".json", ".ndjson", ".jsonl")
KINDS = f"a table ({', '.join(TABLES)}), HL7 v2, FHIR ({', '.join(JSON)}), DICOM SR or encapsulated PDF"


def read_sources(paths: list[Path], how: TableFormat) -> Reports:
    """The messages of all files. Raises WrongUse for a path that is not there or of no kind that is read,
    UserError for a file that cannot be read at all or holds nothing."""
    out = Reports()
    for path in paths:
        if not path.exists():
            raise WrongUse(f"{path}: no such file; give {KINDS}, or a folder of them")
        found = _folder(path, how) if path.is_dir() else _read(path, how)
        out.add(found)
        out.messages[path.name] = out.messages.get(path.name, 0) + found.given
    if not out.given:
        raise UserError(f"{paths[0]}: holds no report; it needs one line a report")
    _unique(out)
    return out


def _read(path: Path, how: TableFormat) -> Reports:
    try:
        with path.open("rb") as f:
            head = f.read(512)
    except OSError as e:
        raise UserError(f"{path}: cannot be read ({os_fault(e)}); check its permissions") from e
    suffix = path.suffix.lower()
    if is_dicom(head):
        return read_dicom_report(path)
    if is_hl7(head):
        return read_hl7(path, how.encoding)
    if suffix in JSON:
        return read_fhir(path, how.encoding)
    if suffix in TABLES:
        return read_table(path, how)
    raise WrongUse(f"{path}: of no kind that is read; give {KINDS}")


def _folder(folder: Path, how: TableFormat) -> Reports:
    """Every file below a folder, by name; one that cannot be read is a refused message. A report that waits
    to be written whole (``.part``) and hidden files are passed over."""
    out = Reports()
    for path in _files(folder):
        try:
            out.add(_read(path, how))
        except UserError as e:
            name = path.relative_to(folder).as_posix()
            reason = str(e).removeprefix(f"{path}: ")
            out.refused.append(RefusedRow(id=name, source=name, reason=reason))
    return out


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        hidden = any(p.startswith(".") for p in path.relative_to(folder).parts)
        if path.is_file() and not hidden and path.suffix != ".part":
            yield path


def _unique(reports: Reports) -> None:
    taken: Counter[str] = Counter()

    def fresh(name: str) -> str:
        taken[name] += 1
        return name if taken[name] == 1 else fresh(f"{name}@{taken[name]}")

    reports.rows = [replace(r, id=fresh(r.id)) for r in reports.rows]
    reports.refused = [replace(r, id=fresh(r.id)) for r in reports.refused]
