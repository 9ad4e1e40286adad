"""The frozen tissue table: read once, hashed, drawn per patient."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files

import numpy as np
import yaml

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

_DEFAULTS = {"pdff": 0.0, "r2s": 20.0, "adc": 1.5}


def _raw() -> bytes:
    return files("medfuse.simulation").joinpath("tissues.yaml").read_bytes()


@cache
def table() -> dict:
    return yaml.safe_load(_raw())


@cache
def digest() -> str:
    """SHA-256 of the frozen parameter file."""
    return hashlib.sha256(_raw()).hexdigest()


def draw_tissues(rng: np.random.Generator) -> dict[str, dict]:
    """One patient's tissues: every value of the table with its between-patient spread applied."""
    out = {}
    for name, row in table()["tissues"].items():
        spread = row["spread"]
        tissue = {**_DEFAULTS, **{k: v for k, v in row.items() if k not in ("source", "spread")}}
        factor = rng.normal(1, spread, 4) if spread else np.ones(4)
        tissue["hu"] = row["hu"] + (rng.normal(0, 6 * min(1, spread * 12)) if spread else 0)
        tissue["iodine"] = np.asarray(row["iodine"], float) * factor[0]
        tissue["t1"], tissue["t2"] = row["t1"] * factor[1], row["t2"] * factor[2]
        tissue["t1_3t"] = row.get("t1_3t", row["t1"] * 1.25) * factor[1]
        tissue["t2_3t"] = row.get("t2_3t", row["t2"] * 0.9) * factor[2]
        out[name] = tissue
    return out


def draw_lesion(kind: str, rng: np.random.Generator) -> dict[str, dict]:
    """Core and rim of one lesion of ``kind``; both share the draw, so that the lesion stays one tissue."""
    row, spread = table()["lesions"][kind], table()["lesions"]["spread"]
    hu, echo = rng.normal(0, spread["hu"]), rng.normal(0, spread["echo"])
    f = {k: max(0.4, rng.normal(1, spread[k])) for k in ("iodine", "t1", "t2", "adc", "att")}
    if kind == "calcified_granuloma":
        hu *= 15
    out = {}
    for part in ("core", "rim"):
        t = {**_DEFAULTS, **row[part]}
        t["hu"], t["echo"] = t["hu"] + hu, t["echo"] + echo
        t["iodine"] = np.asarray(t["iodine"], float) * f["iodine"]
        for k in ("t1", "t2", "adc", "att"):
            t[k] = t[k] * f[k]
        t["t1_3t"], t["t2_3t"] = t["t1"] * 1.25, t["t2"] * 0.9
        out[part] = t
    return out
