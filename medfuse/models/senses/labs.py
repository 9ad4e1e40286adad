"""Laboratory values: one token an analyte (its newest value), of a kind that LOINC code and UCUM unit name together.

A value in a unit that no training case had is a kind that training never saw, and is left out rather than misread. The logarithm is
standardised an analyte by the training set (`tokens.KindTokens`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

if TYPE_CHECKING:
    from . import Said

SIZE, KINDS = 1, 512


def kind_of(loinc: str, unit: str) -> int:
    return crc32(f"{loinc.strip()}|{unit.strip()}".encode()) % KINDS


def read(said: Said) -> tuple[np.ndarray, np.ndarray]:
    newest = {kind_of(x.loinc, x.unit): x.value for x in sorted(said.labs, key=lambda x: x.date)}
    values = np.log(np.maximum(np.array(list(newest.values()), float), 1e-3))
    return values.reshape(-1, SIZE), np.array(list(newest), int)
