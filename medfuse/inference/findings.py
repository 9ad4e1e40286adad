"""Findings with calibrated probabilities and contributions, for every subset of what is present."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch

from ..bundles.bundle import Bundle
from ..bundles.calibration import calibrated, interval
from ..bundles.conformal import answer_sets
from ..case import Case
from ..models.features import CaseFeatures, collate
from ..models.subsets import name as subset_name
from ..models.subsets import shapley, subsets
from ..models.tokens import Tokens
from ..prediction import FindingRecord
from ..task import Finding
from .support import roles_of, support


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What a model says of a case as a whole.

    baseline and by_subset: probability of each finding with no modality, and with each subset. embedding:
    unit vectors by sense. fused and logits (1, F): of all that is there, for the writer.
    """

    records: list[FindingRecord] = field(default_factory=list)
    baseline: dict[str, float] = field(default_factory=dict)
    by_subset: dict[str, dict[str, float]] = field(default_factory=dict)
    embedding: dict[str, list[float]] = field(default_factory=dict)
    fused: dict[str, Tokens] = field(default_factory=dict)
    logits: torch.Tensor | None = None


def find(case: Case, bundle: Bundle, features: CaseFeatures, *, calibrate: bool) -> Findings:
    """All subsets of what is present in one batch: probabilities, Shapley contributions, embeddings."""
    task = bundle.task
    there = tuple(m for m in task.senses if features.has(m))
    every = subsets(there, empty=True)
    sizes = bundle.model.sizes
    batch = collate([features] * len(every), tuple(sizes), sizes)
    output = bundle.model(batch, {m: torch.tensor([m in s for s in every]) for m in task.senses})
    logits = output.logits.numpy()
    temperatures = [bundle.temperature(subset_name(s)) if calibrate else 1.0 for s in every]
    shift = bundle.shifts if calibrate else 0.0
    probability = np.stack([calibrated(logits[i], t, shift) for i, t in enumerate(temperatures)])
    validated = calibrated(logits[-1], temperatures[-1])  # answer sets were made before any shift
    by_name = {
        subset_name(s): {t.id: round(float(probability[i, f]), 4) for f, t in enumerate(task.findings)}
        for i, s in enumerate(every)
    }
    last = len(every) - 1
    return Findings(
        records=_records(case, bundle, every, probability, validated if calibrate else None),
        baseline=by_name[subset_name(every[0])],
        by_subset={subset_name(s): by_name[subset_name(s)] for s in every if s},
        embedding={
            sense: [round(float(v), 5) for v in output.embedding[sense][last]] for sense in (*there, "joint")
        },
        fused={m: Tokens(t.x[-1:], t.mask[-1:]) for m, t in output.fused.items()},
        logits=output.logits[-1:],
    )


def _records(
    case: Case,
    bundle: Bundle,
    every: list[tuple[str, ...]],
    probability: np.ndarray,
    validated: np.ndarray | None,
) -> list[FindingRecord]:
    """A record a finding; ``every``: the subsets, none first and all last; ``probability`` (subsets, F);
    ``validated`` (F,): of all, as it was when the answer sets were made; None where nothing is calibrated."""
    calibrate = validated is not None
    there = every[-1]
    roles = roles_of(case)
    thresholds = bundle.conformal.get(subset_name(there)) if calibrate else None
    reliable = bundle.reliability.get(subset_name(there)) if calibrate else None
    out = []
    for f, finding in enumerate(bundle.task.findings):
        game = {frozenset(s): float(probability[i, f]) for i, s in enumerate(every)}
        p = float(probability[-1, f])
        by, reasons = _judged_by(finding, bundle.task.image_senses, there, roles)
        out.append(
            FindingRecord(
                id=finding.id,
                name=finding.label("en"),
                group=finding.group,
                probability=round(p, 4),
                calibrated=calibrate,
                answers=_answers(validated[f], thresholds[f]) if validated is not None and thresholds else [],
                assessed=bool(by),
                assessed_by=by,
                interval=interval(p, reliable) if reliable else None,
                why_not={} if by else reasons,
                contribution={m: round(v, 4) for m, v in shapley(game, there).items()},
            )
        )
    return out


def _judged_by(
    finding: Finding, senses: tuple[str, ...], there: tuple[str, ...], roles: dict[str, set[str]]
) -> tuple[list[str], dict[str, str]]:
    """The images that assess a finding, and why the others that could do not. Words and numbers colour a
    finding, they do not assess it."""
    judged = {m: support(finding, m, roles) for m in senses}
    by = [m for m in there if m in judged and judged[m][0]]
    return by, {m: why for m, (_, why) in judged.items() if why and m in finding.modalities}


def _answers(p: float, threshold: float) -> list[Literal["absent", "present"]]:
    absent, present = answer_sets(np.array([p]), np.array([threshold]))[0]
    both: tuple[tuple[Literal["absent", "present"], bool], ...] = (
        ("absent", bool(absent)),
        ("present", bool(present)),
    )
    return [answer for answer, possible in both if possible]
