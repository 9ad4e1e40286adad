"""How each person left the worklist, kept with the library: another page, another browser and a restart find
it as it was."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ValidationError

from ..display.hanging import Hanging, Windows
from ..io.names import plain_name
from .accounts import Account

if TYPE_CHECKING:
    from .library import Library


class Desk(BaseModel, frozen=True):
    """One account's. language: of the viewer. words, has, lacks, state, finding, least, since, until: the
    filters of the worklist, empty where none is set; dates are YYYY-MM-DD. order: what the rows are sorted
    by. mine: only cases that are assigned to this account. hangings: by the kind of study, such as
    CT+MR, how its images are hung. keys: by what they do, where
    others than those of the house. windows: (centre, width) of own presets by modality and name."""

    language: str = ""
    words: str = ""
    has: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    state: str = ""
    finding: str = ""
    least: float = 0.5
    since: str = ""
    until: str = ""
    order: str = "date"
    mine: bool = False
    hangings: dict[str, Hanging] = {}
    keys: dict[str, str] = {}
    windows: Windows = {}


def _path(library: Library, account: Account) -> Path:
    return library.home / "desks" / f"{plain_name(account.name)}.json"


def desk_of(library: Library, account: Account) -> Desk | None:
    """The desk as this account left it; None where it has none, or an older version kept another form."""
    try:
        return Desk.model_validate_json(_path(library, account).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def keep_desk(library: Library, account: Account, desk: Desk) -> None:
    """From now on this account finds its desk so."""
    path = _path(library, account)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(desk.model_dump_json(indent=1), encoding="utf-8")
    os.replace(part, path)
