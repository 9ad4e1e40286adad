"""Hanging protocols: which series stand in which viewport. Data, a person's own before the shipped ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from apps.viewer.words import LANGUAGES
from medfuse.display.hanging import Cell, Hanging
from medfuse.errors import UserError, fault_of

SHIPPED = Path(__file__).parent / "hangings.yaml"
Said = Annotated[list[str], Field(min_length=len(LANGUAGES), max_length=len(LANGUAGES))]  # in each language


class Protocol(BaseModel):
    """One way to hang a kind of study. needs: modalities without which it is not offered; only: and no other
    one is there. default: hung first."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    title: Said
    needs: list[str] = []
    only: bool = False
    default: bool = False
    rows: int = Field(ge=1, le=3)
    columns: int = Field(ge=1, le=3)
    cells: list[Cell] = Field(min_length=1, max_length=9)

    def fits(self, modalities: set[str]) -> bool:
        """Whether a study with these modalities can be hung so."""
        return set(self.needs) <= modalities and (not self.only or set(self.needs) == modalities)


class Protocols(BaseModel):
    """Protocols by name."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    hangings: dict[str, Protocol] = {}


def load_protocols(home: Path) -> dict[str, Protocol]:
    """The shipped ones, and those of HOME/hangings.yaml over them. Raises UserError for a file that is not of
    this form."""
    own = home / "hangings.yaml"
    return {**_read(SHIPPED), **(_read(own) if own.exists() else {})}


def _read(path: Path) -> dict[str, Protocol]:
    try:
        return Protocols.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) or {}).hangings
    except (ValidationError, yaml.YAMLError, UnicodeDecodeError, OSError) as e:
        why = fault_of(e) if isinstance(e, ValidationError) else str(e).splitlines()[0]
        raise UserError(f"{path}: not valid ({why}); mend it or take it away") from e


def kind_of(modalities: set[str]) -> str:
    """The kind of a study, such as CT+MR: what a person's own hanging is kept for."""
    return "+".join(sorted(modalities))


def fitting(
    known: dict[str, Protocol],
    modalities: set[str],
    language: str,
    automatic: str,
    own: Hanging | None = None,
) -> list[Hanging]:
    """What can be hung, the first of which is. own: what the person saved for this kind of study; automatic:
    the title of one viewport a modality."""
    at = list(LANGUAGES).index(language)
    fit = {n: p for n, p in known.items() if p.fits(modalities)}
    rows = sorted(fit.items(), key=lambda x: (not x[1].default, -len(x[1].needs)))
    shipped = [
        Hanging(name=n, title=p.title[at], rows=p.rows, columns=p.columns, cells=p.cells) for n, p in rows
    ]
    auto = Hanging(name="auto", title=automatic)
    first = [own] if own is not None else []
    if rows and rows[0][1].default:
        return [*first, *shipped, auto]
    return [*first, auto, *shipped]
