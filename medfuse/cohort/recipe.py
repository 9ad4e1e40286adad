"""A recipe: how a folder of images and tables becomes a cohort. A YAML file that says which part of a file
name, and which column, names what."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..errors import UserError, WrongUse, fault_of
from ..foreign import yaml_as_json
from ..task import Task
from .named import NamePattern

LARGEST = 1_000_000  # bytes of a recipe


def _pattern(text: str) -> str:
    NamePattern.of(text)
    return text


Pattern = Annotated[str, AfterValidator(_pattern)]
Said = str | int | float | bool


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class LabelRule(_Strict):
    """What a column (in a table) or a field (of file names) says of a finding.

    source (``from``): its name. present, absent: what it says then; other values are unknown, or absent with
    ``rest: absent``. at_least: present from this number on, else absent. likely: the value is itself a
    label, 0 to 1.
    """

    source: str = Field(alias="from")
    present: tuple[Said, ...] = ()
    absent: tuple[Said, ...] = ()
    rest: str = Field(default="unknown", pattern="^(unknown|absent)$")
    at_least: float | None = None
    likely: bool = False

    @model_validator(mode="after")
    def _says_something(self) -> LabelRule:
        if not (self.present or self.absent) and self.at_least is None and not self.likely:
            raise ValueError(f"a label from {self.source!r} needs present, absent, at_least or likely")
        return self

    def value(self, cell: str) -> float | None:
        """1 present, 0 absent, between them likely. Raises ValueError for a cell that says none of these."""
        if self.at_least is not None or self.likely:
            return self._number(cell)
        if any(same(cell, said) for said in self.present):
            return 1.0
        if self.rest == "absent" or any(same(cell, said) for said in self.absent):
            return 0.0
        raise ValueError(f"{self.source} is {cell[:30]!r}, neither present nor absent by the recipe")

    def _number(self, cell: str) -> float:
        found = number(cell)
        if found is None or (self.likely and not 0 <= found <= 1):
            raise ValueError(f"{self.source} is {cell[:30]!r}, no number" + " from 0 to 1" * self.likely)
        return found if self.at_least is None else float(found >= self.at_least)


class LabRule(_Strict):
    """A column of measured values: LOINC code, UCUM unit, and the column of the day where there is one."""

    source: str = Field(alias="from")
    loinc: str
    unit: str
    date: str = ""


class WordRule(_Strict):
    """Words of a case: the text of a column, or ``say`` where the column has one of the values in
    ``present``."""

    source: str = Field(alias="from")
    say: str = ""
    present: tuple[Said, ...] = ()


class Choice(_Strict):
    """What a column says of an image, by a map of its values; without a map as it stands."""

    source: str = Field(alias="from")
    values: dict[str, str] = Field(default_factory=dict)


class FileRule(_Strict):
    """Files (folders of one series where ``path`` ends in a slash) that are images.

    mask, frame: its label map and frame of reference, made of the same fields. says: what a JSON sidecar
    states of volumes whose format cannot, such as ``Units: SUVbw`` of PET; such images are linked into the
    cohort's folder. labels: by finding, a rule on a field or a value.
    """

    path: Pattern
    modality: str = ""
    role: str = ""
    mask: str = ""
    frame: str = ""
    says: dict[str, Said] = Field(default_factory=dict)
    labels: dict[str, LabelRule | float] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _known_fields(self) -> FileRule:
        own = NamePattern.of(self.path).fields
        for text in filter(None, (self.mask, self.frame)):
            needs(text, own, self.path)
        for rule in self.labels.values():
            if isinstance(rule, LabelRule) and rule.source not in own:
                raise ValueError(f"path {self.path!r} has no field {rule.source}")
            if isinstance(rule, float) and not 0 <= rule <= 1:
                raise ValueError(f"a label of {rule:g}; write 0 to 1")
        if self.says and self.path.endswith("/"):
            raise ValueError(f"path {self.path!r}: a folder has no sidecar; leave says out")
        return self


class TableRule(_Strict):
    """A table (CSV, XLSX, JSON list of objects, one JSON object a line) whose rows are of images.

    match: pattern by column; a row is of the images whose file names say the same in these fields. unknown:
    cells that stand for no value, beside empty ones. role, modality: of the images. report, indication:
    words of the case.
    """

    path: str
    match: dict[str, Pattern] = Field(min_length=1)
    unknown: tuple[Said, ...] = ()
    modality: Choice | None = None
    role: Choice | None = None
    labels: dict[str, LabelRule] = Field(default_factory=dict)
    labs: tuple[LabRule, ...] = ()
    indication: tuple[WordRule, ...] = ()
    report: tuple[WordRule, ...] = ()

    def sources(self) -> Iterator[str]:
        """Every column that it reads."""
        yield from self.match
        yield from (c.source for c in (self.modality, self.role) if c)
        yield from (r.source for r in self.labels.values())
        yield from (r.source for r in self.labs)
        yield from (r.source for r in (*self.indication, *self.report))
        yield from (lab.date for lab in self.labs if lab.date)


class Recipe(_Strict):
    """The whole file. case, patient: names made of the fields of file names. ignore: files to be left out
    knowingly."""

    case: Pattern
    patient: Pattern
    site: str = ""
    files: tuple[FileRule, ...] = Field(min_length=1)
    tables: tuple[TableRule, ...] = ()
    ignore: tuple[Pattern, ...] = ()

    @model_validator(mode="after")
    def _known_fields(self) -> Recipe:
        every: set[str] = set()
        for rule in self.files:
            own = NamePattern.of(rule.path).fields
            every.update(own)
            needs(self.case, own, rule.path)
            needs(self.patient, own, rule.path)
        for table in self.tables:
            for pattern in table.match.values():
                needs(pattern, tuple(every), "files")
        return self


def needs(text: str, own: tuple[str, ...], where: str) -> None:
    """Raises ValueError where a name is made of fields that a pattern does not have."""
    lacking = [f for f in NamePattern.of(text).fields if f not in own]
    if lacking:
        raise ValueError(f"{text!r} needs the field {lacking[0]}, which {where!r} does not have")


def number(text: str) -> float | None:
    """A finite number, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None


