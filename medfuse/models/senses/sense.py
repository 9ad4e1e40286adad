"""What a further sense is: the one record that a file of this folder makes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ...case import Lab


class ClinicalContext(Protocol):
    """What is known of a case beside its images: a Case or a row of a manifest. Its report is never among
    it."""

    indication: str
    risk: str
    labs: list[Lab]

    @property
    def heard(self) -> list[str]:
        """Paths of WAV files."""
        ...


@dataclass(frozen=True, kw_only=True)
class Sense:
    """A sense beside the images. ``read`` gives its tokens: features (N, size) float and kind (N,) int, each
    kind below ``kinds``; N is 0 where nothing is known."""

    name: str
    size: int
    kinds: int
    read: Callable[[ClinicalContext], tuple[np.ndarray, np.ndarray]]
