"""The indication and the risk status: one token a word (a character of Chinese), of a kind that the word's hash names.

Words that training never saw are left out (`tokens.KindTokens`). The report is never read: it is what is to be written.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

if TYPE_CHECKING:
    from . import Said

SIZE, KINDS = 1, 2048
WORD = re.compile(r"[a-z0-9]+|[\u3400-\u9fff]")


def read(said: Said) -> tuple[np.ndarray, np.ndarray]:
    found = [f"indication {w}" for w in WORD.findall(said.indication.lower())]
    found += [f"risk {w}" for w in WORD.findall(said.risk.lower())]
    kinds = sorted({crc32(w.encode()) % KINDS for w in found})
    return np.zeros((len(kinds), SIZE)), np.array(kinds, int)
