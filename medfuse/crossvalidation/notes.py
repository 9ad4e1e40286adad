"""What folds lack, and what a cohort of this size cannot tell, in words."""

from __future__ import annotations

import numpy as np

from ..cohort.results import auroc_half_width
from ..task import Task
from .fold import LATE, SHUFFLED, SHUFFLED_NETWORK, STACK
from .plan import Fold
from .tables import Tables

FEW = 10  # patients with a finding, below which its interval means little


def fold_notes(task: Task, labels: np.ndarray, folds: list[Fold]) -> list[str]:
    """Findings of which folds have no case of one kind: they add nothing to its AUROC there."""
    out = []
    for f, finding in enumerate(task.findings):
        column = labels[:, f]
        if not (column == 1).any() or not (column == 0).any():
            continue
        for value, what in ((1, "with"), (0, "without")):
            for part in ("test", "train"):
                lacking = [x.name for x in folds if not (column[getattr(x, part)] == value).any()]
                if lacking:
                    named = ", ".join(lacking[:4]) + (", …" if len(lacking) > 4 else "")
                    where = "scored" if part == "test" else "to learn from"
                    out.append(f"{finding.id}: no case {what} it {where} in {len(lacking)} fold(s): {named}")
    return out


def cannot_tell(task: Task, found: Tables) -> list[str]:
    """What these cases do not show, most important first."""
    out = []
    for finding_id, finding in found.per_finding.items():
        if not finding.positives or not finding.negatives:
            kind = "positive" if not finding.positives else "negative"
            out.append(f"{finding_id}: has no {kind} case, so nothing is measured")
        elif finding.patients < FEW:
            width = auroc_half_width(finding.positives, finding.negatives)
            out.append(
                f"{finding_id}: only {finding.patients} patient(s) have it; an AUROC of .8 would be known to "
                f"± {width:.2f}"
            )
    if found.subsets:
        last = list(found.subsets)[-1]
        out += _of_subset(last, found)
    return out


def _of_subset(subset: str, found: Tables) -> list[str]:
    out = []
    macro = found.subsets[subset]["macro_auroc"]
    if macro.mean is None:
        return [f"{subset}: no finding has a case with and one without it in one fold; use fewer folds"]
    if macro.ci95 is None:
        out.append(f"{subset}: the macro AUROC has no interval: too few draws of patients have both kinds")
    elif macro.ci95[0] <= 0.5 <= macro.ci95[1]:
        out.append(f"{subset}: the interval of the macro AUROC holds .5: better than chance is not shown")
    for model in (STACK, LATE, "hand_boosting"):
        gap = found.baselines.get(model, {}).get(subset, {}).get("fusion_minus_this")
        if gap is not None and (gap.ci95 is None or gap.ci95[0] <= 0):
            out.append(f"{subset}: that the fused model is better than {model} is not shown")
    for model in (SHUFFLED, SHUFFLED_NETWORK):
        row = found.baselines.get(model, {}).get(subset, {}).get("macro_auroc")
        if row is not None and row.ci95 is not None and row.ci95[0] > 0.5:
            out.append(
                f"{subset}: labels that were shuffled are told apart too ({model}, macro AUROC {row.mean}): "
                "look for a leak before any other figure is believed"
            )
    return out
