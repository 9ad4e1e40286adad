"""cohort.json: what a cohort was made from, by which rules, and what became of everything."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class Part(BaseModel):
    """A part of cohort.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceFile(Part):
    """A file that reports came from.

    name: of the file. sha256: of its bytes. encoding: as it was read. messages: reports in it, refused ones
    too.
    """

    name: str
    sha256: str
    encoding: str = ""
    messages: int = 0


class FunnelStep(Part):
    """One step of the funnel.

    name: what is left. studies: how many. excluded: how many fell out before it, by reason.
    """

    name: str
    studies: int
    excluded: dict[str, int] = Field(default_factory=dict)


class FindingCount(Part):
    """How often a finding is labelled.

    present, absent, likely, unknown: cases. by_split: present and absent of each split. auroc_half_width: of
    the 95 % interval to be expected of an AUROC of .8 with all these cases, None where one kind is missing
    (Hanley and McNeil 1982).
    """

    present: int
    absent: int
    likely: int
    unknown: int
    by_split: dict[str, tuple[int, int]]
    auroc_half_width: float | None


class CohortFile(Part):
    """The whole of cohort.json.

    version: of medfuse. task: its name. archive: the path that was read. sources: files of reports. window:
    days within which studies are one case. possible: what a hedged claim counts as. seed: of the split.
    reports, studies: how many were given. linked, unresolved, refused: report messages. by_rule: linked
    report messages. cases: rows of the manifest. excluded: studies by reason. funnel: its steps. splits:
    cases. findings: labels by finding. twins: cases of different patient ids that share pixels, by group.
    comparison_sentences: kept out of the words for training. simulated: whether every image says that it is.
    manifest, ledger: names of the files beside this one. sha256: of those two. recipe: of its bytes, where
    a folder of images and tables was built by one. files, rows: of that folder and its tables, by what
    became of them.
    """

    version: str
    task: str
    archive: str
    sources: list[SourceFile]
    window: int
    possible: str
    seed: int
    reports: int
    studies: int
    linked: int
    unresolved: int
    refused: int
    by_rule: dict[str, int]
    cases: int
    excluded: dict[str, int]
    funnel: list[FunnelStep]
    splits: dict[str, int]
    findings: dict[str, FindingCount]
    twins: list[list[str]]
    comparison_sentences: int
    simulated: bool
    manifest: str
    ledger: str
    sha256: dict[str, str]
    recipe: str = ""
    files: dict[str, int] = Field(default_factory=dict)
    rows: dict[str, int] = Field(default_factory=dict)


def sha256_of(path: Path) -> str:
    """Of a file's bytes."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def auroc_half_width(positives: int, negatives: int, auroc: float = 0.8) -> float | None:
    """Half the 95 % interval of an AUROC by Hanley and McNeil (Radiology 1982); None without both kinds."""
    if not positives or not negatives:
        return None
    q1 = auroc / (2 - auroc)
    q2 = 2 * auroc**2 / (1 + auroc)
    variance = auroc * (1 - auroc) + (positives - 1) * (q1 - auroc**2) + (negatives - 1) * (q2 - auroc**2)
    return round(1.96 * math.sqrt(variance / (positives * negatives)), 3)
