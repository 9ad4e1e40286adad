"""Tuning on what people signed: one shift of the logit a finding, fitted on some patients and readers and
judged on others, behind a gate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit
from scipy.stats import chi2

from ..inference.support import SUPPORTED
from .signed import Statements

HELD_OUT = 3  # one patient of so many is held out
ENOUGH = 30  # the fewest statements to fit on, and to judge on
ENOUGH_OF_ONE = 10  # the fewest of one finding that are there, of held-out patients, for its own row
FALL = 0.02  # an F1 of one reader or one finding may fall by so much: chance of a few statements
WRONG = 0.02  # the share of statements against what the bundle is surest of that is let pass
DISPUTED = 0.2  # the share of those read twice on which readers may contradict each other
SURE = 0.999  # how surely a shift must differ from none
PRIOR = 1.0  # standard deviation of a shift before anything was signed


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Of held-out statements. f1, precision, recall: of findings said to be there; brier: mean squared
    error of the probability; to_change: the share of findings whose sentence the reader has to change; n:
    statements."""

    f1: float
    precision: float
    recall: float
    brier: float
    to_change: float
    n: int


@dataclass(frozen=True, kw_only=True)
class GateRow:
    """One thing that the gate asks: what, before and after, and whether it passed."""

    what: str
    before: float | None
    after: float | None
    passed: bool


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """shift: finding → what is added to its logit. wrong: the estimated share of wrong statements. before,
    after: on patients and readers that the fit did not see. gate: its rows; accepted: all of them passed."""

    shift: dict[str, float]
    wrong: float
    before: Scores
    after: Scores
    gate: tuple[GateRow, ...]

    @property
    def accepted(self) -> bool:
        """Whether every row of the gate passed."""
        return all(row.passed for row in self.gate)


def scores(there: np.ndarray, chance: np.ndarray) -> Scores:
    """there (N,) bool, chance (N,) probabilities, a finding being said from SUPPORTED on."""
    said = chance >= SUPPORTED
    tp = int((said & there).sum())
    precision = tp / max(int(said.sum()), 1)
    recall = tp / max(int(there.sum()), 1)
    return Scores(
        f1=round(2 * precision * recall / (precision + recall), 4) if tp else 0.0,
        precision=round(precision, 4),
        recall=round(recall, 4),
        brier=round(float(np.mean((chance - there) ** 2)), 4) if len(there) else 0.0,
        to_change=round(float(np.mean(said != there)), 4) if len(there) else 0.0,
        n=len(there),
    )


def fit_shift(s: Statements, findings: int) -> np.ndarray:
    """(F,) the shift of each finding's logit: maximum likelihood with a normal prior around no shift, and
    none where the statements do not tell it from none (likelihood ratio, 99.9 %)."""
    shift = _fit(s, findings, 0.0)[0]
    sign = np.where(s.there, 1.0, -1.0)
    gain = np.log(expit(sign * (s.logit + shift[s.finding]))) - np.log(expit(sign * s.logit))
    told = 2 * np.bincount(s.finding, weights=gain, minlength=findings) > chi2.ppf(SURE, 1)
    return np.where(told, shift, 0.0)


def _fit(s: Statements, findings: int, wrong: float | None) -> tuple[np.ndarray, float, float]:
    """Shifts, share of wrong statements (fitted where None) and log-likelihood. A statement is wrong by
    chance with that share, else it follows the shifted probability."""
    sign = np.where(s.there, 1.0, -1.0)

    def parts(x: np.ndarray) -> tuple[float, np.ndarray]:
        e = expit(x[-1]) / 2 if wrong is None else wrong
        right = expit(sign * (s.logit + x[s.finding]))
        p = e + (1 - 2 * e) * right
        slope = (1 - 2 * e) * right * (1 - right) * sign / p
        gradient = np.zeros_like(x)
        np.add.at(gradient, s.finding, slope)
        gradient[:findings] -= x[:findings] / PRIOR**2
        if wrong is None:
            gradient[-1] = float(np.sum((1 - 2 * right) / p)) * e * (1 - 2 * e)
        value = float(np.log(p).sum()) - float((x[:findings] ** 2).sum()) / (2 * PRIOR**2)
        return -value, -gradient

    start = np.zeros(findings + 1)
    start[-1] = logit(0.02)
    found = minimize(parts, start, jac=True, method="L-BFGS-B", bounds=[(-4, 4)] * findings + [(-9, 3)])
    e = float(expit(found.x[-1]) / 2) if wrong is None else wrong
    return found.x[:findings], e, -float(found.fun)


