"""Prediction: what the model says of one case. Valid against data_schemas/prediction.schema.json; no
timestamps."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from .task import Measure


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ImageRecord(Model):
    """One image that was given, and whether it lies in the validated domain.

    role: of its series, such as portal. in_domain, why: whether it lies in the validated domain, and the
    reason. geometry: what is known of its place in space. warnings: one sentence for each thing to know.
    """

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
    """Where something is. mm and box_mm are RAS+ in ``frame_of_reference``; pixels (x, y) in ultrasound
    frames.

    slice or frame counts from 0 along the image's own stack. image: index among the case's images. centre_mm,
    box_mm: middle, and first and last corner. slice, frame: number in the image's own stack, from 0.
    box_voxels: first and last voxel.
    """

    image: int
    series_uid: str = ""
    frame_of_reference: str = ""
    centre_mm: list[float] | None = None
    box_mm: list[list[float]] | None = None
    slice: int | None = None
    frame: int | None = None
    box_voxels: list[list[int]] | None = None


class Measurement(Model):
    """One value of the image's own voxels inside a lesion's outline.

    kind: density (mean), suv_max, suv_mean, suv_peak (highest mean of a sphere of 1 ml) or tlg (mean SUV
    times volume). unit: of UCUM.
    """

    kind: Measure
    value: float
    unit: str


class LesionRecord(Model):
    """One lesion, from the dense prediction only. Diameters need a known pixel size; else null: size not
    measured.

    finding: the finding whose lesions it is one of. long_axis_mm, short_axis_mm: longest diameter and the one
    across it. volume_ml: in millilitres. measured: what the task asks beside the size. in_organ_mm: its
    centre from the organ's centre on the same modality, RAS+ mm; null where the organ's is not known.
    """

    id: str
    modality: str
    finding: str
    probability: float
    long_axis_mm: float | None
    short_axis_mm: float | None
    volume_ml: float | None
    side: Literal["right", "left", ""] = ""  # of the organ; "" where it cannot be told
    measured: list[Measurement] = Field(default_factory=list)
    place: Place
    in_organ_mm: list[float] | None = Field(default=None, exclude_if=lambda v: v is None)


class LesionMatch(Model):
    """Two lesions of two modalities that are one: "same" by one frame of reference or an accepted
    registration, "probable" by their place in the organ or, in untracked ultrasound, as the only pair that
    fits. Lesions in no match are unmatched.

    certainty: same or probable. by: what it rests on. distance_mm: between their centres in one frame.
    """

    lesions: list[str]  # two ids
    certainty: Literal["same", "probable"]
    by: Literal["frame", "organ", "appearance"]
    distance_mm: float | None = None


class Together(Model):
    """What several sensors of one frame of reference outline together, of a mass that their volumes were cut
    out around; beside what each outlines alone. modalities: the sensors. lesion: on the grid of one of
    them."""

    modalities: list[str]
    lesion: LesionRecord


class FindingRecord(Model):
    """One finding of the task: its probability, and what that rests on.

    group: focal, diffuse, biliary or other. calibrated: the probability was calibrated for the modalities
    that are there. interval: 90 % for how often validation cases with such a probability came true. assessed:
    whether the images can show it. assessed_by: the modalities that did. evidence: the places it shows in.
    """

    id: str
    name: str
    group: str
    probability: float | None  # calibrated; null when nothing was said
    calibrated: bool
    # what 90 % sets leave possible; both: cannot tell
    answers: list[Literal["absent", "present"]] = Field(default_factory=list)
    interval: list[float] | None = (
        None  # 90 % for how often validation cases with such a probability came true
    )
    assessed: bool
    assessed_by: list[str] = Field(default_factory=list)
    # modality → not_acquired, cannot_show or lacks ROLES
    why_not: dict[str, str] = Field(default_factory=dict)
    # exact Shapley on the calibrated probability
    contribution: dict[str, float] = Field(default_factory=dict)
    evidence: list[Place] = Field(default_factory=list)

    @property
    def cannot_tell(self) -> bool:
        """Neither answer can be left out at 90 % (split conformal on validation cases of the same presence
        pattern)."""
        return len(self.answers) == 2


class RefusedRecord(Model):
    """A file or series that was not used."""

    path: str
    reason: str


class Prediction(Model):
    """prediction.json: what the model says of one case.

    simulated: the patient is simulated. in_domain: every image that was used lies in the validated domain.
    outside_domain_shown: the user asked for scores of images outside of it. modalities: the state of each.
    images: every image that was given. matches: lesions of two modalities that are one. bundle: name of the
    bundle that predicted.
    """

    schema_version: Literal["1"] = "1"
    case_id: str
    simulated: bool
    in_domain: bool
    outside_domain_shown: bool = False
    modalities: dict[str, Literal["present", "limited", "absent", "failed"]]
    # modality → not_in_view, or cut top, cut bottom, cut bottom top
    limits: dict[str, str] = Field(default_factory=dict)
    images: list[ImageRecord]
    # share of the frames of ultrasound that show the organ
    organ_in_view: dict[str, float] = Field(default_factory=dict)
    findings: list[FindingRecord]
    lesions: list[LesionRecord]
    matches: list[LesionMatch] = Field(default_factory=list)
    together: list[Together] = Field(default_factory=list)  # of a task around one known mass
    refused: list[RefusedRecord] = Field(default_factory=list)
    bundle: str
    bundle_hash: str
    baseline_probability: dict[str, float] = Field(default_factory=dict)  # with no modality at all
    # subset → finding → probability
    subset_probability: dict[str, dict[str, float]] = Field(default_factory=dict)
    embedding: dict[str, list[float]] = Field(default_factory=dict)  # coordinated space, by sense

    @property
    def outlined(self) -> list[LesionRecord]:
        """Every lesion that has an outline of its own: of each sensor, then of several together."""
        return [*self.lesions, *(t.lesion for t in self.together)]

    def finding(self, finding_id: str) -> FindingRecord:
        """The record of a finding. Raises StopIteration for an id that the task does not have."""
        return next(f for f in self.findings if f.id == finding_id)
