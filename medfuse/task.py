"""Task: what a model is asked. A YAML file beside its report templates; nothing of a task is written in code."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .case import MODALITIES
from .errors import UserError, WrongUse

FURTHER = ("LABS", "TEXT")


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Intensity(Strict):
    """How values enter a network: (value - centre) / width, clipped. ``robust`` takes both from the body's own values."""

    kind: Literal["hu", "robust", "byte"]
    centre: float = 0.0
    width: float = 1.0
    clip: tuple[float, float] = (-3.0, 5.0)


class ModalityTask(Strict):
    roles: tuple[str, ...] = ("unknown",)
    spacing_mm: tuple[float, float, float] = (4.0, 4.0, 5.0)  # network grid of volumes
    size: int = 128  # network pixels of an ultrasound frame
    frames: int = 20  # ultrasound frames at most
    filters: int = 12
    mirror: bool = False  # sides mean nothing in these images: training may show their mirror image
    remove_marks: bool = False  # measuring crosses and letters are painted over before the network sees a frame
    intensity: Intensity


class Finding(Strict):
    """One thing that may be present."""

    id: str
    name: dict[str, str]
    group: Literal["focal", "diffuse", "biliary", "other"]
    modalities: tuple[str, ...]  # which can show it at all
    requires: dict[str, tuple[tuple[str, ...], ...]] = Field(default_factory=dict)  # modality: all of (any of roles)
    codes: dict[str, str] = Field(default_factory=dict)
    derived_from: tuple[str, ...] = ()
    lesion_class: str = ""
    region: str = "liver"
    rank: int = 50  # importance in the impression, small first

    def label(self, language: str) -> str:
        return self.name.get(language, self.name["en"])


class Task(Strict):
    extends: str = ""  # another task, by path or shipped name: what this file does not say is as there, templates too
    name: str
    title: dict[str, str]
    body_part: str
    body_parts: tuple[str, ...] = ()  # values of BodyPartExamined that belong here; none: it is not looked at
    modalities: dict[str, ModalityTask]
    further: tuple[Literal["LABS", "TEXT"], ...] = ()  # senses beside the images (models/senses)
    dense: tuple[str, ...] = ()  # classes of the label maps; none: only whole images are labelled
    lesion_classes: tuple[str, ...] = ()
    organ: str = ""
    right_from: float | None = (
        None  # a place this many organ extents (standard deviations) right of its centre, or more, is in its right half
    )
    rules: dict[str, dict] = Field(default_factory=dict)  # rule layers such as lirads, with what they need
    findings: tuple[Finding, ...]
    exclusive: tuple[str, ...] = ()  # findings of which exactly one holds
    about: dict[str, str] = Field(default_factory=dict)  # source, licence, citation: copied into the model card
    folder: str = Field(default="", exclude=True)

    @model_validator(mode="after")
    def _consistent(self) -> Task:
        ids = [f.id for f in self.findings]
        if len(set(ids)) != len(ids):
            raise ValueError("finding ids must differ")
        for f in self.findings:
            for m in (*f.modalities, *f.requires):
                if m not in self.modalities:
                    raise ValueError(f"finding {f.id} names modality {m}, which the task lacks")
        if not set(self.exclusive) <= set(ids):
            raise ValueError("exclusive must name findings")
        if (self.dense and self.organ not in self.dense) or not set(self.lesion_classes) <= set(self.dense):
            raise ValueError("organ and lesion_classes must be among dense")
        return self

    def finding(self, finding_id: str) -> Finding:
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
        """What the task fuses, in the one order used everywhere: its image modalities, then its further senses."""
        return (*self.image_senses, *(s for s in FURTHER if s in self.further))

    @property
    def image_senses(self) -> tuple[str, ...]:
        return tuple(m for m in MODALITIES if m in self.modalities)

    @property
    def whole_images(self) -> bool:
        """No label maps: encoders learn from the findings of whole images alone."""
        return not self.dense

    @property
    def exclusive_indices(self) -> list[int]:
        return [i for i, f in enumerate(self.findings) if f.id in self.exclusive]

    @property
    def lesion_indices(self) -> list[int]:
        return [self.dense.index(c) for c in self.lesion_classes]


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
            raise WrongUse(f"{path}: no such task file; give a YAML file or a shipped task, such as upper-abdomen")
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
        data = yaml.safe_load(p.read_text())
        if isinstance(data, dict) and data.get("kind") == "vqa":
            return VqaTask(**data)
        folder = p.parent
        if isinstance(data, dict) and data.get("extends"):
            base = _task_file(data["extends"])
            data = yaml.safe_load(base.read_text()) | data
            folder = base.parent
        return Task(**data, folder=str(folder))
    except (ValidationError, yaml.YAMLError, TypeError) as e:
        raise UserError(f"{p}: not a task: {str(e).splitlines()[0]}; compare with a shipped task.yaml") from e
