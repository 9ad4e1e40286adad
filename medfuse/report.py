"""Report: sections of sentences, each with its reason. Valid against data_schemas/report.schema.json; no
timestamps."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from .claim import Certainty, Claim
from .prediction import Place

Action = Literal["kept", "mended", "hedged", "dropped", "added"]
SectionId = Literal["indication", "technique", "comparison", "findings", "impression", "notice"]
Assertion = Literal["present", "possible", "absent", "not_assessed", "notice"]
ASSERTION: dict[Certainty, Assertion] = {
    "certain": "present",
    "likely": "present",
    "possible": "possible",
    "unlikely": "possible",
    "absent": "absent",
    "not_assessed": "not_assessed",
}


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Sentence(Model):
    """One sentence with its reason.

    finding: empty for sentences that name none (technique, notices). modality: those that the sentence
    rests on. evidence: the places. assertion: what the sentence says of its finding. state: what a reader
    decided. claims: ids of all the claims it puts into words, the first of which is of ``finding``.
    """

    text: str
    finding: str = ""
    probability: float | None = None
    modality: list[str] = Field(default_factory=list)
    evidence: list[Place] = Field(default_factory=list)
    assertion: Assertion = "notice"
    state: Literal["drafted", "accepted", "edited", "rejected"] = "drafted"
    claims: list[str] = Field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class SignedOff:
    """Who signed a version of a report, and when: beside the report in every export, never in its content."""

    name: str
    at: datetime
    version: int

    @property
    def when(self) -> str:
        """The time as people read it, in UTC and said so."""
        return f"{self.at.replace(tzinfo=self.at.tzinfo or UTC).astimezone(UTC):%Y-%m-%d %H:%M} UTC"

    def line(self, language: str) -> str:
        """One sentence: the signature as it stands under a report."""
        if language.startswith("zh"):
            return f"由 {self.name} 於 {self.when} 電子簽署（第 {self.version} 版）"
        return f"Signed electronically by {self.name}, {self.when}, version {self.version}"


class Check(Model):
    """What the checker did to one written sentence, and why.

    written: the sentence as the model wrote it. action: what was done. section: where it stood.
    """

    written: str
    action: Action
    why: str
    section: str = "findings"


class WrittenBy(Model):
    """A user's own model that wrote a draft.

    model: its name. sha256: over its folder. licence: of its weights. prompt: what it was asked, with the
    facts that it was told. shown: how many pictures of each modality it was shown.
    """

    model: str
    sha256: str
    licence: str = ""
    prompt: str
    shown: dict[str, int] = Field(default_factory=dict)


class Section(Model):
    """One section of a report."""

    id: SectionId
    title: str
    sentences: list[Sentence]


class TargetRow(Model):
    """One target over time. claim: of the lesion. lesion: its record now. modality: on which it was measured
    each time. name: in words. long_axis_mm: the longest axial diameter at each time, the oldest first and the
    last one now; null where it was not matched.
    """

    claim: str
    lesion: str
    modality: str
    name: str
    long_axis_mm: list[float | None]

    @property
    def cells(self) -> list[str]:
        """As a row of the table: its name, each length in mm, and the change since the time before."""
        return [self.name, *_lengths(self.long_axis_mm)]


class Targets(Model):
    """Targets over time, after RECIST 1.1: matched lesions alone, one axis rule for all.

    title, columns, sum_name, rule: in words. rows: one a target.
    """

    title: str
    columns: list[str]
    rows: list[TargetRow]
    sum_name: str
    rule: str

    @property
    def sums_mm(self) -> list[float | None]:
        """The sum of diameters at each time; None where a target was not matched."""
        times = zip(*(r.long_axis_mm for r in self.rows), strict=True)
        return [sum(v for v in at if v is not None) if None not in at else None for at in times]

    @property
    def cells(self) -> list[list[str]]:
        """The whole table as text, its head first and the sums of several targets last."""
        whole = [[None if v is None else float(round(v)) for v in r.long_axis_mm] for r in self.rows]
        sums = [
            sum(v for v in at if v is not None) if None not in at else None for at in zip(*whole, strict=True)
        ]
        last = [[self.sum_name, *_lengths(sums)]] if len(self.rows) > 1 else []
        return [self.columns, *(r.cells for r in self.rows), *last]


def _lengths(mm: list[float | None]) -> list[str]:
    """Lengths in whole mm, and how far the last of these differs from the one before."""
    whole = [None if v is None else round(v) for v in mm]
    words = ["–" if v is None else str(v) for v in whole]
    then, now = whole[-2:]
    if not then or now is None:
        return [*words, "–"]
    change = f"{now - then:+.0f} ({(now - then) / then:+.0%})".replace("%", " %").replace("-", "−")
    return [*words, change if now != then else "±0"]


class Report(Model):
    """report.json: sections of sentences, each with its reason.

    state: draft, preliminary, or signed: final or amended. version: counts amendments, from 1. in_domain: as
    in the prediction. banner: what stands above the report. writer: structured composes from findings,
    learned and local-llm write and are checked. written_by: the user's model that did, where one did.
    claims: what may be said, which the sentences put into words;
    none in a report of a version before claims. style, probabilities: how the words were made. footer: what
    was asked at all, said once, under the report. targets: over time, where an earlier case was measured.
    """

    schema_version: Literal["1"] = "1"
    case_id: str
    language: str
    state: Literal["draft", "preliminary", "final", "amended"] = "draft"
    version: int = 1
    simulated: bool
    in_domain: bool
    banner: list[str]
    sections: list[Section]
    bundle: str
    bundle_hash: str
    signed_by: str = ""  # of a final or amended version; when, stands in the audit log
    writer: Literal["structured", "learned", "local-llm"] = "structured"
    provenance: list[Check] = Field(default_factory=list)  # of a written report: what the checker did
    written_by: WrittenBy | None = None
    claims: list[Claim] = Field(default_factory=list)
    style: str = ""
    probabilities: Literal["", "hidden", "shown", "table"] = ""
    footer: list[str] = Field(default_factory=list)
    targets: Targets | None = Field(default=None, exclude_if=lambda v: v is None)  # as signed before it was

    @property
    def standing_targets(self) -> Targets | None:
        """The targets whose sentences in the comparison stand as they were drafted; None without any."""
        section = self.section("comparison")
        if self.targets is None or section is None:
            return None
        standing = {i for x in section.sentences if x.state not in ("rejected", "edited") for i in x.claims}
        rows = [r for r in self.targets.rows if r.claim in standing]
        return self.targets.model_copy(update={"rows": rows}) if rows else None

    def section(self, section_id: str) -> Section | None:
        """The section of this id, or None."""
        return next((s for s in self.sections if s.id == section_id), None)

    def said(self) -> dict[str, Sentence]:
        """Finding → the last sentence of findings or impression that speaks of it and was not rejected, with
        what it says of that finding and the probability of it; a denial of several is one of each."""
        by = {c.id: c for c in self.claims}
        out: dict[str, Sentence] = {}
        for section in self.sections:
            if section.id not in ("findings", "impression"):
                continue
            for x in section.sentences:
                if x.state == "rejected":
                    continue
                told = [by[i] for i in x.claims if i in by]
                for claim in told:
                    whole = by.get(claim.finding, claim)
                    out[claim.finding] = x.model_copy(
                        update={
                            "finding": claim.finding,
                            "probability": whole.probability,
                            "assertion": ASSERTION[whole.certainty],
                        }
                    )
                if x.finding and not told:
                    out[x.finding] = x
        return out
