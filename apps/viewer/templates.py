"""Templates of reports by study type, and macros for the editor: data, and a person's own beside the shipped
ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from apps.viewer.words import LANGUAGES
from medfuse.errors import UserError, fault_of
from medfuse.report import SectionId

SHIPPED = Path(__file__).parent / "templates.yaml"
Said = Annotated[list[str], Field(min_length=len(LANGUAGES), max_length=len(LANGUAGES))]  # in each language


class Template(BaseModel):
    """Sentences to begin a kind of study with. needs: modalities without which it is not offered."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    title: Said
    needs: list[str] = []
    sections: dict[SectionId, list[Said]]


class Templates(BaseModel):
    """Templates and macros by name."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    templates: dict[str, Template] = {}
    macros: dict[str, Said] = {}


def load_templates(home: Path) -> Templates:
    """The shipped ones, and those of HOME/templates.yaml over them. Raises UserError for a file that is not
    of this form."""
    own = home / "templates.yaml"
    shipped = _read(SHIPPED)
    if not own.exists():
        return shipped
    mine = _read(own)
    return Templates(
        templates={**shipped.templates, **mine.templates}, macros={**shipped.macros, **mine.macros}
    )


def _read(path: Path) -> Templates:
    try:
        return Templates.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except (ValidationError, yaml.YAMLError, UnicodeDecodeError, OSError) as e:
        why = fault_of(e) if isinstance(e, ValidationError) else str(e).splitlines()[0]
        raise UserError(f"{path}: not valid ({why}); mend it or take it away") from e


def fitting(known: Templates, modalities: set[str]) -> dict[str, Template]:
    """The templates whose modalities a study has, those with most of them first."""
    fit = {n: t for n, t in known.templates.items() if set(t.needs) <= modalities}
    return dict(sorted(fit.items(), key=lambda nt: -len(nt[1].needs)))


def said(pair: list[str], language: str) -> str:
    """The words of one language."""
    return pair[list(LANGUAGES).index(language) if language in LANGUAGES else 0]
