"""Task: what a model is asked. A YAML file beside its report templates; nothing of a task is written in
code."""

from __future__ import annotations

import math
from importlib.resources import files
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .errors import UserError, WrongUse, fault_of
from .foreign import yaml_as_json
from .learning import EQUAL_WEIGHTS, ClassWeights, EncoderLearning, Tuning
from .modalities import MODALITIES, is_cine, unknown

OWN = "own"  # the encoder that training makes
BEAM_CHANNELS = 2  # before and behind a pixel on its scan line


def token_key(modality: str, encoder: str) -> str:
    """Under what the tokens of an encoder from disk are kept, beside its modality's own."""
    return f"{modality}:{encoder.replace('.', '_')}"


def modality_of_key(key: str) -> str:
    """The modality (or sense) whose tokens are kept under a key."""
    return key.partition(":")[0]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


# density: mean HU. suv_max, suv_mean: of the voxels. suv_peak: the highest mean of a sphere of 1 ml. tlg:
# total lesion glycolysis, mean SUV times volume
Measure = Literal["density", "suv_max", "suv_mean", "suv_peak", "tlg"]


class Intensity(Strict):
    """How values enter a network: (value - centre) / width, clipped.

    kind: robust takes centre and width from the body's own values, hu and unit are in the modality's unit
    (HU of CT, SUVbw of PET), byte is for 8-bit frames. centre, width: in that unit. clip: lowest and
    highest value that enters.
    """

    kind: Literal["hu", "unit", "robust", "byte"]
    centre: float = 0.0
    width: float = 1.0
    clip: tuple[float, float] = (-3.0, 5.0)


class ModalityTask(Strict):
    """How a task looks at one modality.

    roles: the series it takes, one input channel each. filters: width of the encoder. intensity: how values
    are scaled. window: voxels of the network grid that the encoder of volumes sees at once, multiples of 8;
    none: a whole volume. centred: the middle of each volume lies in what it was cut out around, or near it,
    and the encoder goes by that; volumes go on beyond their border as their mirror image.
    """

    roles: tuple[str, ...] = ("unknown",)
    spacing_mm: tuple[float, float, float] = (4.0, 4.0, 5.0)  # network grid of volumes
    # for volumes that were cut out around something: neither their size nor their border is seen
    window: tuple[int, int, int] | None = None
    centred: bool = False
    size: int = 128  # network pixels of an ultrasound frame
    frames: int = 20  # ultrasound frames at most
    # pixels a side of what training cuts out of an ultrasound frame around small structures, a multiple of 8;
    # 0: whole frames
    crop: int = 0
    # of ultrasound: two more input channels, the mean echo before and behind each pixel on its scan line,
    # against other lines at the same depth (preprocess/beam.py)
    beam: bool = False
    filters: int = 12
    encoder: str = ""  # of the registry in models/encoders.py; the first there where none is named
    mirror: bool = False  # sides mean nothing in these images: training may show their mirror image
    # measuring crosses and letters are painted over before the network sees a frame
    remove_marks: bool = False
    intensity: Intensity

    @property
    def channels(self) -> int:
        """Input channels of the modality's own encoder: one a role, and those along the beam."""
        return len(self.roles) + (BEAM_CHANNELS if self.beam else 0)


class Finding(Strict):
    """One thing that may be present.

    name: by language. group: focal, diffuse, biliary or other. codes: of terminologies such as SNOMED CT, by
    scheme.
    """

    id: str
    name: dict[str, str]
    group: Literal["focal", "diffuse", "biliary", "other"]
    modalities: tuple[str, ...]  # which can show it at all
    # modality: all of (any of roles)
    requires: dict[str, tuple[tuple[str, ...], ...]] = Field(default_factory=dict)
    codes: dict[str, str] = Field(default_factory=dict)
    derived_from: tuple[str, ...] = ()  # ids of narrower findings: it holds where one of them does
    lesion_class: str = ""  # the class of the label maps whose lesions have this finding's name
    region: str = ""  # class of the label maps in which it shows; none: the organ (see `Task.shows_in`)
    rank: int = 50  # importance in the impression, small first

    def label(self, language: str) -> str:
        """Its name in a language, or the English one."""
        return self.name.get(language, self.name["en"])