def wrong_share(s: Statements, findings: int) -> tuple[float, bool]:
    """The estimated share of statements that follow nothing, and whether it is surely more than WRONG
    (likelihood ratio, 95 %). What a finding's shift explains is no fault: a habit is not an error."""
    _, share, free = _fit(s, findings, None)
    _, _, held = _fit(s, findings, WRONG)
    return share, bool(share > WRONG and 2 * (free - held) > chi2.ppf(0.90, 1))


def tune(s: Statements, findings: tuple[str, ...]) -> Tuned:
    """Fit and judge. Each reader's statements on held-out patients are judged with shifts that were fitted
    on the other readers' other patients; the shifts that are given back are fitted on all readers' other
    patients."""
    held = s.patient % HELD_OUT == 0
    moved = s.logit.copy()
    for reader in np.unique(s.reader):
        rows = held & (s.reader == reader)
        shift = fit_shift(s.where(~held & (s.reader != reader)), len(findings))
        moved[rows] += shift[s.finding[rows]]
    final = fit_shift(s.where(~held), len(findings))
    share, poisoned = wrong_share(s, len(findings))
    before = scores(s.there[held], expit(s.logit[held]))
    after = scores(s.there[held], expit(moved[held]))
    gate = [
        GateRow(
            what=f"statements to fit on, at least {ENOUGH}",
            before=None,
            after=int((~held).sum()),
            passed=int((~held).sum()) >= ENOUGH,
        ),
        GateRow(
            what=f"statements held out, at least {ENOUGH}",
            before=None,
            after=int(held.sum()),
            passed=int(held.sum()) >= ENOUGH,
        ),
        GateRow(
            what="readers, at least 2",
            before=None,
            after=len(np.unique(s.reader)),
            passed=len(np.unique(s.reader)) >= 2,
        ),
        GateRow(
            what=f"share of wrong statements, not surely above {WRONG}",
            before=None,
            after=round(share, 4),
            passed=not poisoned,
        ),
        GateRow(
            what=f"share of contradictions between readers, at most {DISPUTED}",
            before=None,
            after=round(s.disputed / max(s.disputed + s.agreed, 1), 4),
            passed=s.disputed <= DISPUTED * max(s.disputed + s.agreed, 1),
        ),
        GateRow(what="F1 rises", before=before.f1, after=after.f1, passed=after.f1 > before.f1),
        GateRow(
            what="Brier score does not rise",
            before=before.brier,
            after=after.brier,
            passed=after.brier <= before.brier,
        ),
        *_parts(s, held, moved, findings),
    ]
    return Tuned(
        shift={f: round(float(v), 4) for f, v in zip(findings, final, strict=True) if abs(v) >= 5e-4},
        wrong=round(share, 4),
        before=before,
        after=after,
        gate=tuple(gate),
    )


def _parts(s: Statements, held: np.ndarray, moved: np.ndarray, findings: tuple[str, ...]) -> list[GateRow]:
    """F1 of each reader and of each finding with enough held-out statements: none may fall."""
    groups = [(f"F1 of reader {r + 1} does not fall", s.reader == r) for r in np.unique(s.reader)]
    for n, finding in enumerate(findings):
        rows = s.finding == n
        if (s.there & rows & held).sum() >= ENOUGH_OF_ONE:
            groups.append((f"F1 of {finding} does not fall", rows))
    out = []
    for what, rows in groups:
        rows = rows & held
        before = scores(s.there[rows], expit(s.logit[rows])).f1
        after = scores(s.there[rows], expit(moved[rows])).f1
        out.append(GateRow(what=what, before=before, after=after, passed=after >= before - FALL))
    return out
