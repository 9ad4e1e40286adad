"""Knowledge: what the findings of a task are. A small graph of concepts in YAML beside the task: is-a,
part-of, shown-by, excludes and codes."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from .errors import UserError, fault_of
from .foreign import yaml_as_json
from .pattern import fault_in
from .task import Strict, Task

FILE = "knowledge.yaml"
_CODE = {"RADLEX": re.compile(r"RID\d+"), "SCT": re.compile(r"\d{6,18}")}


class Concept(Strict):
    """One node of the graph.

    name: by language; a finding of the task has its name there. words: patterns that name it in a text. is_a:
    wider concepts. part_of: places that hold it. shown_by: the modalities that can show it. excludes: what
    cannot hold of the same thing, nor anything below that. codes: by terminology.
    """

    name: dict[str, str] = Field(default_factory=dict)
    words: tuple[str, ...] = ()
    is_a: tuple[str, ...] = ()
    part_of: tuple[str, ...] = ()
    shown_by: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    codes: dict[Literal["RADLEX", "SCT"], str] = Field(default_factory=dict)

    @field_validator("words")
    @classmethod
    def _patterns(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in words:
            if why := fault_in(pattern):
                raise ValueError(why)
        return words

    @model_validator(mode="after")
    def _codes(self) -> Concept:
        for scheme, code in self.codes.items():
            if not _CODE[scheme].fullmatch(code):
                raise ValueError(f"{code!r} is no code of {scheme}")
        return self


class KnowledgeFile(Strict):
    """knowledge.yaml beside a task. concepts: by id; a finding of the task is the concept of its id."""

    concepts: dict[str, Concept]

    @model_validator(mode="after")
    def _closed(self) -> KnowledgeFile:
        for name, concept in self.concepts.items():
            for target in (*concept.is_a, *concept.part_of, *concept.excludes):
                if target not in self.concepts:
                    raise ValueError(f"{name} names {target}, which is not a concept of the graph")
        steps: dict[str, Callable[[str], tuple[str, ...]]] = {
            "is_a": lambda c: self.concepts[c].is_a,
            "part_of": lambda c: self.concepts[c].part_of,
        }
        for relation, step in steps.items():
            for name in self.concepts:
                if name in _reached(name, step):
                    raise ValueError(f"{name} is above itself along {relation}")
        return self


class Graph:
    """The concepts of one task and what follows from their relations."""

    def __init__(self, file: KnowledgeFile, task: Task) -> None:
        self.concepts = file.concepts
        self.task = task
        self.findings = frozenset(f.id for f in task.findings)
        self.focal = frozenset(f.id for f in task.findings if f.group == "focal")

    def wider(self, concept: str) -> frozenset[str]:
        """Everything that a concept is, without itself."""
        return frozenset(_reached(concept, lambda c: self.concepts[c].is_a))

    def narrower(self, concept: str) -> frozenset[str]:
        """Everything that is one of these, the concept itself too."""
        return self._below[concept]

    @cached_property
    def _below(self) -> dict[str, frozenset[str]]:
        above = {c: self.wider(c) | {c} for c in self.concepts}
        return {c: frozenset(x for x, up in above.items() if c in up) for c in self.concepts}

    def findings_of(self, concept: str) -> frozenset[str]:
        """The task's findings that say a concept: itself and those below it."""
        return self._below[concept] & self.findings

    def one_up(self) -> list[list[bool]]:
        """(F, C): what each finding of the task, in its order, is in one step; a finding that is nothing
        wider is itself."""
        every = list(self.concepts)
        up = [self.concepts[f.id].is_a or (f.id,) for f in self.task.findings]
        return [[c in wide for c in every] for wide in up]

    def places(self, concept: str) -> frozenset[str]:
        """Where a concept lies: what it is part of, by itself or by what it is, and what those are part
        of."""
        start = {p for c in (concept, *self.wider(concept)) for p in self.concepts[c].part_of}
        return frozenset(start | {q for p in start for q in _reached(p, lambda c: self.concepts[c].part_of)})

    def shown_by(self, concept: str) -> tuple[str, ...]:
        """The modalities that can show a concept, or anything below it, in the task's order."""
        able = {m for c in self._below[concept] for m in self.concepts[c].shown_by}
        return tuple(m for m in self.task.image_senses if m in able)

    def exclude(self, a: str, b: str) -> bool:
        """Whether two concepts cannot hold of one thing, by themselves or by what they are."""
        above_a = {a, *self.wider(a)}
        above_b = {b, *self.wider(b)}
        return any(set(self.concepts[x].excludes) & above_b for x in above_a) or any(
            set(self.concepts[x].excludes) & above_a for x in above_b
        )

    def label(self, concept: str, language: str) -> str:
        """Its name in a language, else the English one, else its id in words."""
        if concept in self.findings:
            return self.task.finding(concept).label(language)
        name = self.concepts[concept].name
        return name.get(language, name.get("en", concept.replace("_", " ")))

    def check(self) -> None:
        """Raises ValueError where the graph and its task, or two relations of the graph, do not agree."""
        lacking = sorted(self.findings - set(self.concepts))
        if lacking:
            raise ValueError(f"finding {lacking[0]} of {self.task.name} is not a concept of the graph")
        for finding in self.task.findings:
            for narrow in finding.derived_from:
                if narrow not in self._below[finding.id]:
                    raise ValueError(f"{narrow} is not below {finding.id}, which the task derives from it")
            strange = sorted(set(self.concepts[finding.id].shown_by) - set(finding.modalities))
            if strange:
                raise ValueError(f"{finding.id}: {strange[0]} cannot show it in {self.task.name}")
        for name in self.concepts:
            for up in (name, *self.wider(name)):
                if self.exclude(name, up):
                    raise ValueError(f"{name} is excluded by {up}, which it is")


def _reached(start: str, step: Callable[[str], tuple[str, ...]]) -> set[str]:
    """What is reached from a node in one step or more; the node itself only along a circle."""
    seen: set[str] = set()
    ahead = list(step(start))
    while ahead:
        here = ahead.pop()
        if here not in seen:
            seen.add(here)
            ahead += step(here)
    return seen


def load_graph(path: Path, task: Task) -> Graph:
    """Read a graph and hold it against its task. Raises UserError that names the file and the fault."""
    try:
        graph = Graph(KnowledgeFile.model_validate(yaml_as_json(path.read_text(encoding="utf-8"))), task)
        graph.check()
    except (ValidationError, yaml.YAMLError, ValueError, OSError) as e:
        raise UserError(f"{path}: not a knowledge graph: {fault_of(e)}; compare with a shipped {FILE}") from e
    return graph


@cache
def _of_folder(folder: str, task_json: str) -> Graph | None:
    task = Task.model_validate_json(task_json).model_copy(update={"folder": folder})
    own = Path(folder) / FILE
    if own.exists():
        return load_graph(own, task)
    shipped = Path(str(files("medfuse"))) / "tasks" / task.name.replace("-", "_") / FILE
    if not re.fullmatch(r"[a-z0-9-]+", task.name) or not shipped.exists():
        return None
    graph = Graph(KnowledgeFile.model_validate(yaml_as_json(shipped.read_text(encoding="utf-8"))), task)
    return graph if graph.findings <= set(graph.concepts) else None


def task_graph(task: Task) -> Graph | None:
    """The graph beside a task. A bundle that was made before its task had one takes that of the shipped
    task of the same name, where it knows all of its findings; else None."""
    return _of_folder(task.folder, task.model_dump_json())
