"""Report: sections of sentences, each with its reason. Valid against data_schemas/report.schema.json; no timestamps."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from .prediction import Place

Assertion = Literal["present", "possible", "absent", "not_assessed", "notice"]


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Sentence(Model):
    """finding is empty for sentences that name none (technique, notices)."""

    text: str
    finding: str = ""
    probability: float | None = None
    modality: list[str] = Field(default_factory=list)
    evidence: list[Place] = Field(default_factory=list)
    assertion: Assertion = "notice"
    state: Literal["drafted", "accepted", "edited", "rejected"] = "drafted"


class Check(Model):
    """What the checker did to one written sentence, and why."""

    written: str
    action: Literal["kept", "mended", "hedged", "dropped", "added"]
    why: str
    section: str = "findings"


class Section(Model):
    id: Literal["indication", "technique", "comparison", "findings", "impression", "notice"]
    title: str
    sentences: list[Sentence]


class Report(Model):
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

    def section(self, section_id: str) -> Section | None:
        return next((s for s in self.sections if s.id == section_id), None)
