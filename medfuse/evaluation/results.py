"""What an evaluation finds, as types; evaluation.json and its schema come from them.

A value that is None could not be measured (a finding with cases of one kind only). A field that is unset does
not belong to this evaluation and does not stand in the file.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Result(BaseModel):
    """A frozen part of an evaluation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def as_json(self) -> dict[str, object]:
        """As JSON data: what was set, by name."""
        return self.model_dump(mode="json", exclude_unset=True)


class Difference(Result):
    """Macro AUROC of one model minus another's on the same patients, with a paired bootstrap interval.

    difference: of the AUROCs. ci95: its 95 % interval.
    """

    difference: float | None
    ci95: list[float] | None


class Gain(Difference):
    """All modalities together minus the best of them alone.

    best_single: the modality.
    """

    best_single: str


class TableRow(Result):
    """One model on one subset of the modalities.

    macro_auroc, focal_auroc, diffuse_auroc: mean AUROC over all, focal and diffuse findings. ci95: of
    macro_auroc, by patient. n: cases. fusion_minus_this: the fused model against this row.
    """

    macro_auroc: float | None
    focal_auroc: float | None
    diffuse_auroc: float | None
    ci95: list[float] | None
    n: int
    fusion_minus_this: Difference | None = None


class Calibrated(Result):
    """How well probabilities fit what is true.

    ece: expected calibration error. coverage90: share of labels that their 90 % set holds. cannot_tell: share
    of sets with both answers.
    """

    ece: float
    coverage90: float | None = None
    cannot_tell: float | None = None


class LesionRow(Result):
    """Lesions of one modality.

    sensitivity_at_1fp: share that is found (overlapped) at one false positive a case. threshold: the
    probability at which that is so. outlined_at_1fp: share whose outline is met at all, one candidate for one
    lesion, at one candidate a case that meets none. dice: of those found there. diameter_error_mm: their
    median. true_lesions: how many there are. cases: how many were scored.
    """

    sensitivity_at_1fp: float | None
    threshold: float | None = None
    outlined_at_1fp: float | None = None
    dice: float | None
    diameter_error_mm: float | None
    true_lesions: int
    cases: int


class SizeRow(Result):
    """Sizes of the lesions that a report names, beside the true lesions' on the images' own grids.

    reported: lesions that are named. on_true: of them, those on a true lesion. true_found: different true
    lesions among these. first_look_error_mm, first_look_dice: as the network's grid alone shows them.
    diameter_error_mm, dice: as reported, after the second look. Errors are medians of the long axis.
    """

    reported: int
    on_true: int
    true_found: int
    first_look_error_mm: float | None
    diameter_error_mm: float | None
    first_look_dice: float | None
    dice: float | None


class MatchRow(Result):
    """Pairs of lesions of two modalities that were called one.

    precision, recall: of the pairs that were called one. pairs_said, pairs_possible: how many.
    """

    precision: float | None
    recall: float | None
    pairs_said: int
    pairs_possible: int


class Bits(Result):
    """Usable information in bits a finding, with its interval by patient.

    bits: of information. ci95: its 95 % interval.
    """

    bits: float
    ci95: list[float]


class Interaction(Result):
    """Two modalities a and b: redundancy, own_a, own_b and synergy as `Bits`, in this order.

    n: cases. redundancy: what both have. synergy: what only both together have. most_synergy: the finding
    with the most of it.
    """

    model_config = ConfigDict(frozen=True, extra="allow")
    __pydantic_extra__: dict[str, Bits] = Field(init=False)
    n: int
    redundancy: Bits
    synergy: Bits
    most_synergy: str

    def parts(self) -> list[Bits]:
        """Redundancy, what each of the two has of its own, synergy."""
        return [self.redundancy, *(self.__pydantic_extra__ or {}).values(), self.synergy]


class PerFinding(Result):
    """One finding: its group, positives, and its AUROC by subset (further keys).

    positives: cases that have it.
    """

    model_config = ConfigDict(frozen=True, extra="allow")
    __pydantic_extra__: dict[str, float | None] = Field(init=False)
    group: str
    positives: int


