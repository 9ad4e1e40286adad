"""Prediction: what the model says of one case. Valid against data_schemas/prediction.schema.json; no timestamps."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ImageRecord(Model):
    """One image that was given, and whether it lies in the validated domain."""

    path: str
    modality: str
    role: str = "unknown"
    series_uid: str = ""
    in_domain: bool
    why: str
    code: str = ""  # inside, modality, real, simulated, role
    geometry: str = ""
    warnings: list[str] = Field(default_factory=list)


class Place(Model):
    """Where something is. mm and box_mm are RAS+ in ``frame_of_reference``; pixels (x, y) in ultrasound frames.

    slice or frame counts from 0 along the image's own stack.
    """

    image: int
    series_uid: str = ""
    frame_of_reference: str = ""
    centre_mm: list[float] | None = None
    box_mm: list[list[float]] | None = None
    slice: int | None = None
    frame: int | None = None
    box_voxels: list[list[int]] | None = None


class LesionRecord(Model):
    """One lesion, from the dense prediction only. Diameters need a known pixel size; else null: size not measured."""

    id: str
    modality: str
    finding: str
    probability: float
    long_axis_mm: float | None
    short_axis_mm: float | None
    volume_ml: float | None
    side: Literal["right", "left", ""] = ""  # of the organ; "" where it cannot be told
    place: Place


class LesionMatch(Model):
    """Two lesions of two modalities that are one: "same" by one frame of reference or an accepted registration, "probable" by their
    place in the organ or, in untracked ultrasound, as the only pair that fits. Lesions in no match are unmatched."""

    lesions: list[str]  # two ids
    certainty: Literal["same", "probable"]
    by: Literal["frame", "organ", "appearance"]
    distance_mm: float | None = None


class FindingRecord(Model):
    id: str
    name: str
    group: str
    probability: float | None  # calibrated; null when nothing was said
    calibrated: bool
    answers: list[Literal["absent", "present"]] = Field(
        default_factory=list
    )  # what 90 % sets leave possible; both: cannot tell
    interval: list[float] | None = None  # 90 % for how often validation cases with such a probability came true
    assessed: bool
    assessed_by: list[str] = Field(default_factory=list)
    why_not: dict[str, str] = Field(default_factory=dict)  # modality → not_acquired, cannot_show or lacks ROLES
    contribution: dict[str, float] = Field(default_factory=dict)  # exact Shapley on the calibrated probability
    evidence: list[Place] = Field(default_factory=list)

    @property
    def cannot_tell(self) -> bool:
        """Neither answer can be left out at 90 % (split conformal on validation cases of the same presence pattern)."""
        return len(self.answers) == 2


class RefusedRecord(Model):
    path: str
    reason: str


class Prediction(Model):
    schema_version: Literal["1"] = "1"
    case_id: str
    simulated: bool
    in_domain: bool
    outside_domain_shown: bool = False
    modalities: dict[str, Literal["present", "limited", "absent", "failed"]]
    limits: dict[str, str] = Field(
        default_factory=dict
    )  # modality → not_in_view, or cut top, cut bottom, cut bottom top
    images: list[ImageRecord]
    organ_in_view: dict[str, float] = Field(
        default_factory=dict
    )  # share of the frames of ultrasound that show the organ
    findings: list[FindingRecord]
    lesions: list[LesionRecord]
    matches: list[LesionMatch] = Field(default_factory=list)
    refused: list[RefusedRecord] = Field(default_factory=list)
    bundle: str
    bundle_hash: str
    baseline_probability: dict[str, float] = Field(default_factory=dict)  # with no modality at all
    subset_probability: dict[str, dict[str, float]] = Field(default_factory=dict)  # subset → finding → probability
    embedding: dict[str, list[float]] = Field(default_factory=dict)  # coordinated space, by sense

    def finding(self, finding_id: str) -> FindingRecord:
        return next(f for f in self.findings if f.id == finding_id)
