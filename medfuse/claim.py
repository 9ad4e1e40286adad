"""Claim: what is said of one finding or one lesion, how surely, where, and which modality shows it; words,
checks and exports come from claims."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Certainty = Literal["certain", "likely", "possible", "unlikely", "absent", "not_assessed"]
Role = Literal["shows", "does_not_show", "unclear", "cannot_show", "not_acquired"]
CLAIMED: tuple[Certainty, ...] = ("certain", "likely", "possible")
DENYING: tuple[Certainty, ...] = ("unlikely", "absent")


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Witness(Model):
    """What one modality says of a claim.

    role: shows, does_not_show though it could, unclear (by itself it settles nothing), cannot_show,
    not_acquired. why: a code, such as ``lacks arterial``, ``failed``, ``cut top``, ``window`` (the organ is
    seldom in view), ``unmatched`` (it outlines a lesion that may be this one) or ``alone`` (it outlines this
    one, and no other modality does). probability: of the finding by this modality alone. contribution: its
    Shapley share of the fused probability.
    """

    modality: str
    role: Role
    why: str = ""
    probability: float | None = None
    contribution: float | None = None


class Claim(Model):
    """One thing that is said: of a finding of the whole case, or of one lesion over all modalities.

    finding: of the task. certainty: in words of `Certainty`. witnesses: what each modality says of it.
    id: the finding's, with a number for each lesion of it. lesions: ids of its lesion records, the largest
    first; none for a finding. match: how sure it is that they are one lesion; "" for a single record. side:
    of the organ. long_axis_mm, short_axis_mm: of the first lesion that was measured. joint: no modality
    shows it alone, together they do. evidence: ids of lesions, or ``image N`` for a place in an image.
    contradicts: findings of which one holds only where this one does not.
    """

    id: str
    finding: str
    certainty: Certainty
    probability: float | None = None
    side: Literal["right", "left", ""] = ""
    long_axis_mm: float | None = None
    short_axis_mm: float | None = None
    lesions: list[str] = Field(default_factory=list)
    match: Literal["same", "probable", ""] = ""
    witnesses: list[Witness] = Field(default_factory=list)
    joint: bool = False
    evidence: list[str] = Field(default_factory=list)
    contradicts: list[str] = Field(default_factory=list)

    @property
    def claimed(self) -> bool:
        """Whether it is said to be there, possibly too."""
        return self.certainty in CLAIMED

    def of_role(self, role: Role) -> list[Witness]:
        """Its witnesses of one role, in the task's order."""
        return [w for w in self.witnesses if w.role == role]

    def shown_by(self) -> list[str]:
        """The modalities that show it."""
        return [w.modality for w in self.of_role("shows")]
