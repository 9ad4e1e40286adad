"""Case → tensors, per modality, geometry kept."""

from __future__ import annotations

import numpy as np

from ..case import Case
from ..modalities import is_cine
from ..task import Task
from .cine import cine_input
from .irregular import regularise
from .tensors import CineInput, VolumeInput
from .volume import volume_inputs


def prepare(
    case: Case, task: Task, masks: dict[int, np.ndarray] | None = None
) -> dict[str, list[VolumeInput | CineInput]]:
    """Inputs of the own encoders by modality; a modality without usable images is not in the result."""
    out: dict[str, list[VolumeInput | CineInput]] = {}
    images = [regularise(image) for image in case.images]
    for modality, spec in task.modalities.items():
        places = [i for i, image in enumerate(images) if image.modality == modality]
        if not places or not task.has_own(modality):
            continue
        if is_cine(modality):
            out[modality] = [cine_input(images[i], i, spec, (masks or {}).get(i)) for i in places]
        else:
            volumes = volume_inputs(images, places, modality, spec, masks)
            if volumes:
                out[modality] = list(volumes)
    return out
