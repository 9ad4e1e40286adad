"""The frozen tissue table: read once, hashed, drawn per patient."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict

PHASES = ("unenhanced", "arterial", "portal", "delayed")
FOCAL = (
    "simple_cyst",
    "septated_cyst",
    "haemangioma",
    "hcc_like",
    "metastasis_like",
    "fnh_like",
    "calcified_granuloma",
    "abscess",
)
SOLID = ("haemangioma", "hcc_like", "metastasis_like", "fnh_like")
DIFFUSE = ("steatosis", "cirrhosis", "iron", "ascites")
BILIARY = ("gallstone", "dilated_ducts")

# Classes of the dense (segmentation) supervision; order is the label value in every mask file.
ORGANS = (
    "background",
    "liver",
    "spleen",
    "kidney",
    "gallbladder",
    "vessel",
    "fluid",
    "duct",
    "gallstone_mass",
)
DENSE = ORGANS + FOCAL

Property = Literal["hu", "iodine", "t1", "t2", "t1_3t", "t2_3t", "pd", "pdff", "r2s", "adc", "echo", "att"]


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TissueValues(_Row):
    """The physics of one tissue as tissues.yaml has it; the head of that file names the units."""

    hu: float
    iodine: tuple[float, float, float]  # added at the arterial, portal and delayed phase
    t1: float
    t2: float
    t1_3t: float | None = None
    t2_3t: float | None = None
    pd: float
    pdff: float = 0.0
    r2s: float = 20.0
    adc: float = 1.5
    echo: float
    att: float


class TissueRow(TissueValues):
    """A tissue with its relative spread between patients and where its values come from."""

    spread: float
    source: list[str]


class LesionRow(_Row):
    """A kind of focal lesion: core and rim, a central scar, septa."""

    core: TissueValues
    rim: TissueValues
    scar: bool = False
    septa: bool = False
    source: list[str]


class LesionSpread(_Row):
    """How lesions of one kind differ: added to hu and echo, a relative standard deviation of the others."""

    hu: float
    iodine: float
    t1: float
    t2: float
    adc: float
    echo: float
    att: float


Range = tuple[float, float]


class Steatosis(_Row):
    pdff: Range
    hu_per_pdff: float
    echo: Range
    att: Range
    source: list[str]


class Iron(_Row):
    r2s: Range
    hu_per_r2s: float
    source: list[str]


class Cirrhosis(_Row):
    nodule_mm: Range
    surface_mm: Range
    right_lobe: Range  # scale of the right lobe
    spleen: Range  # scale of the spleen
    source: list[str]


class Ascites(_Row):
    thickness_mm: Range
    source: list[str]


class DiffuseRows(_Row):
    """What each diffuse finding changes, and by how much."""

    steatosis: Steatosis
    iron: Iron
    cirrhosis: Cirrhosis
    ascites: Ascites


class Table(_Row):
    """tissues.yaml: tissues, lesions and diffuse findings with their physics, and their sources by name."""

    sources: dict[str, str]
    tissues: dict[str, TissueRow]
    lesions: dict[str, LesionRow]
    lesion_spread: LesionSpread
    diffuse: DiffuseRows


@dataclass(frozen=True, kw_only=True)
class Tissue:
    """The physics of one tissue of one patient; units as in tissues.yaml, iodine (3,) HU by phase."""

    hu: float
    iodine: np.ndarray
    t1: float
    t2: float
    t1_3t: float
    t2_3t: float
    pd: float
    pdff: float
    r2s: float
    adc: float
    echo: float
    att: float

    def value(self, name: Property, phase: int | None = None) -> float:
        """One property; of iodine at ``phase`` (0 arterial, 1 portal, 2 delayed)."""
        found = getattr(self, name)
        return found if phase is None else found[phase]


@dataclass(frozen=True, kw_only=True)
class LesionTissue:
    """The tissue of one lesion: inside, and in its outer fifth."""

    core: Tissue
    rim: Tissue


def _raw() -> bytes:
    return files("medfuse.simulation").joinpath("tissues.yaml").read_bytes()


@cache
def table() -> Table:
    """The frozen table, checked."""
    raw = yaml.safe_load(_raw())
    spread = raw["lesions"].pop("spread")
    return Table(**raw, lesion_spread=spread)


@cache
def digest() -> str:
    """SHA-256 of the frozen parameter file."""
    return hashlib.sha256(_raw()).hexdigest()


def draw_tissues(rng: np.random.Generator) -> dict[str, Tissue]:
    """One patient's tissues: every value of the table with its between-patient spread applied."""
    return {name: _draw_tissue(rng, row) for name, row in table().tissues.items()}


def _draw_tissue(rng: np.random.Generator, row: TissueRow) -> Tissue:
    factor = rng.normal(1, row.spread, 4) if row.spread else np.ones(4)
    hu = row.hu + (rng.normal(0, 6 * min(1, row.spread * 12)) if row.spread else 0)
    t1_3t = row.t1 * 1.25 if row.t1_3t is None else row.t1_3t
    t2_3t = row.t2 * 0.9 if row.t2_3t is None else row.t2_3t
    return Tissue(
        hu=hu,
        iodine=np.asarray(row.iodine, float) * factor[0],
        t1=row.t1 * factor[1],
        t2=row.t2 * factor[2],
        t1_3t=t1_3t * factor[1],
        t2_3t=t2_3t * factor[2],
        pd=row.pd,
        pdff=row.pdff,
        r2s=row.r2s,
        adc=row.adc,
        echo=row.echo,
        att=row.att,
    )


def draw_lesion(kind: str, rng: np.random.Generator) -> LesionTissue:
    """Core and rim of one lesion of ``kind``; both share the draw, so that the lesion stays one tissue."""
    row = table().lesions[kind]
    spread = table().lesion_spread
    hu = rng.normal(0, spread.hu)
    echo = rng.normal(0, spread.echo)
    f = {k: max(0.4, rng.normal(1, getattr(spread, k))) for k in ("iodine", "t1", "t2", "adc", "att")}
    if kind == "calcified_granuloma":
        hu *= 15

    def of(part: TissueValues) -> Tissue:
        t1 = part.t1 * f["t1"]
        t2 = part.t2 * f["t2"]
        return Tissue(
            hu=part.hu + hu,
            iodine=np.asarray(part.iodine, float) * f["iodine"],
            t1=t1,
            t2=t2,
            t1_3t=t1 * 1.25,
            t2_3t=t2 * 0.9,
            pd=part.pd,
            pdff=part.pdff,
            r2s=part.r2s,
            adc=part.adc * f["adc"],
            echo=part.echo + echo,
            att=part.att * f["att"],
        )

    return LesionTissue(core=of(row.core), rim=of(row.rim))
