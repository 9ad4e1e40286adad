"""One outline of a known mass from several sensors: the mean of their log odds, where their volumes lie in
one frame of reference. Late fusion without weights of its own: who is sure outvotes who is not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.special import expit, logit

from ..case import Case
from ..models.features import DenseOutput
from ..models.regions import lesion_components
from ..prediction import Together
from ..preprocess.tensors import VolumeInput
from ..preprocess.volume import resample
from ..task import Task
from .lesions import CanShow, FoundLesion, largest, volume_lesions

SURE = 0.999  # of no voxel is a sensor surer than this
DRAWN_ON = ("MR", "CT", "PT")  # whose grid the outline gets: the first that is there


def joined(
    outputs: Sequence[DenseOutput], affine: Float[np.ndarray, "4 4"], shape: tuple[int, ...]
) -> Float[np.ndarray, "x y z"]:
    """The probability of a lesion at the voxels of a grid, by volumes of one frame of reference. A sensor
    says nothing beyond its volume; where none says anything the probability is 0."""
    x, y, z = shape
    total = np.zeros(shape)
    heard = np.zeros(shape)
    for output in outputs:
        source = output.source
        assert isinstance(source, VolumeInput)
        odds = logit(np.clip(output.lesion_probability.astype(np.float64), 1 - SURE, SURE))
        here = resample(odds, source.affine, affine, (x, y, z), order=1, fill=np.nan)
        there = ~np.isnan(here)
        total[there] += here[there]
        heard += there
    return np.where(heard > 0, expit(total / np.maximum(heard, 1)), 0.0)


def outlined_together(
    outputs: Sequence[DenseOutput], case: Case, task: Task, can_show: CanShow
) -> list[tuple[Together, FoundLesion]]:
    """For each frame of reference with volumes of several modalities, the one mass that they outline
    together."""
    frames: dict[str, list[DenseOutput]] = {}
    for output in outputs:
        if isinstance(output.source, VolumeInput) and output.source.frame_of_reference:
            frames.setdefault(output.source.frame_of_reference, []).append(output)
    found: list[tuple[Together, FoundLesion]] = []
    for group in frames.values():
        senses = list(dict.fromkeys(o.modality for o in group))
        if len(senses) < 2:
            continue
        one = on_one_grid(group, task)
        assert isinstance(one.source, VolumeInput)
        for lesion in largest(volume_lesions(one, one.source, case, task, can_show, 0.5)):
            lesion.record.id = f"together-{len(found) + 1}"
            found.append((Together(modalities=senses, lesion=lesion.record), lesion))
    return found


def on_one_grid(group: list[DenseOutput], task: Task) -> DenseOutput:
    """The joint outline of a group on the grid of the image that outlines are drawn on."""
    order = {m: n for n, m in enumerate(DRAWN_ON)}
    chosen = min(group, key=lambda o: order.get(o.modality, len(order)))
    assert isinstance(chosen.source, VolumeInput)
    p = joined(group, chosen.source.affine, chosen.lesion_probability.shape).astype(np.float32)
    components = lesion_components(p)
    per_class = np.zeros((len(components), len(task.dense)))
    per_class[:, task.dense.index(task.around)] = 1
    return DenseOutput(chosen.modality, chosen.source, 0, chosen.label, p, components, per_class)
