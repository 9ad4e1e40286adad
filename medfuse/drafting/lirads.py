"""CT/MRI LI-RADS v2018 as a rule layer on lesions, and the ultrasound visualisation score; only where its
conditions are documented.

ACR CT/MRI LI-RADS v2018 Core: categories hold for adults at risk (cirrhosis, chronic hepatitis B, current or
prior HCC) with arterial, portal venous and delayed phases. The model has no growth and no separate capsule,
so neither raises a category here. ACR Ultrasound LI-RADS 2017: visualisation A, B, C; here estimated from the
share of frames that show the liver.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..case import Case
from ..prediction import LesionRecord, Prediction
from ..task import Task

# least share of frames with the liver in view; ours, not ACR's
VISUALISATION = (
    (0.7, "A"),
    (0.4, "B"),
    (0.0, "C"),
)
NONE = ("none", "none known", "no known risk", "no risk factors")  # of a documented risk status
SURE = 0.7  # calibrated probability from which a lesion's features count


@dataclass(frozen=True)
class Category:
    """A category, or "" and why it does not apply (a key under `lirads` in the templates, with what it
    names)."""

    category: str
    reason: str = ""
    detail: str = ""


def applies(prediction: Prediction, case: Case, task: Task, modality: str) -> Category:
    """Whether lesions of a modality may be categorised at all."""
    rule = task.rules.get("lirads", {})
    if not case.risk:
        return Category("", "no_risk")
    if nothing_known(case):
        return Category("", "none_known")
    documented = {part.strip().casefold() for part in re.split("[,;.]", case.risk)}
    if not documented & {r.casefold() for r in rule.get("risk", ())}:
        return Category("", "other_risk", case.risk)
    if case.age is not None and case.age < 18:
        return Category("", "child")
    roles = {i.role for i in prediction.images if i.modality == modality}
    missing = [r for r in rule.get("phases", {}).get(modality, ()) if r not in roles]
    if missing:
        return Category("", "phases", " ".join(missing))
    return Category("-")


def nothing_known(case: Case) -> bool:
    """Whether it is documented that the patient is not known to be at risk."""
    return case.risk.strip(" .").casefold() in NONE


def categorise(lesion: LesionRecord, prediction: Prediction, task: Task) -> Category:
    """The category of one lesion by its features and long axis (Core table of v2018)."""
    features = task.rules["lirads"]["features"].get(lesion.finding)
    support = prediction.finding(lesion.finding).probability or 0.0
    if features is None or support < SURE:
        return Category("", "features")
    if "benign" in features:
        return Category("LR-1")
    if "targetoid" in features:
        return Category("LR-M")
    if lesion.long_axis_mm is None:
        return Category("", "size")
    large = lesion.long_axis_mm >= 20
    middle = lesion.long_axis_mm >= 10
    if "washout" in features:
        return Category("LR-5" if middle else "LR-4")
    return Category("LR-4" if large else "LR-3")


def visualisation(prediction: Prediction, case: Case) -> Category:
    """The ultrasound visualisation score, estimated."""
    if not case.risk:
        return Category("", "no_risk")
    if nothing_known(case):
        return Category("", "none_known")
    if not prediction.organ_in_view:
        return Category("", "not_acquired")
    share = max(prediction.organ_in_view.values())
    return Category(next(name for least, name in VISUALISATION if share >= least))
