"""The indication and the risk status: one token a word (a character of Chinese), of a kind that the word's
hash names.

Words that training never saw are left out (`tokens.KindTokens`). The report is never read: it is what is to
be written.
"""

from __future__ import annotations

import re
from zlib import crc32

import numpy as np

from .sense import ClinicalContext, Sense

SIZE = 1
KINDS = 2048
WORD = re.compile(r"[a-z0-9]+|[\u3400-\u9fff]")


def read(context: ClinicalContext) -> tuple[np.ndarray, np.ndarray]:
    """One token a word, in the order of their kinds: features (N, 1) of zeros, kinds (N,)."""
    found = [f"indication {w}" for w in WORD.findall(context.indication.lower())]
    found += [f"risk {w}" for w in WORD.findall(context.risk.lower())]
    kinds = sorted({crc32(w.encode()) % KINDS for w in found})
    return np.zeros((len(kinds), SIZE)), np.array(kinds, int)


TEXT = Sense(name="TEXT", size=SIZE, kinds=KINDS, read=read)
