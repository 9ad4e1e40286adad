"""The JSON beside a NIfTI: what the format cannot hold. Names are BIDS's (as dcm2niix writes them), then
DICOM's, then ours with medfuse_ before them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..case import Image
from ..errors import UnreadableError
from ..foreign import foreign_json
from ..modalities import modality_of
from .beside import beside
from .text import decoded

VOLUME_SUFFIXES = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd", ".nhdr", ".hdr")
SUFFIX = ".json"
DECIDING = {
    "Modality",
    "medfuse_role",
    "FrameOfReferenceUID",
    "Simulated",
    "Synthetic",
    "Units",
    "DecayCorrection",
}
# traits that a sidecar holds under their own names: (trait, alias, times this)
ACQUIRED = (
    ("echo_ms", "EchoTime", 1e-3),  # BIDS: seconds
    ("trigger_ms", "TriggerTime", 1.0),
    ("kvp", "KVP", 1.0),
    ("temporal_index", "TemporalPositionIdentifier", 1.0),
    ("b_value", "DiffusionBValue", 1.0),
)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, populate_by_name=True)


class SidecarTrait(_Part):
    """One thing that the headers said, with a confidence from 0 to 1.

    value: as text. confidence: 1 where the header states it.
    """

    value: str
    confidence: float


class SidecarGeometry(_Part):
    """Outcome of the geometry check: what was found, and what it was compared with.

    outcome: what the slices make up. measured, allowed: in words, with their unit.
    """

    outcome: Literal["exact", "irregular", "tilted", "split", "none"]
    measured: str
    allowed: str


class SidecarRegion(_Part):
    """A calibrated ultrasound region: pixel box (x0, y0, x1, y1) inclusive, mm per pixel (x, y).

    box: in pixels. mm_per_pixel: across and down. kind: 2d, colour, m-mode, doppler or other.
    """

    box: tuple[int, int, int, int]
    mm_per_pixel: tuple[float, float]
    kind: str


class Sidecar(_Part):
    """What is read from a sidecar and written to one. A field that is unset is not stated; further keys of
    other programs are kept in `as_json`.

    units: of the values, such as SUVbw. decay_correction: as in DICOM. echo_s: in seconds. trigger_ms,
    frame_ms: in milliseconds. kvp: tube voltage in kV. temporal_index: number in time. b_value: in s/mm².
    traits: what the headers said, by name. role_confidence: 0 to 1. study_uid: StudyInstanceUID. description:
    of the series. manufacturer: of the scanner. geometry: outcome of the check. slice_positions: in mm along
    the stack, where they are irregular. text_boxes: (x0, y0, x1, y1) of burned-in text. regions: calibrated
    parts of ultrasound. synthetic: made by a model, not acquired. case_id: of the case that it was exported
    from.
    """

    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True, coerce_numbers_to_str=True)
    units: str = Field(default="", alias="Units")
    decay_correction: str = Field(default="", alias="DecayCorrection")
    echo_s: float | None = Field(default=None, alias="EchoTime")
    trigger_ms: float | None = Field(default=None, alias="TriggerTime")
    kvp: float | None = Field(default=None, alias="KVP")
    temporal_index: float | None = Field(default=None, alias="TemporalPositionIdentifier")
    b_value: float | None = Field(default=None, alias="DiffusionBValue")
    traits: dict[str, SidecarTrait] = Field(default_factory=dict, alias="Traits")
    modality: str = Field(default="", alias="Modality")
    role: str = Field(default="", alias="medfuse_role")
    role_confidence: float | None = Field(default=None, alias="medfuse_role_confidence")
    series_uid: str = Field(default="", alias="SeriesInstanceUID")
    study_uid: str = Field(default="", alias="StudyInstanceUID")
    description: str = Field(default="", alias="SeriesDescription")
    manufacturer: str = Field(default="", alias="Manufacturer")
    frame_of_reference: str = Field(default="", alias="FrameOfReferenceUID")
    simulated: bool = Field(default=False, alias="Simulated")
    synthetic: bool = Field(default=False, alias="Synthetic")
    geometry: SidecarGeometry | None = Field(default=None, alias="Geometry")
    slice_positions: list[float] = Field(default_factory=list, alias="SlicePositions")
    frame_ms: float | None = Field(default=None, alias="FrameTime")
    text_boxes: list[tuple[int, int, int, int]] = Field(default_factory=list, alias="TextBoxes")
    regions: list[SidecarRegion] = Field(default_factory=list, alias="Regions")
    warnings: list[str] = Field(default_factory=list, alias="Warnings")
    case_id: str = Field(default="", alias="medfuse_case")

    def as_json(self) -> dict[str, object]:
        """All that is set, by the names of the file."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)

    def acquired(self) -> dict[str, tuple[str, float]]:
        """Traits that tell one volume of a series from the next, as an image holds them."""
        known = self.model_dump(by_alias=True, include={"echo_s", *(t for t, _, _ in ACQUIRED)})
        return {
            trait: (f"{known[alias] / scale:g}", 1.0)
            for trait, alias, scale in ACQUIRED
            if known.get(alias) is not None
        }


