"""The pointing game: does the place that a finding is shown at lie on a true lesion?"""

from __future__ import annotations

import numpy as np

from ..case import Case
from ..prediction import FindingRecord, Place, Prediction
from ..task import Task

POINTED = 0.5  # probability from which evidence must hit


def pointing_hits(
    prediction: Prediction, case: Case, masks: dict[int, np.ndarray], labels: np.ndarray, task: Task
) -> list[bool]:
    """For each true focal finding with a probability of at least POINTED: whether the centre of its surest
    place lies on a true lesion of it. masks: label maps by number of the image; labels (F,)."""
    out = []
    for n, record in enumerate(prediction.findings):
        if labels[n] == 1 and _is_pointed(record, task):
            finding = task.finding(record.id)
            classes = [
                task.dense.index(task.finding(p).lesion_class)
                for p in (finding.derived_from or (finding.id,))
                if task.finding(p).lesion_class
            ]
            places = record.evidence[:1]
            hit = [h for place in places if (h := on_lesion(place, case, masks, classes)) is not None]
            out.append(bool(hit and hit[0]))
    return out


def _is_pointed(record: FindingRecord, task: Task) -> bool:
    """Whether a focal finding is claimed so surely that its evidence counts."""
    sure = (record.probability or 0) >= POINTED
    return task.finding(record.id).group == "focal" and sure and record.assessed


def on_lesion(place: Place, case: Case, masks: dict[int, np.ndarray], classes: list[int]) -> bool | None:
    """Whether the middle of a place's box lies on a voxel of these classes, one voxel of tolerance; None
    without a label map."""
    mask = masks.get(place.image)
    if mask is None or place.box_voxels is None:
        return None
    low, high = (np.asarray(v) for v in place.box_voxels)
    middle = np.round((low + high) / 2).astype(int)
    if place.frame is not None:
        plane = mask[place.frame]
        y = int(middle[1])
        x = int(middle[0])
        near = plane[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3]
    else:
        i, j, k = (int(v) for v in middle)
        near = mask[max(0, i - 1) : i + 2, max(0, j - 1) : j + 2, max(0, k - 1) : k + 2]
    return bool(np.isin(near, classes).any())
