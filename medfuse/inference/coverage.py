"""Is the organ covered? 'No focal lesion' needs all of it; a cut organ makes a modality limited."""

from __future__ import annotations

import numpy as np

from ..models.features import DenseOutput
from ..preprocess.tensors import VolumeInput
from ..task import Task

CUT_SHARE = 0.2  # organ area in the last covered slice, against its largest slice


def coverage_limit(output: DenseOutput, task: Task) -> str:
    """Empty when the organ lies inside the field of view; else not_in_view, or where it is cut: "cut bottom
    top"."""
    source = output.source
    assert isinstance(source, VolumeInput)
    organ = np.isin(output.label, task.organ_indices)
    area = organ.sum((0, 1)).astype(float)
    if area.max() < 20:
        return "not_in_view"
    covered = source.covered if source.covered is not None else np.ones(organ.shape, bool)
    slices = np.flatnonzero(covered.any((0, 1)))
    cut = [
        name for name, z in (("bottom", slices[0]), ("top", slices[-1])) if area[z] > CUT_SHARE * area.max()
    ]
    return f"cut {' '.join(cut)}" if cut else ""


def limits_of(dense: list[DenseOutput], task: Task) -> dict[str, str]:
    """Modality → its limit, of the volumes that do not hold the whole organ; a modality's first speaks."""
    out: dict[str, str] = {}
    for output in dense:
        if isinstance(output.source, VolumeInput) and output.modality not in out:
            limit = coverage_limit(output, task)
            if limit:
                out[output.modality] = limit
    return out