def read_sidecar(path: Path) -> Sidecar:
    """The sidecar of a volume file: the same name with .json, in any case; nothing stated where there is
    none. Raises UnreadableError."""
    side = sidecar_path(path)
    if side is None:
        return Sidecar()
    try:
        found = foreign_json(decoded(side.read_bytes()))
    except (ValueError, OSError) as e:
        raise UnreadableError(side, f"not valid JSON ({e}); mend or remove it") from e
    return _validated(side, found if isinstance(found, dict) else {})


def _validated(side: Path, found: dict[str, object]) -> Sidecar:
    """Other programs write other things under some of our names: what decides how the image is read must be
    right, the rest is left out where it is of another form."""
    try:
        return Sidecar.model_validate(found)
    except ValidationError as e:
        wrong = {str(x["loc"][0]): x["msg"] for x in e.errors()}
    for name in sorted(wrong.keys() & DECIDING):
        raise UnreadableError(side, f"{name}: {wrong[name]}; mend or remove it")
    return Sidecar.model_validate({k: v for k, v in found.items() if k not in wrong})


def sidecar_path(path: Path) -> Path | None:
    """The JSON beside a volume file, in any case; None where there is none."""
    suffix = next((s for s in VOLUME_SUFFIXES if path.name.lower().endswith(s)), path.suffix)
    return beside(path, path.name[: len(path.name) - len(suffix)] + SUFFIX)


def volume_beside(path: Path) -> Path | None:
    """The volume file whose sidecar a JSON is; None where there is none."""
    names = (path.name[: -len(path.suffix)] + suffix for suffix in VOLUME_SUFFIXES)
    return next((found for name in names if (found := beside(path, name)) is not None), None)


def sidecar_of(image: Image, case_id: str = "") -> Sidecar:
    """What NIfTI cannot hold of an image, and of which case it is where that is given."""
    g = image.geometry
    src = image.source
    unit = modality_of(image.modality).unit
    decay, sure = image.traits.get("decay_correction", ("", 0.0))
    said = {"Units": unit.name if unit else "", "DecayCorrection": decay if sure else ""}
    told = {trait: value for trait, (value, sure) in image.traits.items() if sure == 1.0}
    acquired = {alias: float(told[trait]) * scale for trait, alias, scale in ACQUIRED if trait in told}
    return Sidecar.model_validate(
        {k: v for k, v in said.items() if v}
        | acquired
        | ({"Synthetic": True} if src.synthetic else {})
        | ({"medfuse_case": case_id} if case_id else {})
        | {
            "Traits": {k: {"value": v, "confidence": c} for k, (v, c) in image.traits.items()},
            "Modality": image.modality,
            "medfuse_role": image.role,
            "medfuse_role_confidence": image.role_confidence,
            "SeriesInstanceUID": src.series_uid,
            "StudyInstanceUID": src.study_uid,
            "SeriesDescription": src.description,
            "Manufacturer": src.manufacturer,
            "FrameOfReferenceUID": image.frame_of_reference,
            "Simulated": src.simulated,
            "Geometry": {"outcome": g.outcome, "measured": g.measured, "allowed": g.allowed},
            "SlicePositions": list(g.slice_positions_mm),
            "FrameTime": image.frame_ms,
            "TextBoxes": [list(b) for b in image.text],
            "Regions": [
                {"box": r.box, "mm_per_pixel": r.mm_per_pixel, "kind": r.kind} for r in image.regions
            ],
            "Warnings": list(image.warnings),
        }
    )
