"""How large are lesions said to be, and how large are they? Each reported lesion beside the true one under
it, both on the image's own grid: once as the network's grid shows it, once after the second look."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from ..case import Case
from ..exports.seg import native_mask
from ..inference.lesions import FoundLesion, diameters
from ..task import Task
from .results import SizeRow


@dataclass
class SizeScores:
    """Of one modality, over many cases. errors: mm of the long axis, (first look, second look) of each
    reported lesion that lies on a true one; dice: of volumes, the same."""

    reported: int = 0
    true: int = 0  # different ones that were reported
    errors: list[tuple[float, float]] = field(default_factory=list)
    dice: list[tuple[float, float]] = field(default_factory=list)

    def summary(self) -> SizeRow:
        """Medians of the errors, means of the Dice."""
        once, twice = np.median(np.abs(self.errors), 0) if self.errors else (None, None)
        first, second = np.mean(self.dice, 0) if self.dice else (None, None)
        return SizeRow(
            reported=self.reported,
            on_true=len(self.errors),
            true_found=self.true,
            first_look_error_mm=_rounded(once, 2),
            diameter_error_mm=_rounded(twice, 2),
            first_look_dice=_rounded(first, 4),
            dice=_rounded(second, 4),
        )


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(float(value), digits)


def score_sizes(
    scores: dict[str, SizeScores],
    looks: tuple[list[FoundLesion], list[FoundLesion]],
    case: Case,
    masks: dict[int, np.ndarray],
    task: Task,
) -> None:
    """Add one case. ``looks``: its lesions by the first and by the second look, in one order; ``masks``:
    label maps by image, on the image's grid."""
    true: dict[int, np.ndarray] = {}
    met: set[tuple[int, int]] = set()
    for once, twice in zip(*looks, strict=True):
        index = once.record.place.image
        if index not in masks:
            continue
        into = scores.setdefault(once.record.modality, SizeScores())
        into.reported += 1
        if index not in true:
            true[index] = ndimage.label(np.isin(masks[index], task.lesion_indices))[0]
        number = _under(once, case, true[index])
        if not number:
            continue
        own = true[index] == number
        if (index, number) not in met:
            met.add((index, number))
            into.true += 1
        image = case.images[index]
        cine = once.mask is None
        said = [x.record.long_axis_mm for x in (once, twice)]
        if image.spacing is not None and None not in said:
            size = widest(np.moveaxis(own, 0, 2) if cine else own, image.spacing)
            into.errors.append((abs((said[0] or 0) - size), abs((said[1] or 0) - size)))
        if once.mask is not None and twice.mask is not None:
            outlines = [native_mask(image, m) for m in (once.mask, twice.mask)]
            overlap = [2 * float((m & own).sum()) / float(m.sum() + own.sum()) for m in outlines]
            into.dice.append((overlap[0], overlap[1]))


def _under(found: FoundLesion, case: Case, labels: np.ndarray) -> int:
    """The number of the true lesion that most of a reported one lies on, 0 for none; of a cine in its
    frame."""
    place = found.record.place
    if found.mask is not None:
        here = labels[native_mask(case.images[place.image], found.mask)]
    elif place.frame is not None and place.box_voxels is not None:
        (x0, y0), (x1, y1) = place.box_voxels
        here = labels[place.frame, max(0, y0) : y1 + 1, max(0, x0) : x1 + 1].ravel()
    else:
        return 0
    votes = np.bincount(here, minlength=1)
    votes[0] = 0
    return int(votes.argmax())


def widest(mask: np.ndarray, spacing: tuple[float, ...]) -> float:
    """Long axis in mm of a mask (i, j, k) in the slice where it is largest; ``spacing`` (2 or 3) mm, of a
    cine (x, y) with the mask as (y, x, frame)."""
    k = int(mask.sum((0, 1)).argmax())
    step = spacing[:2] if len(spacing) == 3 else spacing[1::-1]
    return diameters(np.argwhere(mask[:, :, k]) * np.array(step), float(np.mean(step)))[0]
