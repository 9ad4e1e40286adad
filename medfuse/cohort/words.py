"""What words.yaml says: modalities, states, sexes and sides as people write them → codes."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, field_validator

Status = Literal["final", "preliminary", "corrected", "addendum", "cancelled"]


class ReportWords(BaseModel):
    """The file words.yaml, checked; patterns are compiled without regard to case."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    modality: dict[str, list[str]]
    written: dict[str, re.Pattern[str]]
    status: dict[Status, list[str]]
    says: dict[Status, re.Pattern[str]]
    sex: dict[str, re.Pattern[str]]
    age: re.Pattern[str]
    right: re.Pattern[str]
    left: re.Pattern[str]
    person: re.Pattern[str]
    number: re.Pattern[str]
    order: re.Pattern[str]
    comparison: re.Pattern[str]

    @field_validator("written", "says", "sex", mode="before")
    @classmethod
    def _each(cls, given: dict[str, str]) -> dict[str, re.Pattern[str]]:
        return {key: re.compile(pattern, re.IGNORECASE) for key, pattern in given.items()}

    @field_validator("age", "right", "left", "person", "number", "order", mode="before")
    @classmethod
    def _one(cls, given: str) -> re.Pattern[str]:
        return re.compile(given, re.IGNORECASE)

    @field_validator("comparison", mode="before")
    @classmethod
    def _any(cls, given: list[str]) -> re.Pattern[str]:
        return re.compile("|".join(f"(?:{p})" for p in given), re.IGNORECASE)


@cache
def words() -> ReportWords:
    """The shipped words."""
    return ReportWords(**yaml.safe_load(files("medfuse.cohort").joinpath("words.yaml").read_text("utf-8")))


def modalities_of(text: str) -> tuple[str, ...]:
    """The codes that a value such as ``MRI``, ``CT/MR`` or ``超音波`` names; what is unknown stays as it
    is."""
    by_name = {name: code for code, names in words().modality.items() for name in names}
    parts = [p.strip().upper() for p in re.split(r"[/,;+\\]", text) if p.strip()]
    return tuple(dict.fromkeys(by_name.get(p, p) for p in parts))


def status_of(stated: str, text: str) -> Status | None:
    """The state of a report: as stated, else as its first words say; None for a state nobody knows."""
    value = stated.strip().upper()
    if not value:
        return next((s for s, pattern in words().says.items() if pattern.search(text)), "final")
    return next((s for s, names in words().status.items() if value in names), None)


def opening_modalities(text: str, technique: str) -> tuple[str, ...]:
    """What the first words of a report and its technique say that it is of."""
    first = re.split(r"[\n.。:：]", text.strip(), maxsplit=1)[0][:60]
    start = re.sub(r"^\W*(exam(ination)?|procedure|study|technique)\W+", "", first, flags=re.IGNORECASE)[:40]
    return tuple(
        code for code, pattern in words().written.items() if pattern.match(start) or pattern.search(technique)
    )


def side_of(text: str) -> str:
    """right or left where a text names one of them alone; "" otherwise."""
    right = bool(words().right.search(text))
    left = bool(words().left.search(text))
    return "" if right == left else "right" if right else "left"


def is_comparison(sentence: str) -> bool:
    """Whether a sentence speaks of an earlier examination."""
    return bool(words().comparison.search(sentence))
