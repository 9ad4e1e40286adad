"""Cases → folds: persons and twins on one side, and inside each fold validation cases of their own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..cohort.split import folds_of
from ..cohort.twins import Groups
from ..errors import UserError
from ..io.manifest import ManifestRow
from ..training.data.tensors import Preprocessed

INNER = 5  # one of five parts of the cases outside a fold is for choosing and calibrating


@dataclass(frozen=True, kw_only=True)
class Fold:
    """One training: numbers of the cases that learn, that choose and calibrate, and that are scored."""

    repeat: int
    number: int
    train: np.ndarray
    val: np.ndarray
    test: np.ndarray

    @property
    def name(self) -> str:
        """r1-f2 is the second fold of the first repeat."""
        return f"r{self.repeat + 1}-f{self.number + 1}"


def grouped(rows: list[ManifestRow], folder: Path, entries: list[Preprocessed]) -> list[ManifestRow]:
    """The rows with ``group`` set to what must stay together: a person, a group that the manifest names, and
    cases that share an image once it is preprocessed."""
    groups = Groups()
    for row, entry in zip(rows, entries, strict=True):
        case = ("case", row.case_id)
        groups.join(("patient", row.patient_id or row.case_id), case)
        if row.group:
            groups.join(("group", row.group), case)
        for digest in _digests(folder, entry["files"]):
            groups.join(("pixels", digest), case)
    names: dict[object, str] = {}
    out = []
    for row in rows:
        name = names.setdefault(groups.find(("case", row.case_id)), row.case_id)
        out.append(row.model_copy(update={"group": name}))
    return out


def _digests(folder: Path, files: Mapping[str, Iterable[str]]) -> list[str]:
    """Of the values of each tensor; an empty image is nobody's twin."""
    out = []
    for name in (n for names in files.values() for n in names):
        with np.load(folder / name) as z:
            values = z["values"]
        if values.size and values.min() != values.max():
            out.append(hashlib.sha256(values.tobytes() + str(values.shape).encode()).hexdigest())
    return out


def plan(
    rows: list[ManifestRow], labels: np.ndarray, folds: int, repeats: int, seed: int
) -> tuple[list[Fold], list[str]]:
    """Every fold of every repeat, and notes on what was changed. rows: with their groups; labels (B, F).

    Raises UserError for fewer than three groups: one learns, one chooses, one is scored.
    """
    people = len({r.group for r in rows})
    if people < 3:
        raise UserError(
            f"the manifest has {people} patient(s) or twin groups, and cross-validation needs three at "
            "least: one to learn from, one to choose on, one to score; add cases"
        )
    notes = []
    if folds > people:
        notes.append(
            f"{folds} folds were asked for and there are {people} patients or twin groups: {people} folds"
        )
        folds = people
    out = []
    for repeat in range(repeats):
        fold = folds_of(rows, folds, seed + repeat)
        for number in range(folds):
            test = np.flatnonzero(fold == number)
            rest = np.flatnonzero(fold != number)
            val = _inner([rows[i] for i in rest], labels[rest], seed + repeat)
            out.append(Fold(repeat=repeat, number=number, train=rest[~val], val=rest[val], test=test))
    return out, notes


def _inner(rows: list[ManifestRow], labels: np.ndarray, seed: int) -> np.ndarray:
    """(B,) bool: the inner part that validates, the one under which most findings have both kinds of case
    there and in what is left to learn from."""
    part = folds_of(rows, INNER, seed)

    def both(which: np.ndarray) -> int:
        return int(((labels[which] == 1).any(0) & (labels[which] == 0).any(0)).sum())

    worth = [(both(part == p), both(part != p)) for p in range(int(part.max()) + 1)]
    return part == max(range(len(worth)), key=lambda p: (sum(worth[p]), -p))