class Task(Strict):
    """What a model is asked.

    extends: another task, by path or shipped name; what this file does not say is as there, templates too.
    title: by language. body_part: what the images show. modalities: how each one is looked at.
    lesion_classes: those of ``dense`` that are lesions. organ: the class of ``dense`` that is the organ.
    around: the lesion class that every volume was cut out around. weights: of the classes in training, equal
    with ``around``. learning: of encoders from label maps. measures: what is measured inside a
    lesion's outline beside its size, by modality. encoders: from disk, by modality (docs/pretrained.md).
    tune: which of those are tuned, by id; the others stay frozen. findings: what may be present.
    """

    extends: str = (
        ""  # another task, by path or shipped name: what this file does not say is as there, templates too
    )
    name: str
    title: dict[str, str]
    body_part: str
    body_parts: tuple[str, ...] = ()  # values of BodyPartExamined that belong here; none: it is not looked at
    modalities: dict[str, ModalityTask]
    further: tuple[str, ...] = ()  # senses beside the images (models/senses)
    # classes of the label maps by number, background first; none: only whole images are labelled
    dense: tuple[str, ...] = ()
    lesion_classes: tuple[str, ...] = ()
    organ: str = ""
    # every volume shows one known lesion of this class: one is outlined in each, and volumes of another size
    # or look than those validated are outside the domain
    around: str = ""
    weights: ClassWeights | None = None  # none: those of ClassWeights, or equal ones with ``around``
    learning: EncoderLearning = EncoderLearning()
    measures: dict[str, tuple[Measure, ...]] = Field(default_factory=dict)
    # a place this many organ extents (standard deviations) right of its centre, or more, is in its right half
    right_from: float | None = None
    rules: dict[str, dict] = Field(default_factory=dict)  # rule layers such as lirads, with what they need
    findings: tuple[Finding, ...]
    # by modality: ids of encoders from disk (medfuse encoder list), and own, the one that training makes; a
    # modality that is not named has its own alone
    encoders: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    tune: dict[str, Tuning] = Field(default_factory=dict)
    exclusive: tuple[str, ...] = ()  # findings of which exactly one holds
    # source, licence, citation: copied into the model card
    about: dict[str, str] = Field(default_factory=dict)
    folder: str = Field(default="", exclude=True)

    @model_validator(mode="after")
    def _consistent(self) -> Task:
        for code in self.modalities:
            if code not in MODALITIES:
                raise ValueError(unknown(code))
        if sum(is_cine(code) for code in self.modalities) > 1:
            raise ValueError("a task takes one modality of cines")
        ids = [f.id for f in self.findings]
        if len(set(ids)) != len(ids):
            raise ValueError("finding ids must differ")
        for f in self.findings:
            for m in (*f.modalities, *f.requires):
                if m not in self.modalities:
                    raise ValueError(f"finding {f.id} names modality {m}, which the task lacks")
        self._consistent_volumes()
        self._consistent_frames()
        self._consistent_encoders()
        if not set(self.exclusive) <= set(ids):
            raise ValueError("exclusive must name findings")
        self._consistent_classes()
        return self

    def _consistent_volumes(self) -> None:
        """Windows fit the encoders, and what is measured has a modality."""
        for code, spec in self.modalities.items():
            if spec.window is not None and any(n < 8 or n % 8 for n in spec.window):
                raise ValueError(f"window of {code} must be three multiples of 8")
        if not set(self.measures) <= set(self.modalities):
            raise ValueError("measures must name modalities of the task")

    def _consistent_frames(self) -> None:
        """What is cut out of frames fits them, and beams are looked for where there are scan lines."""
        for code, spec in self.modalities.items():
            if spec.crop % 8 or not 0 <= spec.crop <= spec.size:
                raise ValueError(f"crop of {code} must be a multiple of 8, at most its size {spec.size}")
            if spec.beam and not (is_cine(code) and self.dense):
                raise ValueError(f"beam of {code} needs a modality of cines, and label maps (dense)")

    def _consistent_encoders(self) -> None:
        """Each modality names its encoders once, and label maps have the own encoder that learns them."""
        for code, names in self.encoders.items():
            if code not in self.modalities:
                raise ValueError(f"encoders names modality {code}, which the task lacks")
            if not names or any(not n.strip() for n in names):
                raise ValueError(f"encoders of {code} needs at least one name, such as {OWN}")
            if len({token_key(code, n) for n in names}) != len(names):
                raise ValueError(f"encoders of {code} must name each encoder once")
            if self.dense and OWN not in names:
                raise ValueError(
                    f"encoders of {code} must name {OWN} too: lesions and coverage come from the encoder "
                    "that learns the label maps"
                )
        named = {n for names in self.encoders.values() for n in names} - {OWN}
        if strange := sorted(set(self.tune) - named):
            raise ValueError(f"tune names {strange[0]}, which encoders does not; it tunes encoders from disk")

    def has_own(self, modality: str) -> bool:
        """Whether training makes an encoder of its own for an image modality."""
        return OWN in self.encoders.get(modality, (OWN,))

    @property
    def own_senses(self) -> tuple[str, ...]:
        """The image modalities that have an encoder of their own, in the task's order."""
        return tuple(m for m in self.image_senses if self.has_own(m))

    @property
    def foreign_encoders(self) -> tuple[tuple[str, str], ...]:
        """Modality and id of each encoder from disk."""
        return tuple((m, n) for m in self.image_senses for n in self.encoders.get(m, ()) if n != OWN)

    def _consistent_classes(self) -> None:
        """The classes of label maps fit each other, and every lesion class has a finding."""
        if len(set(self.dense)) != len(self.dense):
            raise ValueError("dense must name each class once")
        foreground = self.dense[1:]  # 0 is what is none of them, and what borders are filled with
        if (self.dense and self.organ not in foreground) or not set(self.lesion_classes) <= set(foreground):
            raise ValueError("organ and lesion_classes must be among dense, whose first is the background")
        if self.dense:
            self._findings_have_classes(foreground)
        if self.around and self.around not in self.lesion_classes:
            raise ValueError(f"around names {self.around}, which is not in lesion_classes")
        nameless = set(self.lesion_classes) - {f.lesion_class for f in self.findings}
        if nameless and self.general_lesion is None:
            raise ValueError(f"no finding has lesion_class {min(nameless)}, and none holds for any lesion")

    def _findings_have_classes(self, foreground: tuple[str, ...]) -> None:
        """Each finding's lesion class and region are among the classes of the label maps."""
        for f in self.findings:
            if f.lesion_class and f.lesion_class not in self.lesion_classes:
                raise ValueError(f"finding {f.id}: lesion_class {f.lesion_class} is not in lesion_classes")
            if self.shows_in(f.id) not in foreground:
                raise ValueError(f"finding {f.id}: region {f.region} is not among the classes of dense")

    def finding(self, finding_id: str) -> Finding:
        """The finding of an id that the task has."""
        return next(f for f in self.findings if f.id == finding_id)

    def wider(self, finding_id: str) -> list[Finding]:
        """Findings that hold whenever this one does, the narrowest first."""
        own = self.finding(finding_id)
        found = [
            f
            for f in self.findings
            if own.id in f.derived_from or (own.derived_from and set(own.derived_from) < set(f.derived_from))
        ]
        return sorted(found, key=lambda f: len(f.derived_from))

    @property
    def senses(self) -> tuple[str, ...]:
        """What the task fuses, in the one order used everywhere: its image modalities, then its further
        senses by name."""
        return (*self.image_senses, *sorted(self.further))

    @property
    def cine(self) -> str:
        """The modality whose images are cines; "" where the task has none."""
        return next((m for m in self.image_senses if is_cine(m)), "")

    @property
    def image_senses(self) -> tuple[str, ...]:
        """The senses that are images, in the task's order."""
        return tuple(m for m in MODALITIES if m in self.modalities)

    @property
    def whole_images(self) -> bool:
        """No label maps: encoders learn from the findings of whole images alone."""
        return not self.dense

    @property
    def exclusive_indices(self) -> list[int]:
        """Places of the findings of which exactly one holds."""
        return [i for i, f in enumerate(self.findings) if f.id in self.exclusive]

    @property
    def lesion_indices(self) -> list[int]:
        """Numbers of the lesions' classes in the label maps, in the order of `lesion_classes`."""
        return [self.dense.index(c) for c in self.lesion_classes]

    @property
    def organ_index(self) -> int:
        """Number of the organ's class in the label maps. Only of a task with label maps."""
        return self.dense.index(self.organ)

    @property
    def organ_indices(self) -> list[int]:
        """Numbers of all that makes up the organ: itself and the lesions in it. Only of a task with label
        maps."""
        return [self.organ_index, *self.lesion_indices]

    @property
    def class_weights(self) -> ClassWeights:
        """What a voxel of each kind counts for in training."""
        return self.weights or (EQUAL_WEIGHTS if self.around else ClassWeights())

    @property
    def overstated(self) -> float:
        """By how much the log odds of a lesion against what lies around it are too high in what a network
        says, because training weighed lesions more."""
        given = self.class_weights
        around = given.background if self.organ in self.lesion_classes else given.organ
        return math.log(given.lesion / around)

    @property
    def small_indices(self) -> list[int]:
        """Numbers of the classes in which findings show beside the organ and its lesions (a duct, fluid, a
        stone), in the order of the label maps: small structures that training looks for."""
        shown = {self.dense.index(self.shows_in(f.id)) for f in self.findings if f.group != "focal"}
        return sorted(shown - set(self.organ_indices))

    def shows_in(self, finding_id: str) -> str:
        """The class of the label maps in which a finding shows: the one that is called after it
        (``ID_mass``), where the task has such a class; else its region; else the organ."""
        if f"{finding_id}_mass" in self.dense:
            return f"{finding_id}_mass"
        return self.finding(finding_id).region or self.organ

    @property
    def general_lesion(self) -> Finding | None:
        """The finding that holds wherever there is any lesion; None where the task has no such finding."""
        focal = [f for f in self.findings if f.group == "focal"]
        narrow = {f.id for f in focal if not f.derived_from}
        general = [f for f in focal if narrow <= {f.id, *f.derived_from}]
        return max(general, key=lambda f: len(f.derived_from), default=None)

    def lesion_finding(self, lesion_class: str) -> Finding | None:
        """The finding that lesions of a class are named by; the general one where none is."""
        own = (f for f in self.findings if f.lesion_class == lesion_class)
        return next(own, self.general_lesion)


