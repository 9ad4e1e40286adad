"""Who shows a thing and who does not, in words: only those that truly do are named as showing it."""

from __future__ import annotations

from ..claim import Claim, Witness
from ..modalities import is_cine
from ..prediction import LesionRecord
from .telling import Telling


def witness_words(claim: Claim, t: Telling) -> list[str]:
    """Phrases on what each modality says of a claim; none where the style leaves them out."""
    if not t.style.witnesses:
        return []
    out = _shown(claim, t)
    if claim.joint:
        out.append(t.s.render("claim.joint", possible=claim.certainty == "possible"))
    unclear = claim.of_role("unclear")
    out += _said("outlined", [w for w in unclear if w.modality in _outlined(claim, t)], claim, t)
    out += _said("unmatched", _elsewhere(unclear), claim, t)
    asked = [w for w in claim.witnesses if w.role in ("shows", "does_not_show", "unclear")]
    if not claim.joint and len(asked) > 1:
        rest = [w for w in unclear if w.modality not in _outlined(claim, t) and w.why != "unmatched"]
        out += _said("unsure", rest, claim, t)
        out += _said("silent", claim.of_role("does_not_show"), claim, t)
    return out


def _shown(claim: Claim, t: Telling) -> list[str]:
    """Who shows it, and where several do, how surely it is one lesion."""
    shown = [_seen(m, claim, t) for m in claim.shown_by()]
    if not shown:
        return []
    how = claim.match if len(shown) > 1 and claim.match else "shown"
    return [t.s.render(f"claim.{how}", modalities=t.s.joined(shown))]


def _elsewhere(unclear: list[Witness]) -> list[Witness]:
    """Those with a lesion that may be this one; what cines outline is told by itself."""
    return [w for w in unclear if w.why == "unmatched" and not is_cine(w.modality)]


def _said(entry: str, witnesses: list[Witness], claim: Claim, t: Telling) -> list[str]:
    names = [_seen(w.modality, claim, t, w.why) for w in witnesses]
    return [t.s.render(f"claim.{entry}", modalities=t.s.joined(names))] if names else []


def _outlined(claim: Claim, t: Telling) -> dict[str, LesionRecord]:
    return {t.records[i].modality: t.records[i] for i in claim.lesions}


def _seen(modality: str, claim: Claim, t: Telling, why: str = "") -> str:
    """A modality, with the place of the lesion on it, or why it may have missed it."""
    word = t.s.inside(modality)
    lesion = _outlined(claim, t).get(modality)
    if lesion is not None:
        return t.s.render("claim.seen", modality=word, place=place_words(lesion, t))
    return t.s.render("claim.window", modality=word) if why == "window" else word


def place_words(lesion: LesionRecord, t: Telling) -> str:
    """Series and slice, or the frame, where a lesion is largest."""
    if lesion.place.frame is not None:
        return t.s.render("place_frame", n=lesion.place.frame + 1)
    series = t.s.role(t.prediction.images[lesion.place.image].role)
    return t.s.render("place_slice", series=series, n=(lesion.place.slice or 0) + 1)