def same(cell: str, said: Said) -> bool:
    """Whether a cell says a value: as text, case and blanks at its ends aside, or as a number. ``yes`` and
    ``no`` of YAML are its booleans, and mean these words too."""
    words = {True: ("yes", "true", "on", "y"), False: ("no", "false", "off", "n")}
    text = cell.strip().casefold()
    if isinstance(said, bool):
        return text in words[said]
    if text == str(said).strip().casefold():
        return True
    a = number(text)
    return a is not None and a == number(str(said))


def read_recipe(path: Path, task: Task) -> Recipe:
    """Raises WrongUse where there is none, UserError that names what is wrong with it."""
    if not path.is_file():
        raise WrongUse(f"{path}: no such recipe; give a YAML file as docs/tutorial.md has it")
    try:
        if path.stat().st_size > LARGEST:
            raise UserError(f"{path}: has over {LARGEST} bytes, which no recipe has")
        said: Any = yaml_as_json(path.read_text(encoding="utf-8"))
        recipe = Recipe.model_validate(said)
    except (ValidationError, yaml.YAMLError, UnicodeDecodeError, OSError, RecursionError) as e:
        raise UserError(f"{path}: {fault_of(e)}; compare with the recipes of docs/tutorial.md") from e
    named = [f for r in recipe.files for f in r.labels] + [f for t in recipe.tables for f in t.labels]
    if strange := [f for f in named if f not in {known.id for known in task.findings}]:
        raise UserError(f"{path}: labels {strange[0]}, which is no finding of task {task.name}")
    return recipe