class VqaTask(Strict):
    """A task of kind vqa; see tasks/vqa/task.yaml for what each value does."""

    kind: Literal["vqa"]
    name: str
    title: dict[str, str]
    characters: tuple[int, int] = (1, 5)
    words: tuple[int, int] = (1, 2)
    ridge: float = 0.3
    weights: dict[Literal["question", "organ", "image", "same"], float]
    width: float = 2.0
    same_width: float = 60.0
    least: float = 0.2


def _task_file(path: str | Path) -> Path:
    """A task's YAML file: by its path, or by the name of a shipped one (with or without .yaml)."""
    p = Path(path)
    if not p.exists():
        name = str(path).removesuffix(".yaml").replace("-", "_")
        shipped = Path(str(files("medfuse"))) / "tasks" / name / "task.yaml"
        if not shipped.exists():
            raise WrongUse(
                f"{path}: no such task file; give a YAML file or a shipped task, such as upper-abdomen"
            )
        p = shipped
    return p / "task.yaml" if p.is_dir() else p


def load_task(path: str | Path) -> Task:
    """Read a task from a YAML file, or by the name of a shipped one."""
    found = load_any_task(path)
    if not isinstance(found, Task):
        raise WrongUse(f"{path}: is a task of kind {found.kind}; this command needs one of findings")
    return found


def load_any_task(path: str | Path) -> Task | VqaTask:
    """As `load_task`, of any kind."""
    p = _task_file(path)
    try:
        data = yaml_as_json(p.read_text(encoding="utf-8"))
        if isinstance(data, dict) and data.get("kind") == "vqa":
            return VqaTask(**data)
        folder = p.parent
        if isinstance(data, dict) and data.get("extends"):
            base = _task_file(data["extends"])
            data = yaml_as_json(base.read_text(encoding="utf-8")) | data
            folder = base.parent
        return Task(**data, folder=str(folder))
    except (ValidationError, yaml.YAMLError, TypeError, UnicodeDecodeError) as e:
        raise UserError(f"{p}: not a task: {fault_of(e)}; compare with a shipped task.yaml") from e
