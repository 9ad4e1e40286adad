"""How the images of a study are hung: a grid of viewports and what stands in each, and whose images they
are."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .message import Message


class Cell(Message):
    """One viewport of a grid.

    modality: of its series, empty where it stays empty. role: wanted, such as portal; any where empty. nth:
    which of the series that fit, from 0. plane: one of them, or mpr for three and a rendering. window: name
    of a preset; the first where empty. prior: of the earlier study.
    """

    modality: str = Field(default="", max_length=8)
    role: str = Field(default="", max_length=40)
    nth: int = Field(default=0, ge=0, le=999)
    plane: Literal["axial", "coronal", "sagittal", "mpr"] = "axial"
    window: str = Field(default="", max_length=40)
    prior: bool = False


class Hanging(Message):
    """A grid of viewports and what stands in each.

    name: of the protocol. title: in the reader's language. rows, columns: of the grid; 0 leaves both to the
    window's form. cells: row by row; empty: one for each modality.
    """

    name: str = Field(max_length=60)
    title: str = Field(default="", max_length=120)
    rows: int = Field(default=0, ge=0, le=3)
    columns: int = Field(default=0, ge=0, le=3)
    cells: list[Cell] = Field(default_factory=list, max_length=9)


class Hung(Message):
    """From the browser: how this person wants studies of this kind from now on.

    hanging: the grid as it stands.
    """

    serial: int
    hanging: Hanging


Windows = dict[str, dict[str, tuple[float, float]]]  # (centre, width) by modality and name


class Windowed(Message):
    """From the browser: a window that this person keeps for a modality, or (none) drops.

    name: of it. window: centre and width, in the unit of the modality.
    """

    serial: int
    modality: str = Field(min_length=1, max_length=8)
    name: str = Field(min_length=1, max_length=40)
    window: tuple[float, float] | None = None


class WhoseImages(Message):
    """Whose images these are, for the corners of each viewport; empty where the headers do not say.

    name: the patient's. sex: as in the headers. age: in words. birth_date, study_date: YYYYMMDD. accession:
    the number of the request. description: of the study.
    """

    patient_id: str
    name: str = ""
    sex: str = ""
    age: str = ""
    birth_date: str = ""
    study_date: str = ""
    accession: str = ""
    description: str = ""
