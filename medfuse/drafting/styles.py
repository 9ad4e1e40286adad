"""Styles of a draft: the same claims in other words. A style is data; a task may add its own styles.yaml."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from ..errors import UserError, WrongUse, fault_of
from ..foreign import yaml_as_json
from ..task import Task

Probabilities = Literal["hidden", "shown", "table"]
PROBABILITIES: tuple[Probabilities, ...] = ("hidden", "shown", "table")
DEFAULT = "prose"


class Style(BaseModel):
    """How claims are put into words.

    name: of the style. before: what stands before each sentence. headings: whether each organ is named first.
    features, witnesses: whether it is said what is seen, and which modality shows it. negatives: what is
    denied in one sentence an organ, or all together.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    before: str = ""
    headings: bool = False
    features: bool = True
    witnesses: bool = True
    negatives: Literal["organ", "together"] = "organ"


@cache
def _read(path: Path) -> dict[str, Style]:
    try:
        rows = yaml_as_json(path.read_text(encoding="utf-8")) or {}
        return {name: Style(name=name, **(row or {})) for name, row in rows.items()}
    except (yaml.YAMLError, UnicodeDecodeError, ValidationError, TypeError, AttributeError) as e:
        raise UserError(f"{path}: not a table of styles ({fault_of(e)}); compare with the shipped one") from e


def styles(task: Task | None = None) -> dict[str, Style]:
    """Every style by its name: the shipped ones, and a task's own."""
    own = Path(task.folder) / "styles.yaml" if task is not None and task.folder else None
    return {
        **_read(Path(__file__).parent / "words" / "styles.yaml"),
        **(_read(own) if own and own.is_file() else {}),
    }


def style_of(name: str, task: Task) -> Style:
    """A style by its name, the first one for "". Raises WrongUse for one that is not there."""
    known = styles(task)
    if (name or DEFAULT) not in known:
        raise WrongUse(f"--style {name}: give one of {', '.join(known)}")
    return known[name or DEFAULT]


def probabilities_of(name: str) -> Probabilities:
    """Where probabilities stand, hidden for "". Raises WrongUse for what is none of the three."""
    for known in PROBABILITIES:
        if known == (name or "hidden"):
            return known
    raise WrongUse(f"--probabilities {name}: give one of {', '.join(PROBABILITIES)}")


@dataclass(frozen=True, kw_only=True)
class Wish:
    """How a reader wants a draft: its style by name, and where probabilities stand; "" for the default."""

    style: str = ""
    probabilities: str = ""


ANY = Wish()


def check_wish(wish: Wish, task: Task) -> None:
    """Raises WrongUse for a style or a place of probabilities that is not there."""
    style_of(wish.style, task)
    probabilities_of(wish.probabilities)