class Cost(Result):
    """Milliseconds of one forward pass by number of modalities, of co-attention and merge-attention.

    tokens_per_modality, width, threads: of the measurement. co_ms, merge_ms: milliseconds by number of
    modalities. co_over_merge: their ratio.
    """

    tokens_per_modality: int
    width: int
    threads: int
    co_ms: dict[str, float]
    merge_ms: dict[str, float]
    co_over_merge: dict[str, float]


class SpacePair(Result):
    """How well one sense finds the same patient's other sense among n.

    r1, r5, r10: recall. n: cases that have both. trained: whether a training brought the two together; else
    the pair is emergent. by: compared in the learned space, or by claims.
    """

    r1: float
    r5: float
    r10: float
    n: int
    trained: bool
    by: Literal["space", "claims"]


class Space(Result):
    """Retrieval from every sense to every other.

    senses: those that two cases at least have. matrix: by ordered pair ``A->B``. chance: recall by guessing,
    by number of cases.
    """

    senses: list[str] = Field(default_factory=list)
    matrix: dict[str, SpacePair] = Field(default_factory=dict)
    chance: dict[str, dict[str, float]] = Field(default_factory=dict)


class Tables(Result):
    """Every subset beside its baselines, by finding, with calibration and retrieval.

    n: cases. subsets: a row for each subset of the modalities. baselines: the same by baseline. retrieval:
    how well words find images and back. accuracy: of exclusive findings. interactions: by pair of modalities.
    gain_over_best_single: of all modalities. space: retrieval from every sense to every other.
    """

    n: int
    subsets: dict[str, TableRow]
    baselines: dict[str, dict[str, TableRow]]
    per_finding: dict[str, PerFinding] = Field(default_factory=dict)
    calibration: dict[str, Calibrated] = Field(default_factory=dict)
    retrieval: dict[str, dict[str, float] | int] = Field(default_factory=dict)
    accuracy: dict[str, float | None] = Field(default_factory=dict)
    interactions: dict[str, Interaction] = Field(default_factory=dict)
    gain_over_best_single: Gain | None = None
    space: Space = Field(default_factory=Space)


class OtherSet(Result):
    """A further manifest, by its subset tables alone; empty where none was given.

    n: cases. subsets, baselines: as in the evaluation.
    """

    n: int = 0
    subsets: dict[str, TableRow] = Field(default_factory=dict)
    baselines: dict[str, dict[str, TableRow]] = Field(default_factory=dict)


class ScoredBundle(Result):
    """The bundle that was scored."""

    name: str
    hash: str


class Evaluation(Tables):
    """evaluation.json: the tables, and what was run on what.

    n: cases. subsets: a row for each subset of the modalities. baselines: the same by baseline. per_finding:
    by finding. calibration: by subset. retrieval: how well words find images and back. accuracy: of exclusive
    findings, by subset. interactions: by pair of modalities. gain_over_best_single: of all modalities
    together. lesions: by modality. lesion_sizes: of the reported ones, by modality. lesion_matches: by pair
    of modalities. shifted: another scanner park. control: a population in which one modality is enough.
    cost: of fusion. space: retrieval from every sense to every other.
    """

    lesions: dict[str, LesionRow]
    lesion_sizes: dict[str, SizeRow] = Field(default_factory=dict)
    lesion_matches: dict[str, MatchRow]
    shifted: OtherSet
    control: OtherSet
    cost: Cost | dict[str, float]
    refused: list[str]
    manifest: str
    split: str | None
    simulated: bool
    bundle: ScoredBundle
    seed: int
    seconds: float
    machine: str


class EvaluationRun(Result):
    """run.json beside an evaluation: what was run, and the plots that were drawn.

    plots: names of the pictures.
    """

    bundle: ScoredBundle
    manifest: str
    split: str | None
    seed: int
    seconds: float
    machine: str
    plots: list[str]
    python: str


class RocCurve(Result):
    """One curve. points: (false positive rate, sensitivity). area: under them."""

    points: list[list[float]]
    area: float


class RocCurves(Result):
    """ROC of each finding on the largest subset.

    subset: the modalities.
    """

    subset: str
    findings: dict[str, RocCurve]


class Curves(Result):
    """curves.json: what the plots draw, by subset.

    roc: of each finding. reliability: points of predicted and observed frequency, by subset. risk: points of
    coverage and risk, by subset.
    """

    roc: RocCurves
    reliability: dict[str, list[list[float]]]
    risk: dict[str, list[list[float]]]
