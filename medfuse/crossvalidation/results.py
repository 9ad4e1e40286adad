"""crossvalidation.json: what was measured on cases left out, and what cannot be told."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """A part of crossvalidation.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Estimate(Part):
    """A metric over all folds and repeats; null where it cannot be told.

    mean: over all. ci95: its 95 % interval, by patient.
    """

    mean: float | None
    ci95: list[float] | None


class FindingByFolds(Part):
    """One finding.

    positives, negatives: cases. patients: with it. auroc: of the fused model by subset.
    """

    positives: int
    negatives: int
    patients: int
    auroc: dict[str, Estimate]


class CrossValidation(Part):
    """The whole of crossvalidation.json.

    version: of medfuse. task: its name. n: cases. patients: persons or twin groups. folds, repeats: as run.
    cases: with a score, by subset. subsets: the fused model, by subset and metric. baselines: the same by
    baseline; fusion_minus_this is the paired difference in macro_auroc. per_finding: by finding. chosen: how
    often each fusion was chosen. notes: what was changed, and folds that lack a kind of case. cannot_tell:
    what these cases do not show. refused: images that could not be used. files: what was written beside this
    one.
    """

    version: str
    task: str
    manifest: str
    n: int
    patients: int
    folds: int
    repeats: int
    seed: int
    simulated: bool
    cases: dict[str, int]
    subsets: dict[str, dict[str, Estimate]]
    baselines: dict[str, dict[str, dict[str, Estimate]]]
    per_finding: dict[str, FindingByFolds]
    chosen: dict[str, int]
    notes: list[str]
    cannot_tell: list[str]
    refused: list[str]
    files: list[str]
