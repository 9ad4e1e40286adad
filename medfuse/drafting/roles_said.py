"""Words → which modality shows a thing and which does not, by clause; English and Traditional Chinese."""

from __future__ import annotations

import re

from ..claim import Claim

MODALITIES = {
    "US": re.compile(r"\b(ultrasound|sonograph\w*|ultrasonograph\w*)\b|超音波", re.IGNORECASE),
    "CT": re.compile(r"\bCT\b|\bcomputed tomograph\w*|電腦斷層"),
    "MR": re.compile(r"\bMRI?\b|\bmagnetic resonance\b|磁振造影"),
    "PT": re.compile(r"\bPET\b|正子"),
}
_CLAUSE = re.compile(r"[;；。]|\.\s|,\s*(?:but|and not|although)\b|\bbut\b|，但|但")
_NOT = re.compile(
    r"\bnot (seen|visible|shown|visuali[sz]ed|identified|depicted|demonstrated|evident|(?:on|by|in) )\b|"
    r"\binvisible\b|\boccult\b|"
    r"\bno correlate\b|\bneither of (?:which|them)\b|"
    r"未顯示|看不到|無法顯示|未能顯示|未見",
    re.IGNORECASE,
)
_SHOWS = re.compile(
    r"\b(shown|shows|seen|visible|visuali[sz]ed|depicted|demonstrated|demonstrates|evident|identified|"
    r"noted)\b|\b(?:on|by) (?:both )?(?=CT|MRI?|PET|ultraso|sonogr|magnetic|computed)|見於|顯示|可見|均見",
    re.IGNORECASE,
)
_UNSURE = re.compile(
    r"\b(uncertain|unclear|equivocal|perhaps|may|alone|not confirmed|cannot)\b|不明確|可能|單獨|單一|"
    r"未能證實",
    re.IGNORECASE,
)
_DISSENT = re.compile(
    r",?\s*(?:but |and )?\bnot (?:(?:seen|visible|shown|identified|depicted) )?"
    r"(?:(?:on|by|in) |(?:ultra)?sonograph)[^.;,]*|"
    r"[，,]?於?[^，。；,（）：]*(?:未顯示|看不到|無法顯示)",
    re.IGNORECASE,
)
AGAINST = ("does_not_show", "cannot_show", "not_acquired")


def without_dissent(text: str) -> str:
    """A text without what it says of modalities that do not show a thing: the thing may be there."""
    return _DISSENT.sub("", text)


def roles_said(text: str) -> dict[str, bool]:
    """Modality → whether a text says that it shows the thing (True) or that it does not (False); none where
    it settles neither."""
    out: dict[str, bool] = {}
    for clause in _CLAUSE.split(text):
        denied = bool(_NOT.search(clause))
        if _UNSURE.search(clause) or not (denied or _SHOWS.search(clause)):
            continue
        out |= {m: not denied for m, named in MODALITIES.items() if named.search(clause)}
    return out


def wrong_role(text: str, claims: list[Claim]) -> str:
    """Why what a text says of a modality may not stand beside the claims that it may speak of; "" where it
    may."""
    for modality, shows in roles_said(text).items():
        roles = [w.role for c in claims for w in c.witnesses if w.modality == modality]
        if shows and roles and all(r in AGAINST for r in roles):
            return f"{modality} is said to show {claims[0].finding}, and does not"
        if not shows and roles and all(r == "shows" for r in roles):
            return f"{modality} is said not to show {claims[0].finding}, and does"
    return ""
