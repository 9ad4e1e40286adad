"""Is the organ covered? 'No focal lesion' needs all of it; a cut organ makes a modality limited."""

from __future__ import annotations

import numpy as np

from ..preprocess.tensors import VolumeInput
from ..task import Task
from .features import DenseOutput

CUT_SHARE = 0.2  # organ area in the last covered slice, against its largest slice


def coverage_limit(output: DenseOutput, task: Task) -> str:
    """Empty when the organ lies inside the field of view; else not_in_view, or where it is cut: "cut bottom top"."""
    source = output.source
    assert isinstance(source, VolumeInput)
    wanted = [task.dense.index(task.organ), *task.lesion_indices]
    organ = np.isin(output.label, wanted)
    area = organ.sum((0, 1)).astype(float)
    if area.max() < 20:
        return "not_in_view"
    covered = source.covered if source.covered is not None else np.ones(organ.shape, bool)
    slices = np.flatnonzero(covered.any((0, 1)))
    cut = [name for name, z in (("bottom", slices[0]), ("top", slices[-1])) if area[z] > CUT_SHARE * area.max()]
    return f"cut {' '.join(cut)}" if cut else ""
