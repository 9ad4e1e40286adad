"""How sure a sentence sounds: from probability to wording."""

from __future__ import annotations

from ..claim import Certainty

CERTAIN = 0.90
LIKELY = 0.70
POSSIBLE = 0.40
DENIED = 0.15


def wording(p: float) -> Certainty:
    """The documented scale from probability to words."""
    if p >= CERTAIN:
        return "certain"
    if p >= LIKELY:
        return "likely"
    if p >= POSSIBLE:
        return "possible"
    return "absent" if p < DENIED else "unlikely"


def hedged(degree: Certainty) -> Certainty:
    """One step back towards the middle, for findings that the images cannot settle."""
    softer: dict[Certainty, Certainty] = {"certain": "likely", "likely": "possible", "absent": "unlikely"}
    return softer.get(degree, degree)
