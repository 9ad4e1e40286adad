"""A written side or size → the measured one, of the lesions that a claim may speak of."""

from __future__ import annotations

from ..prediction import LesionRecord, Prediction
from ..task import Task
from .labeller import SIZE, Claim, size_in_mm

SIZE_TOLERANCE = 0.25  # a written size this close to the measured one stays
_SIDES = {"right": ("right", "右"), "left": ("left", "左")}


def wider_ids(finding_id: str, task: Task) -> set[str]:
    """Ids of the findings that a finding is one of."""
    return {f.id for f in task.wider(finding_id)}


def lesions_of(claim: Claim, prediction: Prediction, task: Task) -> list[LesionRecord]:
    """Lesions that may be the one a claim speaks of: of that finding, or of one wider or narrower."""
    names = {claim.finding, *task.finding(claim.finding).derived_from, *wider_ids(claim.finding, task)}
    names |= {f.id for f in task.findings if claim.finding in wider_ids(f.id, task)}
    mine = [x for x in prediction.lesions if x.finding in names]
    return sorted(mine, key=lambda x: (x.finding != claim.finding, -x.probability))


def mend_side(text: str, claim: Claim, lesions: list[LesionRecord]) -> tuple[str, str] | None:
    """The text with the measured side, and what was changed; None where no side was measured."""
    sides = {x.side for x in lesions} - {""}
    if not claim.side or claim.side in sides:
        return text, ""
    if not sides:
        return None
    (other,) = sides
    swapped = _swap_side(text, claim.side, other)
    if swapped == text:  # a segment names the side
        return None
    return swapped, f"side {claim.side} → {other}, as measured"


def mend_size(text: str, claim: Claim, lesions: list[LesionRecord]) -> tuple[str, str] | None:
    """The text with the nearest measured size, and what was changed; None where no size was measured."""
    if claim.size_mm is None:
        return text, ""
    stated = claim.size_mm
    sides = {x.side for x in lesions}
    here = [x for x in lesions if x.side in ("", claim.side or x.side) or claim.side not in sides]
    sizes = [x.long_axis_mm for x in here if x.long_axis_mm is not None]
    if not sizes:
        return None
    near = min(sizes, key=lambda v: abs(v - stated))
    if abs(near - stated) <= SIZE_TOLERANCE * near:
        return text, ""
    return _set_size(text, near), f"size {stated:.0f} → {near:.0f} mm, as measured"


def _swap_side(text: str, wrong: str, right: str) -> str:
    for old, new in zip(_SIDES[wrong], _SIDES[right], strict=True):
        text = text.replace(old, new).replace(old.capitalize(), new.capitalize())
    return text


def _set_size(text: str, mm: float) -> str:
    """Put the measured long axis in place of the largest stated size."""
    stated = max(SIZE.finditer(text), key=size_in_mm)
    return f"{text[: stated.start()]}{mm:.0f} mm{text[stated.end() :]}"
