"""How probable it is that what words claim holds of a predicted case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

from pydantic import BaseModel

from ..task import Task
from .asked import Asked


class Outlined(BaseModel, frozen=True):
    """A lesion that was outlined: the finding it is one of, how surely, and its side of the organ."""

    finding: str
    probability: float
    side: str = ""


@dataclass(frozen=True, kw_only=True)
class Held:
    """probability: that all demands hold, taken as independent. finding: that fulfils the first one best."""

    probability: float
    finding: str = ""


def holds(
    demands: Sequence[Asked], chances: Mapping[str, float], lesions: Sequence[Outlined], task: Task
) -> Held:
    """chances: finding → probability, without those not assessed. Of several findings that would do, the
    likeliest counts; a finding that was not assessed holds of nobody, and its absence neither. A side is
    looked for among the lesions that were outlined."""
    held = [_holds(d, chances, lesions, task) for d in demands]
    return Held(
        probability=prod(h.probability for h in held),
        finding=next((h.finding for h in held if h.finding), ""),
    )


def _holds(demand: Asked, chances: Mapping[str, float], lesions: Sequence[Outlined], task: Task) -> Held:
    assessed = [f for f in demand.findings if f in chances]
    if not assessed:
        return Held(probability=0.0)
    best = max(assessed, key=lambda f: chances[f])
    if demand.absent:
        return Held(probability=1 - chances[best])
    if demand.side and task.finding(best).group == "focal":
        names = {*demand.findings, *(w.id for f in demand.findings for w in task.wider(f))}
        there = (x.probability for x in lesions if x.side == demand.side and x.finding in names)
        return Held(probability=min(chances[best], max(there, default=0.0)), finding=best)
    return Held(probability=chances[best], finding=best)
