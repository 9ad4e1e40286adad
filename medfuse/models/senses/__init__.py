"""Senses beside the images. One file each says how what was said or measured becomes tokens; a task takes it in by one line
(`further: [LABS, TEXT]`). They pass through fusion, dropout, subsets, calibration and Shapley values as the images do.

Each file has SIZE (features of a token), KINDS (how many kinds of token there are) and ``read(said) -> (features (N, SIZE), kind (N,))``.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from ...case import Lab
from ..features import CaseFeatures
from . import labs, words

SENSES = {"LABS": labs, "TEXT": words}


class Said(Protocol):
    """What is known of a case beside its images: a Case or a row of a manifest. Its report is never among it."""

    indication: str
    risk: str
    labs: list[Lab]


def add_senses(features: CaseFeatures, further: tuple[str, ...], said: Said) -> None:
    """Add the tokens of each further sense that has any."""
    for sense in further:
        values, kind = SENSES[sense].read(said)
        if len(kind):
            features.features[sense] = values.astype(np.float32)
            features.mask[sense] = np.ones(len(kind), bool)
            features.kind[sense] = kind.astype(np.int64)
