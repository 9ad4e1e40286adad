"""Where each finding shows in the images."""

from __future__ import annotations

import numpy as np

from ..case import Case
from ..modalities import is_cine
from ..models.features import DenseOutput
from ..prediction import FindingRecord, LesionRecord, Place
from ..preprocess.tensors import VolumeInput
from ..task import Task
from .lesions import place_of
from .support import SUPPORTED

VISIBLE = 0.05  # of a frame's pixels


def agree(lesions: list[LesionRecord], findings: list[FindingRecord], task: Task) -> list[LesionRecord]:
    """A lesion keeps its name only where the findings of the whole case support it; else it is named more
    widely."""
    supported = {f.id for f in findings if (f.probability or 0.0) >= SUPPORTED}

    def name(lesion: LesionRecord) -> str:
        names = [lesion.finding, *(f.id for f in task.wider(lesion.finding))]
        return next((n for n in names if n in supported), names[-1])

    return [x.model_copy(update={"finding": name(x)}) for x in lesions]


def organ_in_view(dense: list[DenseOutput], task: Task) -> dict[str, float]:
    """By cine modality: share of its frames in which the organ fills at least VISIBLE of the frame."""
    if not task.dense:
        return {}
    organ = task.organ_index
    shown: dict[str, list[bool]] = {}
    for d in dense:
        if is_cine(d.modality):
            shown.setdefault(d.modality, []).append(float((d.label == organ).mean()) >= VISIBLE)
    return {m: round(float(np.mean(of)), 3) for m, of in shown.items()}


def with_evidence(
    findings: list[FindingRecord],
    lesions: list[LesionRecord],
    case: Case,
    task: Task,
    dense: list[DenseOutput],
) -> list[FindingRecord]:
    """Where each finding shows: its lesions, else the region of the dense prediction that the task names for
    it."""
    return [f.model_copy(update={"evidence": _places(f, lesions, case, task, dense)}) for f in findings]


def _places(
    record: FindingRecord, lesions: list[LesionRecord], case: Case, task: Task, dense: list[DenseOutput]
) -> list[Place]:
    finding = task.finding(record.id)
    if record.probability is None or record.probability < SUPPORTED:
        return []
    if finding.group == "focal":
        parts = {finding.id, *finding.derived_from}
        any_lesion = finding == task.general_lesion
        return [x.place for x in lesions if any_lesion or x.finding in parts]
    shown = task.dense.index(task.shows_in(finding.id)) if dense else 0
    places = (_region_place(d, case, shown) for d in dense)
    return [p for p in places if p is not None][:3]


def _region_place(output: DenseOutput, case: Case, dense_class: int) -> Place | None:
    source = output.source
    if not isinstance(source, VolumeInput):
        return None
    at = np.argwhere(output.label == dense_class)
    if len(at) < 3:
        return None
    mm = at @ source.affine[:3, :3].T + source.affine[:3, 3]
    return place_of(case, next(i for i in source.images if i >= 0), mm, source.frame_of_reference)
