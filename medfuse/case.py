"""Image and Case: what was acquired, each image in its own geometry. The only thing `io` hands to the rooms
above."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Num, UInt8

from .affine import Affine
from .modalities import Kind, modality_of

State = Literal["present", "limited", "absent", "failed"]


# levels between the channels, and share of the brightest: below it, tinted grey
COLOURED = 40
SATURATED = 0.45


def luminance(pixels: Num[np.ndarray, "t h w *rgb"]) -> Num[np.ndarray, "t h w"]:
    """(T, H, W[, 3]) → (T, H, W), ITU-R BT.601."""
    if pixels.ndim == 3:
        return pixels
    return np.round(pixels @ np.array([0.299, 0.587, 0.114], np.float32)).astype(pixels.dtype)


@dataclass(frozen=True)
class Region:
    """A calibrated ultrasound region: pixel box (x0, y0, x1, y1) inclusive, mm per pixel (x, y), and what it
    shows."""

    box: tuple[int, int, int, int]
    mm_per_pixel: tuple[float, float]
    kind: Literal["2d", "colour", "m-mode", "doppler", "other"] = "2d"


@dataclass(frozen=True)
class Source:
    """Where an image came from."""

    path: str
    sha256: str = ""
    study_uid: str = ""
    series_uid: str = ""
    instance_uids: tuple[str, ...] = ()
    files: tuple[str, ...] = ()  # of each instance, in the order of instance_uids: slices upward, or one file
    frames: tuple[int, ...] = ()  # of slices that are frames of one file: the number of each in it, from 1
    description: str = ""
    manufacturer: str = ""
    date: str = ""
    simulated: bool = False
    synthetic: bool = False  # made by a model; read only where a manifest names it so
    body_part: str = ""  # BodyPartExamined
    indication: str = ""  # ReasonForStudy
    history: str = ""  # AdditionalPatientHistory


@dataclass(frozen=True)
class Geometry:
    """Outcome of the geometry check: what was found, and what it was compared with."""

    outcome: Literal["exact", "irregular", "tilted", "split", "none"]
    measured: str = ""
    allowed: str = ""
    slice_positions_mm: tuple[float, ...] = ()


@dataclass
class Image:
    """One acquired series or cine.

    pixels: CT, MR (I, J, K) float32, CT in HU; US (T, H, W) uint8 grey or (T, H, W, 3) RGB.
    affine: (4, 4) voxel index → RAS+ mm in ``frame_of_reference``, or None (ultrasound, plain pictures).
    """

    modality: str  # a code of modalities.MODALITIES
    pixels: Num[np.ndarray, ...]
    source: Source
    affine: Float[np.ndarray, "4 4"] | None = None
    frame_of_reference: str = ""
    role: str = "unknown"
    role_confidence: float = 0.0
    traits: dict[str, tuple[str, float]] = field(default_factory=dict)  # what the headers say beside the role
    geometry: Geometry = field(default_factory=lambda: Geometry("none"))
    frame_ms: float | None = None
    regions: tuple[Region, ...] = ()
    warnings: tuple[str, ...] = ()
    area: Bool[np.ndarray, "h w"] | None = (
        None  # of ultrasound: (H, W) bool, where the scan is; None where it cannot be told
    )
    text: tuple[tuple[int, int, int, int], ...] = ()  # boxes (x0, y0, x1, y1) of burned-in text and graphics
    overlay: Bool[np.ndarray, ...] | None = None  # of the pixels' shape: what somebody drew over them
    plane: Float[np.ndarray, "4 4"] | None = (
        None  # of an irregular stack: (4, 4) pixel of the first slice → RAS+ mm, unit normal
    )

    def __post_init__(self) -> None:
        if modality_of(self.modality).is_cine:
            if self.pixels.ndim not in (3, 4):
                raise ValueError(f"{self.modality} pixels must be (T, H, W[, 3]), got {self.pixels.shape}")
        elif self.pixels.ndim != 3:
            raise ValueError(f"{self.modality} pixels must be (I, J, K), got {self.pixels.shape}")
        if self.affine is not None:
            Affine(self.affine)  # refuses what places no voxel

    @property
    def kind(self) -> Kind:
        """ "cine": frames in time without a place in the patient; "volume": it lies, or should lie, in space.
        A tracked ultrasound sweep has its place, so it is a volume."""
        return "volume" if self.affine is not None else modality_of(self.modality).kind

    @property
    def space(self) -> Affine | None:
        """Where its voxels lie, or None where they have no one place."""
        return None if self.affine is None else Affine(self.affine)

    @property
    def frames(self) -> int:
        """How many frames a cine has, or slices (K) a volume, as stored."""
        return self.pixels.shape[0] if self.kind == "cine" else self.pixels.shape[2]

    @property
    def spacing(self) -> tuple[float, ...] | None:
        """Voxel size in mm, or None where unknown."""
        if self.affine is not None:
            return tuple(float(v) for v in np.linalg.norm(self.affine[:3, :3], axis=0))
        region = self.region_2d
        return region.mm_per_pixel if region else None

    @property
    def region_2d(self) -> Region | None:
        """The largest calibrated 2D region of an ultrasound image."""
        flat = [r for r in self.regions if r.kind in ("2d", "colour")]
        return max(flat, key=lambda r: (r.box[2] - r.box[0]) * (r.box[3] - r.box[1]), default=None)

    @property
    def grey(self) -> UInt8[np.ndarray, "t h w"]:
        """Ultrasound frames as (T, H, W) uint8: B-mode inside the scanned area, black where colour flow or
        text lies."""
        if self.affine is not None:  # a volume: its slices, as they are shown
            return np.clip(self.pixels, 0, 255).astype(np.uint8).transpose(2, 1, 0)
        grey = luminance(self.pixels)
        if self.pixels.ndim == 4:
            grey = np.where(self.colour, 0, grey)
        return grey if self.area is None else grey * self.area

    @property
    def colour(self) -> Bool[np.ndarray, "t h w"]:
        """(T, H, W) bool: colour flow and other saturated colour. Tinted grey (sepia maps) stays grey."""
        if self.pixels.ndim == 3:
            return np.zeros(self.pixels.shape, bool)
        top = self.pixels.max(-1)
        apart = top - self.pixels.min(-1)
        return (apart > COLOURED) & (apart > SATURATED * top.astype(np.float32))


@dataclass(frozen=True)
class Refusal:
    """Something that was given and could not be used: where, why, and of which modality where that is
    known."""

    path: str
    reason: str
    modality: str = ""
    series_uid: str = ""  # of a series whose geometry was refused, with what was measured and what is allowed
    measured: str = ""
    allowed: str = ""


@dataclass(frozen=True, kw_only=True)
class ReferredImage:
    """An image that an object refers to. frames: numbers from 1; all of them where there is none."""

    series_uid: str
    sop_uid: str
    frames: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class StateMark:
    """Something that a presentation state draws on images, or a shutter: a shape outside of which they are
    hidden ("runs": inside of which).

    points: (column, row) in pixels of the image as stored, the outer corner of its first pixel at (0, 0).
    Of a "line" its corners; of a "curve" what it goes through; of a "circle" its centre and a place on
    it; of an "ellipse" the ends of its long and of its short axis; of "runs" two corners of each of its
    rectangles; of a "text" two corners of its box, or the one place where it stands. text: its words, in
    lines. align: of the words in their box. anchor: the place that words speak of, where a line leads to
    it. colour: "#rrggbb"; empty where it states none. images: those that it is drawn on; all of the
    state's where there is none.
    """

    kind: Literal["points", "line", "curve", "circle", "ellipse", "runs", "text"]
    points: tuple[tuple[float, float], ...]
    text: str = ""
    align: Literal["left", "center", "right"] = "left"
    anchor: tuple[float, float] | None = None
    filled: bool = False
    shutter: bool = False
    colour: str = ""
    images: tuple[ReferredImage, ...] = ()


@dataclass(frozen=True, kw_only=True)
class StateArea:
    """The part of images that a presentation state shows: the place (column, row), as of `StateMark`, that
    lies in the upper left corner of the screen, and the one in the lower right. images: all of the state's
    where there is none."""

    corners: tuple[tuple[float, float], tuple[float, float]]
    images: tuple[ReferredImage, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ReferringObject:
    """Something of a study that says something of images: how to show them, which of them are key, or what
    somebody outlined on them.

    title, description: as its author wrote them. graphics: how many marks and texts it holds. Of a
    presentation state, windows: (centre, width) in the images' unit; rotation in degrees clockwise; flipped:
    left and right changed, after the rotation; inverted: bright is low; texts: what it writes on the images;
    marks: what it draws, the lowest layer first; areas: what it shows of them; undrawn: how many have no
    place on an image that can be told. Of outlines, graphics is how many structures there are; outlined: UIDs
    of the series that they are of; made_by: person, program and date, as far as it says them; file: its name
    in the store of a library.
    """

    kind: Literal["presentation state", "key objects", "segmentation", "structure set", "label map"]
    path: str
    sop_uid: str
    series_uid: str
    study_uid: str
    title: str
    description: str
    graphics: int
    images: tuple[ReferredImage, ...]
    patient_id: str = ""
    windows: tuple[tuple[float, float], ...] = ()
    rotation: int = 0
    flipped: bool = False
    inverted: bool = False
    texts: tuple[str, ...] = ()
    marks: tuple[StateMark, ...] = ()
    areas: tuple[StateArea, ...] = ()
    undrawn: int = 0
    outlined: tuple[str, ...] = ()
    made_by: str = ""
    file: str = ""


@dataclass(frozen=True)
class Lab:
    """One laboratory value: LOINC code, UCUM unit, ISO date."""

    loinc: str
    value: float
    unit: str
    date: str = ""
    name: str = ""


@dataclass
class Case:
    """The images and words of one patient within an interval; the unit of fusion."""

    case_id: str
    patient_id: str = ""
    images: list[Image] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    objects: list[ReferringObject] = field(default_factory=list)  # states, key objects, outlines of others
    indication: str = ""
    report: str = ""
    sex: str = ""
    birth_date: str = ""
    risk: str = ""  # documented risk status, such as cirrhosis
    labs: list[Lab] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)  # WAV files, such as of the heart
    study_uids: tuple[str, ...] = ()
    folder: str = ""

    def read_words(self) -> None:
        """Take indication and risk status from the headers where nobody has stated them."""
        self.indication = self.indication or next(
            (i.source.indication for i in self.images if i.source.indication), ""
        )
        self.risk = self.risk or next((i.source.history for i in self.images if i.source.history), "")

    def state_simulated(self) -> None:
        """A manifest says so for all its images; NIfTI headers cannot."""
        for image in self.images:
            image.source = replace(image.source, simulated=True)

    def of(self, modality: str) -> list[Image]:
        """Its images of one modality, in order."""
        return [image for image in self.images if image.modality == modality]

    @property
    def age(self) -> int | None:
        """Whole years at the newest image, or None where a date is missing."""
        dates = [i.source.date for i in self.images if len(i.source.date) == 8]
        born = self.birth_date.replace("-", "")
        if not dates or len(born) != 8 or not (born + max(dates)).isdigit():
            return None
        now = max(dates)
        return int(now[:4]) - int(born[:4]) - (now[4:] < born[4:])

    @property
    def simulated(self) -> bool:
        """Whether all its images are, and there are some."""
        return bool(self.images) and all(image.source.simulated for image in self.images)

    def state(self, modality: str) -> State:
        """Present, absent or failed; 'limited' is decided later, when the coverage is known."""
        if self.of(modality):
            return "present"
        return "failed" if any(r.modality == modality for r in self.refused) else "absent"
