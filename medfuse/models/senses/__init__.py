"""Senses beside the images: laboratory values, the words of the indication, sounds.

One file each says how what was said or measured becomes tokens, and makes one `Sense`; SENSES gathers them. A
task takes a sense in by one line (`further: [LABS, TEXT]`). Its tokens pass through fusion, dropout, subsets,
calibration and Shapley values as those of the images do.
"""

from __future__ import annotations

import numpy as np

from ...errors import UserError
from ..features import CaseFeatures
from .audio import AUDIO
from .labs import LABS
from .sense import ClinicalContext, Sense
from .words import TEXT

SENSES: dict[str, Sense] = {s.name: s for s in (LABS, TEXT, AUDIO)}


def sense_of(name: str) -> Sense:
    """The sense of a name; UserError where nobody registered it."""
    if name not in SENSES:
        raise UserError(
            f"further: no sense {name}; there are {', '.join(SENSES)}, name one of them or register yours"
        )
    return SENSES[name]


def add_senses(features: CaseFeatures, further: tuple[str, ...], context: ClinicalContext) -> None:
    """Add the tokens of each further sense that has any."""
    for name in further:
        values, kind = sense_of(name).read(context)
        if len(kind):
            features.features[name] = values.astype(np.float32)
            features.mask[name] = np.ones(len(kind), bool)
            features.kind[name] = kind.astype(np.int64)
