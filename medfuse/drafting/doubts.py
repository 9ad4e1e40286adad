"""How strongly words doubt a finding that they name; English and Traditional Chinese."""

from __future__ import annotations

import re

from .labeller import Lexicon

UNLIKELY = re.compile(r"\b(?:unlikely|improbable)\b|不太可能|不(?:像|似)|可能性(?:很|極)?低", re.IGNORECASE)
_LIKELY = re.compile(r"\b(?:likely|probabl[ey]|highly suspicious)\b|[很極]可能|高度懷疑", re.IGNORECASE)
_WEAK = re.compile(
    r"\b(?:possibl[ey]|possibility|may|might|questionable|equivocal|cannot be excluded|not excluded)\b|"
    r"疑似|(?<![很極不])可能|無法排除|不(?:能)?排除",
    re.IGNORECASE,
)
_JOINT = re.compile(r"[,;，；、：:]|\b(?:and|with|in|of the|due to|from)\b|[及併與和]", re.IGNORECASE)
_NEAR = 30  # characters before and after a name that may govern it


def degree_of(text: str, finding: str, lexicon: Lexicon) -> str:
    """``likely``, ``weak`` or "" by the words next to where a finding is named, not beyond a comma or an
    "and"."""
    for place in lexicon.patterns[finding].places(text):
        before = _JOINT.split(text[max(0, place.start - _NEAR) : place.start])[-1]
        after = _JOINT.split(text[place.end : place.end + _NEAR])[0]
        for degree, words in (("likely", _LIKELY), ("weak", _WEAK)):
            if words.search(before) or words.search(after):
                return degree
    return ""
