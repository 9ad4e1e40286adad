"""Are the labels what the words say: a stratified sample for a person to judge, without the label; then
precision and recall with Wilson intervals, kappa, and labels without those of findings below a floor.

A sample is drawn of each finding from three strata: labelled present, labelled absent, unknown. Recall is of
the whole cohort, so each stratum counts by its size; its interval uses the effective number of cases.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.metrics import cohen_kappa_score

from ..errors import UserError
from ..io.cells import harmless_row
from ..io.manifest import ManifestRow
from ..task import Task

COLUMNS = ("case_id", "finding", "name", "words", "judged")
ANSWERS = {"present": 1, "1": 1, "absent": 0, "0": 0, "not said": -1, "unclear": None, "": None}
STRATA = (1, 0, -1)
Z = 1.959964
AUDITED = "audited.jsonl"  # the manifest without the labels of findings below the floor


@dataclass(frozen=True, kw_only=True)
class Item:
    """A case and a finding that a person judged: 1 present, 0 absent, -1 not said."""

    case_id: str
    finding: str
    judged: int


@dataclass(frozen=True, kw_only=True)
class Audited:
    """One finding. judged: cases. precision: of labels that say present; recall: of what is present; each
    with its 95 % interval. kappa: label against judge. between: judge against judge, where there are two.
    trains: whether its precision reaches the floor."""

    judged: int
    precision: float | None
    precision_ci95: list[float] | None
    recall: float | None
    recall_ci95: list[float] | None
    kappa: float | None
    between: float | None
    trains: bool


def stratum(row: ManifestRow, finding: str) -> int:
    """1 labelled present, 0 absent, -1 neither."""
    value = row.labels.get(finding)
    return int(value) if value in (0, 1) else -1


def sample(rows: list[ManifestRow], task: Task, each: int, seed: int) -> list[tuple[ManifestRow, str]]:
    """``each`` cases of every stratum of every finding that some label names, mixed."""
    rng = np.random.default_rng(seed)
    out: list[tuple[ManifestRow, str]] = []
    for finding in task.findings:
        if not any(stratum(r, finding.id) >= 0 for r in rows):
            continue
        for value in STRATA:
            there = [r for r in rows if stratum(r, finding.id) == value and r.report]
            picked = rng.permutation(len(there))[:each]
            out += [(there[int(i)], finding.id) for i in picked]
    return [out[int(i)] for i in rng.permutation(len(out))]


def write_sample(path: Path, items: Iterable[tuple[ManifestRow, str]], task: Task) -> int:
    """The sheet to judge: words without the label. Returns its lines."""
    names = {f.id: f.label("en") for f in task.findings}
    n = 0
    with path.open("w", newline="", encoding="utf-8-sig") as f:
        out = csv.writer(f)
        out.writerow(COLUMNS)
        for n, (row, finding) in enumerate(items, 1):  # noqa: B007
            out.writerow(harmless_row((row.case_id, finding, names[finding], row.report, "")))
    return n


def read_judged(path: Path) -> list[Item]:
    """The lines that were judged. Raises UserError that names the line of an answer that is none."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as f:
            reader = csv.DictReader(f)
            if not {"case_id", "finding", "judged"} <= set(reader.fieldnames or ()):
                raise UserError(f"{path}: needs the columns case_id, finding and judged; give the sheet back")
            lines = list(enumerate(reader, 2))
    except (OSError, UnicodeError, csv.Error) as e:
        raise UserError(f"{path}: cannot be read ({e}); save it as CSV in UTF-8") from e
    out = []
    for n, line in lines:
        said = (line["judged"] or "").strip().casefold()
        if said not in ANSWERS:
            known = ", ".join(a for a in ANSWERS if a)
            raise UserError(f"{path} line {n}: {said[:30]!r} is no answer; write {known} or nothing")
        answer = ANSWERS[said]
        if answer is not None:
            out.append(Item(case_id=line["case_id"].lstrip("'"), finding=line["finding"], judged=answer))
    if not out:
        raise UserError(f"{path}: no line is judged; fill the column judged: present, absent or not said")
    return out


def wilson(right: float, of: float) -> list[float] | None:
    """The 95 % interval of a share (Wilson 1927); None of nothing."""
    if of <= 0:
        return None
    p = right / of
    middle = (p + Z * Z / (2 * of)) / (1 + Z * Z / of)
    half = Z / (1 + Z * Z / of) * math.sqrt(p * (1 - p) / of + Z * Z / (4 * of * of))
    return [round(max(0.0, middle - half), 4), round(min(1.0, middle + half), 4)]


def audited(
    rows: list[ManifestRow], judged: list[Item], second: list[Item], floor: float
) -> dict[str, Audited]:
    """By finding. Raises UserError for a judged case that the cohort does not hold."""
    by_id = {r.case_id: r for r in rows}
    unknown = next((i.case_id for i in (*judged, *second) if i.case_id not in by_id), "")
    if unknown:
        raise UserError(f"case {unknown} was judged and is not in the cohort; judge a sheet of this cohort")
    others = {(i.case_id, i.finding): i.judged for i in second}
    out = {}
    for finding in dict.fromkeys(i.finding for i in judged):
        items = [i for i in judged if i.finding == finding]
        out[finding] = _finding(rows, finding, [(by_id[i.case_id], i.judged) for i in items], others, floor)
    return out


def _finding(
    rows: list[ManifestRow],
    finding: str,
    items: list[tuple[ManifestRow, int]],
    others: dict[tuple[str, str], int],
    floor: float,
) -> Audited:
    labels = [stratum(r, finding) for r, _ in items]
    truth = [t for _, t in items]
    said = [t for label, t in zip(labels, truth, strict=True) if label == 1]
    right = sum(t == 1 for t in said)
    recall, effective = _recall(rows, finding, labels, truth)
    pairs = [(t, others[r.case_id, finding]) for r, t in items if (r.case_id, finding) in others]
    interval = wilson(right, len(said))
    return Audited(
        judged=len(items),
        precision=round(right / len(said), 4) if said else None,
        precision_ci95=interval,
        recall=None if recall is None else round(recall, 4),
        recall_ci95=None if recall is None else wilson(recall * effective, effective),
        kappa=_kappa(labels, truth),
        between=_kappa([a for a, _ in pairs], [b for _, b in pairs]),
        trains=interval is not None and right / len(said) >= floor,
    )


def _recall(
    rows: list[ManifestRow], finding: str, labels: list[int], truth: list[int]
) -> tuple[float | None, float]:
    """Recall in the whole cohort, and the effective number of present cases that it rests on."""
    weights = {}
    for value in STRATA:
        size = sum(stratum(r, finding) == value for r in rows)
        weights[value] = size / max(1, sum(label == value for label in labels))
    present = [weights[label] for label, t in zip(labels, truth, strict=True) if t == 1]
    found = [weights[1] for label, t in zip(labels, truth, strict=True) if t == 1 and label == 1]
    if not present:
        return None, 0.0
    return sum(found) / sum(present), sum(present) ** 2 / sum(w * w for w in present)


def _kappa(a: list[int], b: list[int]) -> float | None:
    """Cohen's kappa; None where there is nothing to compare, or both say one and the same throughout."""
    if not a or len(set(a) | set(b)) < 2:
        return None
    return round(float(cohen_kappa_score(a, b)), 4)


def without(rows: list[ManifestRow], findings: set[str]) -> list[ManifestRow]:
    """The rows with the labels of ``findings`` unknown."""
    return [
        r.model_copy(update={"labels": {k: None if k in findings else v for k, v in r.labels.items()}})
        for r in rows
    ]
