"""Temperature, answer sets and reliability for each presence pattern."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..bundles.calibration import calibrated, expected_calibration_error, fit_temperature, reliability
from ..bundles.conformal import fit_quantiles
from ..bundles.contracts import Calibration
from ..evaluation.findings import finding_auroc
from ..models.feature_set import FeatureSet, collect, predict_logits
from ..models.model import FusionModel
from ..models.subsets import name as subset_name
from ..models.subsets import subsets, use_only
from ..task import Task


@dataclass(frozen=True, kw_only=True)
class SubsetFigures:
    """Validation of one presence pattern: mean AUROC over the findings (None: no finding has both labels),
    expected calibration error, and the number of cases."""

    macro_auroc: float | None
    ece: float
    n: int


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """What goes into the bundle, and the figures of each presence pattern."""

    calibration: Calibration
    figures: dict[str, SubsetFigures]


def calibrate(task: Task, model: FusionModel, val: FeatureSet) -> Calibrated:
    """Temperature, conformal thresholds and reliability for each presence pattern, and validation figures of
    each."""
    data = collect(task, model.sizes, val)
    found = Calibration(temperature={})
    figures: dict[str, SubsetFigures] = {}
    for s in subsets(task.senses):
        there = np.all([val.has(m) for m in s], axis=0)
        if not there.any():
            continue
        name = subset_name(s)
        logits = predict_logits(model, data.batch, use_only(s, task.senses, len(val.labels)))[there]
        labels = val.labels[there]
        t = fit_temperature(labels, logits)
        probability = calibrated(logits, t)
        auroc = finding_auroc(labels, logits)
        found.temperature[name] = round(t, 4)
        found.conformal[name] = [round(float(q), 4) for q in fit_quantiles(labels, probability)]
        found.reliability[name] = reliability(labels, probability)
        figures[name] = SubsetFigures(
            macro_auroc=None if np.isnan(auroc).all() else round(float(np.nanmean(auroc)), 4),
            ece=round(expected_calibration_error(labels, probability), 4),
            n=int(there.sum()),
        )
    return Calibrated(calibration=found, figures=figures)
