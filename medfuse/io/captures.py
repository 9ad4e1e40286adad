"""Ultrasound that a scanner stored as Secondary Capture: taken where a user says what it is."""

from __future__ import annotations

from ..errors import WrongUse
from ..modalities import cines, stated

# single frame, then multi-frame: bits, grey bytes, grey words, colour
CLASSES = tuple(f"1.2.840.10008.5.1.4.1.1.7{end}" for end in ("", ".1", ".2", ".3", ".4"))
NO_MODALITY = ("OT", "SC", "")  # what such a file may state where it does not say what was used


def is_capture(tags: dict[str, str]) -> bool:
    """Whether a file with these attributes is a Secondary Capture that may be ultrasound."""
    said = tags.get("Modality", "").strip().upper()
    return tags.get("SOPClassUID", "") in CLASSES and (said in NO_MODALITY or said in cines())


def says_ultrasound(tags: dict[str, str]) -> bool:
    """Whether it says itself that it is."""
    return is_capture(tags) and tags.get("Modality", "").strip().upper() in cines()


def checked(modality: str) -> str:
    """The code of a modality that Secondary Captures may be taken for. Raises WrongUse for another."""
    code = stated(modality)
    if code and code not in cines():
        raise WrongUse(
            f"--modality {modality}: a Secondary Capture has no place and no unit, so only "
            f"{', '.join(cines())} is taken from one"
        )
    return code
