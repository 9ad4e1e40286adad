"""Training records → what people said of findings: a statement for each case, finding and reader, with the
probability that the bundle had given. No words of a record go further than this."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

import numpy as np

from ..drafting.labeller import Lexicon, Said, sentence_claims
from ..task import Task

LEAST_CHANCE = 1e-4  # probabilities are kept this far from 0 and 1, so that their logits are finite


class Record(Protocol):
    """What is read of one line of `medfuse export training-records`."""

    @property
    def case_id(self) -> str: ...
    @property
    def kind(self) -> Literal["sentence", "answer"]: ...
    @property
    def action(self) -> Literal["accepted", "edited", "rejected", "added"]: ...
    @property
    def drafted(self) -> str: ...
    @property
    def final(self) -> str: ...
    @property
    def author(self) -> str: ...
    @property
    def made(self) -> datetime: ...


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """Of one case: whose it is, and finding → probability, of those assessed."""

    patient: str
    chances: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Statements:
    """One row a statement. finding (N,): number of the task's; there (N,): whether a person said so; logit
    (N,): of the bundle's probability; patient, reader (N,): numbers, in no order that tells who they are.
    disputed: statements that were left out since readers contradict each other; agreed: those that two or
    more agree on. unknown: cases without a stored prediction of the bundle."""

    finding: np.ndarray
    there: np.ndarray
    logit: np.ndarray
    patient: np.ndarray
    reader: np.ndarray
    disputed: int = 0
    agreed: int = 0
    unknown: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.there)

    def where(self, rows: np.ndarray) -> Statements:
        """Those of a mask (N,)."""
        return Statements(
            finding=self.finding[rows],
            there=self.there[rows],
            logit=self.logit[rows],
            patient=self.patient[rows],
            reader=self.reader[rows],
        )


@dataclass
class _Said:
    """What one reader said last of one finding of one case."""

    there: bool
    made: datetime


@dataclass
class _Heard:
    said: dict[tuple[str, str, str], _Said] = field(default_factory=dict)

    def hear(self, case: str, finding: str, reader: str, there: bool, made: datetime) -> None:
        before = self.said.get((case, finding, reader))
        if before is None or made >= before.made:
            self.said[case, finding, reader] = _Said(there, made)

    def readings(self) -> dict[tuple[str, str], list[bool]]:
        """(case, finding) → what each reader of it said."""
        out: dict[tuple[str, str], list[bool]] = {}
        for (case, finding, _), said in self.said.items():
            out.setdefault((case, finding), []).append(said.there)
        return out


def statements(
    records: Iterable[Record], of: Callable[[str], Predicted | None], task: Task, lexicon: Lexicon
) -> Statements:
    """What the records say of findings that were assessed. ``of``: what is known of a case, None where
    nothing is.

    The words that stand are read by the labeller; "possible" says neither. A rejected sentence says the
    opposite of what it affirmed, and a rejected denial nothing: it may have been rejected as idle. Of one
    reader the last word counts; where readers contradict each other on a case and finding, none does.
    """
    heard = _Heard()
    cases: dict[str, Predicted | None] = {}
    for r in records:
        if r.kind != "sentence":
            continue
        known = cases.setdefault(r.case_id, of(r.case_id))
        if known is None:
            continue
        rejected = r.action == "rejected"
        for finding, said in _claims(r.drafted if rejected else r.final, task, lexicon).items():
            if finding in known.chances and said != "possible" and not (rejected and said == "absent"):
                there = (said == "present") != rejected
                heard.hear(r.case_id, finding, r.author, there, r.made)
    return _counted(heard, cases, task)


def _claims(text: str, task: Task, lexicon: Lexicon) -> dict[str, Said]:
    """Finding → what a sentence says of it. Findings that follow from narrower ones are left out: their names
    are in those of the narrow ones, whose denial ("no septated cyst") leaves them open."""
    narrow = {f.id for f in task.findings if not f.derived_from}
    return {c.finding: c.said for c in sentence_claims(text, lexicon) if c.finding in narrow}


def _counted(heard: _Heard, cases: dict[str, Predicted | None], task: Task) -> Statements:
    readings = heard.readings()
    disputed = {of for of, said in readings.items() if len(set(said)) > 1}
    number = {f.id: n for n, f in enumerate(task.findings)}
    people = _numbered(reader for _, _, reader in heard.said)
    patients = _numbered(c.patient for c in cases.values() if c is not None)
    rows = []
    for (case, finding, reader), said in heard.said.items():
        known = cases[case]
        if known is None or finding not in number or (case, finding) in disputed:
            continue
        logit = _logit(known.chances[finding])
        rows.append((number[finding], said.there, logit, patients[known.patient], people[reader]))
    columns = list(zip(*rows, strict=True)) or [(), (), (), (), ()]
    return Statements(
        finding=np.array(columns[0], dtype=int),
        there=np.array(columns[1], dtype=bool),
        logit=np.array(columns[2], dtype=float),
        patient=np.array(columns[3], dtype=int),
        reader=np.array(columns[4], dtype=int),
        disputed=len(disputed),
        agreed=sum(len(said) > 1 for of, said in readings.items() if of not in disputed),
        unknown=tuple(sorted(c for c, known in cases.items() if known is None)),
    )


def _numbered(names: Iterable[str]) -> dict[str, int]:
    """A number for each name, in the order of the alphabet."""
    return {name: n for n, name in enumerate(sorted(set(names)))}


def _logit(chance: float) -> float:
    p = float(np.clip(chance, LEAST_CHANCE, 1 - LEAST_CHANCE))
    return float(np.log(p / (1 - p)))
