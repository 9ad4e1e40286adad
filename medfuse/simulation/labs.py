"""Words and numbers beside the images: laboratory values, risk status, indication. All weakly informed, from
a stream of their own."""

from __future__ import annotations

from datetime import date, timedelta
from functools import cache
from importlib.resources import files

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict

from ..case import Lab

STUDY_DATE = date(2024, 1, 15)
# Share of patients with chronic viral hepatitis or known cirrhosis, without and with the finding (risk as
# LI-RADS means it).
RISK = {"none": 0.06, "hcc_like": 0.7, "cirrhosis": 0.6}
# How much likelier an indication is to be written when a finding is there: a hint, no more.
HINTS = {
    "Abnormal liver enzymes.": ("steatosis", "dilated_ducts", "iron", "cirrhosis"),
    "Follow-up of a liver lesion.": ("haemangioma", "fnh_like", "simple_cyst"),
    "Right upper quadrant pain.": ("gallstone", "abscess", "dilated_ducts"),
    "Staging.": ("metastasis_like",),
    "Screening in chronic liver disease.": ("cirrhosis", "hcc_like"),
    "Upper abdominal discomfort.": (),
}
HINT = 2.0


class LabRow(BaseModel):
    """A laboratory value of labs.yaml: log-normal about its median, each finding with its factor."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    loinc: str
    unit: str  # UCUM
    median: float
    spread: float  # standard deviation of the natural logarithm
    digits: int
    measured: float  # share of patients who have it
    factors: dict[str, float]
    source: str


@cache
def table() -> list[LabRow]:
    """The laboratory values of labs.yaml, with what changes them."""
    rows = yaml.safe_load(files("medfuse.simulation").joinpath("labs.yaml").read_bytes())
    return [LabRow(**row) for row in rows]


def draw_labs(rng: np.random.Generator, findings: dict[str, bool]) -> list[Lab]:
    """Values as a hospital system gives them: name, LOINC, value, UCUM unit, date within 30 days before the
    study."""
    out = []
    for lab in table():
        moved = sum(np.log(f) for name, f in lab.factors.items() if findings.get(name))
        value = float(np.exp(rng.normal(np.log(lab.median) + moved, lab.spread)))
        taken = rng.random() < lab.measured
        days = int(rng.integers(0, 31))
        if taken:
            day = (STUDY_DATE - timedelta(days=days)).isoformat()
            out.append(Lab(lab.loinc, round(value, lab.digits), lab.unit, day, lab.name))
    return out


def draw_risk(rng: np.random.Generator, findings: dict[str, bool]) -> str:
    """ "chronic liver disease", "none known" or "" (not documented)."""
    chance = max([RISK["none"], *[p for name, p in RISK.items() if findings.get(name)]])
    documented = rng.random() < 0.7
    at_risk = rng.random() < chance
    return "" if not documented else "chronic liver disease" if at_risk else "none known"


def draw_indication(rng: np.random.Generator, findings: dict[str, bool]) -> str:
    """Why the patient was imaged: a hint at the findings, no more."""
    texts = list(HINTS)
    weights = np.array([HINT if any(findings.get(f) for f in HINTS[t]) else 1.0 for t in texts])
    return str(rng.choice(texts, p=weights / weights.sum()))
