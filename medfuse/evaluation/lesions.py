"""How well lesions are found and measured, modality by modality, on the grid the network works on.

A candidate is a connected component of the lesion probability, its score that of its surest voxel; a cine
counts as one volume whose third axis is time. A true lesion is found when a candidate overlaps it. One that
covers half of the image overlaps everything, so it is also counted which outlines are met: a candidate then
stands for the one lesion it fits best, at an intersection over union of a tenth or more, the usual bound for
volumes (nnDetection, Baumgartner 2021, 2106.00817).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from ..inference.lesions import diameters
from ..models.features import DenseOutput
from ..models.regions import lesion_components
from ..preprocess.tensors import CineInput
from ..task import Task
from .results import LesionRow

FALSE_POSITIVES = 1.0  # a case, at which sensitivity is read
MET = 2 * 0.1 / 1.1  # Dice of a candidate and the lesion it stands for, where they share a tenth of both


@dataclass
class LesionScores:
    """What one modality's candidates were worth, over many cases."""

    cases: int = 0
    true_lesions: int = 0
    hits: list[tuple[int, float]] = field(default_factory=list)  # (number of the true lesion, score)
    false: list[float] = field(default_factory=list)  # scores of candidates that overlap none
    met: list[tuple[int, float]] = field(default_factory=list)  # as hits, of outlines that are met
    not_met: list[float] = field(default_factory=list)  # scores of candidates that meet no outline
    dice: list[float] = field(default_factory=list)  # of each found lesion and its best candidate
    diameter_error: list[float] = field(default_factory=list)  # mm, of each found lesion
    measured: list[float] = field(default_factory=list)  # score of the candidate that was measured

    def summary(self) -> LesionRow:
        """sensitivity_at_1fp with its threshold, dice and diameter_error_mm (median) of the lesions found
        there."""
        if not self.true_lesions:
            return LesionRow(
                sensitivity_at_1fp=None, dice=None, diameter_error_mm=None, true_lesions=0, cases=self.cases
            )
        threshold = self._threshold(self.false)
        found = {number for number, score in self.hits if score > threshold}
        strict = self._threshold(self.not_met)
        outlined = {number for number, score in self.met if score > strict}
        kept = [i for i, score in enumerate(self.measured) if score > threshold]
        error = float(np.median([self.diameter_error[i] for i in kept])) if kept else None
        return LesionRow(
            sensitivity_at_1fp=round(len(found) / self.true_lesions, 4),
            threshold=round(threshold, 4),
            outlined_at_1fp=round(len(outlined) / self.true_lesions, 4),
            dice=round(float(np.mean([self.dice[i] for i in kept])), 4) if kept else None,
            diameter_error_mm=None if error is None else round(error, 2),
            true_lesions=self.true_lesions,
            cases=self.cases,
        )

    def _threshold(self, false: list[float]) -> float:
        """The score above which there are FALSE_POSITIVES a case."""
        allowed = int(FALSE_POSITIVES * self.cases)
        ranked = sorted(false, reverse=True)
        return ranked[allowed] if len(ranked) > allowed else 0.0


def score_case(scores: dict[str, LesionScores], dense: list[DenseOutput], task: Task) -> None:
    """Add the dense outputs of one case, whose sources carry the true label maps."""
    clips: dict[int, list[DenseOutput]] = {}
    volumes: list[tuple[str, np.ndarray, np.ndarray, np.ndarray]] = []
    for output in dense:
        if output.source.dense is None:
            continue
        if isinstance(output.source, CineInput):
            clips.setdefault(id(output.source), []).append(output)
        else:
            step = np.linalg.norm(output.source.affine[:3, :3], axis=0)
            volumes.append((output.modality, output.lesion_probability, output.source.dense, step))
    for frames in clips.values():
        frames.sort(key=lambda o: o.frame)
        source = frames[0].source
        assert isinstance(source, CineInput)
        mm = source.mm_per_pixel or np.nan
        truth = np.stack([source.dense[f.frame] for f in frames], -1)  # type: ignore[index]
        probability = np.stack([f.lesion_probability for f in frames], -1)
        volumes.append((frames[0].modality, probability, truth, np.array([mm, mm, 1.0])))
    for modality in {v[0] for v in volumes}:
        scores.setdefault(modality, LesionScores()).cases += 1
    for modality, probability, truth, step in volumes:
        _score(scores[modality], probability, np.isin(truth, task.lesion_indices), step)


def _score(into: LesionScores, probability: np.ndarray, truth: np.ndarray, step: np.ndarray) -> None:
    labels, n = ndimage.label(truth)
    first = into.true_lesions
    into.true_lesions += n
    best: dict[int, tuple[float, float, float]] = {}
    for mask, box in lesion_components(probability):
        score = float(probability[box][mask].max())
        under = np.unique(labels[box][mask])
        under = under[under > 0]
        if not len(under):
            into.false.append(score)
        fits = [_fit(labels == k, mask, box) for k in under]
        if max(fits, default=0.0) >= MET:
            into.met.append((first + int(under[int(np.argmax(fits))]), score))
        else:
            into.not_met.append(score)
        for k in under:
            into.hits.append((first + int(k), score))
            own = labels == k
            confident = mask & (probability[box] > 0.5)
            overlap = _fit(own, confident, box)
            error = abs(_widest(confident, step) - _widest(own, step))
            if int(k) not in best or overlap > best[int(k)][0]:
                best[int(k)] = (overlap, error, score)
    for overlap, error, score in best.values():
        if np.isfinite(error):
            into.dice.append(overlap)
            into.diameter_error.append(error)
            into.measured.append(score)


def _fit(own: np.ndarray, mask: np.ndarray, box: tuple[slice, ...]) -> float:
    """Dice of a true lesion on the whole grid and a candidate in its box."""
    return 2 * int((own[box] & mask).sum()) / max(1, int(own.sum()) + int(mask.sum()))


def _widest(mask: np.ndarray, step: np.ndarray) -> float:
    """Longest in-plane diameter in mm in the slice (or frame) where the lesion is largest; NaN without
    calibration."""
    if not np.isfinite(step).all():
        return float("nan")
    if not mask.any():
        return 0.0
    k = int(mask.sum((0, 1)).argmax())
    points = np.argwhere(mask[:, :, k]) * step[:2]
    return diameters(points, float(step[0]))[0]
