"""What the viewer's browser and Python tell each other, as models; `python -m apps.viewer.typedefs` writes
them for the front end.

A message that does not fit is refused with one sentence and not stored. The same models check what the
library keeps and what goes into a DICOM SR. Places are voxels of an image as it is displayed: (x, y, z) to
the patient's left, back and head for volumes, (across, down, frame) for cines; millimetres are RAS+.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError, model_validator

from ..errors import WrongUse
from ..prediction import Place
from ..report import Assertion, Sentence
from .frames import FrameLink
from .hanging import Hanging, WhoseImages, Windows
from .marks import MEASUREMENT, AnyMark, Measurement
from .message import Message as Message
from .presented import DrawnState
from .spots import DrawnStructure as DrawnStructure
from .spots import LesionBox as LesionBox
from .spots import Spot as Spot
from .spots import Voxel as Voxel
from .tags import ShownTags

Words = dict[str, Any]  # of words.yaml in the reader's language: words by name, in branches
Kind = TypeVar("Kind", bound="Message")


class Drawing(Message):
    """Something that was drawn.

    serial: its number, which grows; a repetition has the same one. act: whether it is new, or the one of its
    id is changed or taken away. measurement: what was drawn.
    """

    serial: int
    act: Literal["add", "change", "remove"] = "add"
    measurement: Measurement


class Measured(Message):
    """From the browser: what was drawn and is not answered yet. It is sent again until ``ReaderData.taken``
    says that it arrived: a page that is being drawn anew may lose a message.

    drawings: oldest first.
    """

    drawings: list[Drawing] = Field(min_length=1, max_length=100)


class Keyed(Message):
    """From the browser: which keys this person wants.

    keys: by what they do; empty for those of the house.
    """

    serial: int
    keys: dict[str, str] = Field(max_length=100)


class Asked(Message):
    """From the browser: something was asked for that needs no words, such as the earlier study."""

    serial: int


class UltrasoundRegion(Message):
    """A calibrated part of an ultrasound frame: first and last pixel (x0, y0, x1, y1), mm of a pixel.

    box: pixels. mm: across and down.
    """

    box: tuple[int, int, int, int]
    mm: tuple[float, float]


class Pixels(Message):
    """What every image has. Its pixels lie at ``URL.CHUNK.gz``.

    shape: of a volume (I, J, K) as displayed, of a cine (frames, rows, columns). per_chunk: slices or
    frames in each chunk. chunks: how many there are. thumb: width and height of the small grey picture at
    ``URL.thumb.gz``. study_uid, date: of the study that it belongs to (YYYYMMDD). prior: date of the earlier
    study, empty for images of the case that is read. drawn: something is drawn over it, whose bits lie at
    ``URL.overlay.gz``.
    """

    index: int
    modality: str
    role: str
    title: str
    series_uid: str
    frame_of_reference: str
    simulated: bool
    warnings: list[str]
    url: str = ""  # only in the browser: it holds a key of the session
    shape: Voxel
    per_chunk: int
    chunks: int
    presets: dict[str, tuple[float, float]]  # window (centre, width) by name
    thumb: tuple[int, int] = (0, 0)
    study_uid: str = ""
    date: str = ""
    prior: str = ""
    drawn: bool = False


class VolumeImage(Pixels):
    """int16 voxels. slope, intercept: the original value is slope × voxel + intercept."""

    kind: Literal["volume"]
    slope: float
    intercept: float
    unit: str  # of the original values, such as HU
    spacing: tuple[float, float, float]  # mm
    to_view: list[list[float]]  # (4, 4): voxel as stored → voxel as displayed
    affine: list[list[float]] | None  # (4, 4): voxel as displayed → RAS+ mm
    # InstanceNumber of each axial slice as displayed, 0 where it has none
    numbers: list[int] = Field(default_factory=list)
    exact: bool  # the axes are those of the patient, so that planes and lengths are true


class CineImage(Pixels):
    """uint8 frames, grey or RGB.

    rgb: three channels. frame_ms: duration of a frame. pixel_mm: size of a pixel where the whole frame has
    one. regions: the calibrated parts.
    """

    kind: Literal["cine"]
    rgb: bool
    frame_ms: float | None
    pixel_mm: tuple[float, float] | None
    regions: list[UltrasoundRegion]


ViewerImage = Annotated[VolumeImage | CineImage, Field(discriminator="kind")]


class RefusedFile(Message):
    """A file or series that could not be read."""

    path: str
    reason: str
    modality: str


class CaseImages(Message):
    """``case.json`` beside the pixels of a case.

    files: of each image, the names in the store: one a slice or frame as displayed, or one for all.
    instances: by SOP Instance UID its image and slice as displayed, -1 where one file holds them all. stored:
    of each image, the SOP Instance UID of each slice or frame as stored, and its frame in that file, from 1.
    structures: what others outlined. unplaced: by the id of an object with outlines, why some are not shown.
    """

    case_id: str
    patient_id: str
    images: list[ViewerImage]
    refused: list[RefusedFile]
    states: dict[str, str]  # present, limited, absent or failed, by modality
    files: list[list[str]] = Field(default_factory=list)
    instances: dict[str, tuple[int, int]] = Field(default_factory=dict)
    stored: list[list[tuple[str, int]]] = Field(default_factory=list)
    structures: list[DrawnStructure] = Field(default_factory=list)
    unplaced: dict[str, str] = Field(default_factory=dict)


class ModalityState(Message):
    """How a modality stands in this case, and why."""

    state: str
    why: str


class ReaderData(Message):
    """To the browser: the images of a case and what is drawn on them.

    states: by modality. places: the lesions to draw. measurements: what readers drew, those included
    that arrived since. whose: for the corners. earlier: whose the images of the earlier study are, which
    stand after those of the study. prior_date: of the earlier study in the library, empty without one.
    prior_open: it is shown. hangings: what can be hung, the first of which is. may_save: a hanging, and keys.
    keys: by what they do. heard: the serial of the newest message that arrived, by event. tags: the header
    that is open. windows: this person's own (centre, width), by modality and name. presented: what
    presentation states draw on the images. structures: what others outlined on them. links: frames of
    reference that accepted registrations bring onto each other.
    """

    case_id: str
    case_key: str  # another one: the pixels are others
    images: list[ViewerImage]
    modalities: list[str]  # those that can have a viewport, in their order
    states: dict[str, ModalityState]
    places: list[LesionBox]
    measurements: list[Measurement]
    taken: int = 0  # the serial of the newest drawing that arrived
    whose: WhoseImages
    earlier: WhoseImages | None = None
    prior_date: str = ""
    prior_open: bool = False
    hangings: list[Hanging] = Field(default_factory=list)
    may_save: bool = False
    keys: dict[str, str] = Field(default_factory=dict)
    heard: dict[str, int] = Field(default_factory=dict)
    tags: ShownTags | None = None
    windows: Windows = Field(default_factory=dict)
    presented: list[DrawnState] = Field(default_factory=list)
    structures: list[DrawnStructure] = Field(default_factory=list)
    links: list[FrameLink] = Field(default_factory=list)
    words: Words


class FindingLine(Message):
    """One finding with its calibrated probability and what each modality added to it.

    said: in words. assessed: whether the images can show it. contribution: of each modality. interval: 90
    %, see the prediction. place: where it shows. hint: why nothing was said.
    """

    id: str
    name: str
    probability: float
    said: str
    assessed: bool
    interval: tuple[float, float] | None
    contribution: dict[str, float]
    place: Spot | None
    hint: str


class LesionLine(Message):
    """One lesion as the table shows it.

    said: in words. size: with its unit. where: side, slice or frame.
    """

    id: str
    name: str
    said: str
    size: str
    where: str
    place: Spot


class FindingsData(Message):
    """To the browser: the table of findings and lesions.

    findings, lesions: the lines of the table.
    """

    findings: list[FindingLine]
    lesions: list[LesionLine]
    colours: dict[str, str]  # by modality
    words: Words


class Chip(Message):
    """A place that a sentence rests on.

    label: short. title: in full.
    """

    label: str
    title: str
    place: Spot


class ShownSentence(Message):
    """A sentence of the report with its places.

    finding: empty where the sentence names none. chips: the places to jump to. assertion, state: as in the
    report.
    """

    text: str
    finding: str
    probability: float | None
    modality: list[str]
    evidence: list[Place]  # the browser hands them back as they are
    assertion: Assertion
    state: Literal["drafted", "accepted", "edited", "rejected"]
    claims: list[str] = Field(default_factory=list)  # handed back as they are
    chips: list[Chip]


class ShownSection(Message):
    """A section of the report with its sentences."""

    id: str
    title: str
    sentences: list[ShownSentence]


class Typing(Message):
    """From the browser: words in the middle of an edit, or (``text`` null) that it was given up.

    section, sentence: which one, from 0.
    """

    text: str | None
    section: int | None = None
    sentence: int | None = None
    revision: int | None = None

    @model_validator(mode="after")
    def _says_where(self) -> Typing:
        if self.text is not None and None in (self.section, self.sentence, self.revision):
            raise ValueError("words that are typed need section, sentence and revision")
        return self


class ReportData(Message):
    """To the browser: the report to work on.

    heard: the serial of the newest message that arrived, by event. may_edit: whether the person may.
    pending: words in the middle of an edit. macros: texts by the name that is typed for them; [x] in one is
    a field. keys: by what they do.
    """

    revision: int
    sections: list[ShownSection]
    may_edit: bool
    heard: dict[str, int]
    pending: Typing | None
    words: Words
    macros: dict[str, str] = Field(default_factory=dict)
    keys: dict[str, str] = Field(default_factory=dict)


class ChangedSection(Message):
    """A section as the reader left it."""

    id: str
    sentences: list[Sentence]


class ReportChange(Message):
    """From the browser: the report as the reader left it, on top of ``revision``."""

    revision: int
    serial: int
    sections: list[ChangedSection]


def read_message(model: type[Kind], data: object) -> Kind:
    """A message of the browser. Raises WrongUse: what does not fit, in one sentence."""
    try:
        return model.model_validate(data)
    except ValidationError as e:
        raise WrongUse(
            f"the page sent something that cannot be used ({first_fault(e)}); nothing was stored, reload the "
            "page and try again"
        ) from e


def read_measurement(data: object) -> AnyMark:
    """A measurement from JSON data. Raises WrongUse: what does not fit, in one sentence."""
    try:
        return MEASUREMENT.validate_python(data)
    except ValidationError as e:
        raise WrongUse(f"this measurement cannot be used: {first_fault(e)}; draw it again") from e


def first_fault(e: ValidationError) -> str:
    """The first thing that a model did not accept, such as "area: Field required"."""
    fault = e.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(x) for x in fault["loc"])
    return f"{where}: {fault['msg']}" if where else fault["msg"]
