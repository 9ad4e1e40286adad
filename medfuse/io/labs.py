"""Laboratory values from a CSV: loinc, value, unit (UCUM), and where known date (ISO) and name."""

from __future__ import annotations

import csv
import math
from pathlib import Path

from ..case import Lab
from ..errors import UserError, WrongUse

NEEDED = ("loinc", "value", "unit")


def read_labs(path: Path) -> list[Lab]:
    """All values. Raises WrongUse where there is no such file, UserError that names the line and what is
    wrong there."""
    if not path.is_file():
        raise WrongUse(f"{path}: no such file; give a CSV with the columns {', '.join(NEEDED)}")
    with path.open(newline="", encoding="utf-8-sig") as f:
        rows = list(csv.DictReader(f))
    missing = set(NEEDED) - set(rows[0] if rows else ())
    if missing:
        raise UserError(
            f"{path}: lacks the column(s) {', '.join(sorted(missing))}; one value a line, with its UCUM unit"
        )
    out = []
    for n, row in enumerate(rows, 2):
        try:
            value = float(row["value"])
        except (TypeError, ValueError):
            value = math.nan
        if not math.isfinite(value) or not row["loinc"] or not row["unit"]:
            raise UserError(
                f"{path} line {n}: needs a LOINC code, a number and a UCUM unit, not {row['loinc']!r}, "
                f"{row['value']!r}, {row['unit']!r}"
            )
        out.append(
            Lab(
                row["loinc"].strip(),
                value,
                row["unit"].strip(),
                (row.get("date") or "").strip(),
                (row.get("name") or "").strip(),
            )
        )
    return out
