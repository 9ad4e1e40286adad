"""What a report says of each finding, and how right that is against the labels of a manifest."""

from __future__ import annotations

import numpy as np

from ..drafting.labeller import Lexicon, label
from ..inference.support import SUPPORTED
from ..report import Report
from ..task import Task
from .draft_results import ClinicalScores, FindingScores


def narrative(report: Report) -> str:
    """The sentences on findings and the impression, as one text."""
    parts = [
        x.text
        for s in report.sections
        if s.id in ("findings", "impression")
        for x in s.sentences
        if x.finding and x.assertion != "not_assessed"
    ]
    return " ".join(parts)


def affirmed(report: Report) -> dict[str, bool]:
    """Finding → whether the report says it is there, likely or possible. A finding narrower than another also
    affirms that one."""
    return {
        f: x.assertion in ("present", "possible") and (x.probability or 0) >= SUPPORTED
        for f, x in report.said().items()
    }


def said_of(text: str, lexicon: Lexicon) -> dict[str, bool]:
    """Finding → whether a text affirms it, by the task's lexicon."""
    return {k: v in ("present", "possible") for k, v in label(text, lexicon).items()}


def widen(said: dict[str, bool], task: Task) -> dict[str, bool]:
    """All findings of the task; one that follows from narrower ones holds where one of them does."""
    out = {f.id: said.get(f.id, False) for f in task.findings}
    for f in task.findings:
        if f.derived_from and any(out.get(p, False) for p in f.derived_from):
            out[f.id] = True
    return out


def clinical(said: list[dict[str, bool]], labels: np.ndarray, task: Task) -> ClinicalScores:
    """Micro and macro precision, recall and F1 over known labels, and by finding."""
    per: dict[str, FindingScores] = {}
    total = np.zeros(3)
    for n, finding in enumerate(task.findings):
        known = labels[:, n] >= 0
        truth = labels[known, n] == 1
        claimed = np.array([s.get(finding.id, False) for s, k in zip(said, known, strict=True) if k])
        counts = np.array([(truth & claimed).sum(), claimed.sum(), truth.sum()], float)
        total += counts
        per[finding.id] = _prf(counts)
    values = [v.f1 for v in per.values() if v.n]
    return ClinicalScores(
        micro=_prf(total), macro_f1=round(float(np.mean(values)), 4) if values else None, findings=per
    )


def _prf(counts: np.ndarray) -> FindingScores:
    tp, said, true = counts
    p = tp / said if said else 0.0
    r = tp / true if true else 0.0
    return FindingScores(
        precision=round(p, 4),
        recall=round(r, 4),
        f1=round(2 * p * r / (p + r), 4) if tp else 0.0,
        n=int(true),
    )
