"""Laboratory values: one token an analyte (its newest value), of a kind that LOINC code and UCUM unit name
together.

A value in a unit that no training case had is a kind that training never saw, and is left out rather than
misread. The logarithm is standardised an analyte by the training set (`tokens.KindTokens`).
"""

from __future__ import annotations

from zlib import crc32

import numpy as np

from .sense import ClinicalContext, Sense

SIZE = 1
KINDS = 512


def kind_of(loinc: str, unit: str) -> int:
    """The kind of a value, by its LOINC code and UCUM unit together."""
    return crc32(f"{loinc.strip()}|{unit.strip()}".encode()) % KINDS


def read(context: ClinicalContext) -> tuple[np.ndarray, np.ndarray]:
    """Logarithms (N, 1) of the newest value of each analyte, and their kinds (N,)."""
    newest = {kind_of(x.loinc, x.unit): x.value for x in sorted(context.labs, key=lambda x: x.date)}
    values = np.log(np.maximum(np.array(list(newest.values()), float), 1e-3))
    return values.reshape(-1, SIZE), np.array(list(newest), int)


LABS = Sense(name="LABS", size=SIZE, kinds=KINDS, read=read)
