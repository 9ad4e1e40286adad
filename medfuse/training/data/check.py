"""What `medfuse train --check` looks at before any training: files, labels, leaks between splits, geometry,
class counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image as Picture

from ...io.manifest import ManifestImage, ManifestRow
from ...io.picture import SUFFIXES
from ...io.volume_files import ITK_SUFFIXES, is_volume_file
from ...modalities import MODALITIES, is_cine
from ...models.feature_set import label_matrix
from ...models.senses import SENSES
from ...task import Task
from .words import (
    ids_alike,
    misread,
    names_its_patient,
    not_read,
    one_sided,
    shared_images,
    unknown_to,
    unplaced_roles,
    word_faults,
)


def file_problem(root: Path, image: ManifestImage) -> str:
    """What is wrong with a file by its header alone, "" where nothing is; DICOM folders are looked into when
    they are read."""
    path = root / image.path
    if not path.exists():
        return "does not exist"
    if image.mask and not (root / image.mask).exists():
        return f"has the mask {image.mask}, which does not exist"
    try:
        if is_volume_file(path):
            return _volume_problem(path, image, root / image.mask if image.mask else None)
        if path.suffix.lower() in SUFFIXES:
            with Picture.open(path) as picture:
                picture.verify()
    except (OSError, ValueError, SyntaxError, nib.filebasedimages.ImageFileError) as e:
        return f"cannot be read ({str(e).splitlines()[0][:80]})"
    return ""


def _volume_problem(path: Path, image: ManifestImage, mask: Path | None) -> str:
    """Geometry: three axes, an affine for CT and MR, and a label map on the same grid."""
    if path.name.lower().endswith(ITK_SUFFIXES):
        return ""  # looked into when it is read
    loaded: Any = nib.load(path)
    is_volume = image.modality in MODALITIES and not is_cine(image.modality)
    problem = _place_problem(loaded, image) if is_volume else ""
    if problem or mask is None:
        return problem
    return _mask_problem(loaded, image, mask)


def _place_problem(loaded: Any, image: ManifestImage) -> str:
    """Three axes, or a named one of a 4D file, and one affine."""
    if (len(_axes(loaded.shape)) != 3) != (image.volume is not None):
        return f'has shape {loaded.shape}: "volume" names one of a 4D file, and of no other'
    if int(loaded.header["sform_code"]) == 0 and int(loaded.header["qform_code"]) == 0:
        return "has no orientation (sform and qform are both unset)"
    if (apart := _forms_apart(loaded.header)) > SAME_FORM_MM:
        return (
            f"has a sform and a qform that place its corners {apart:.1f} mm apart; keep the right one "
            "and unset the other"
        )
    size = np.linalg.norm(loaded.affine[:3, :3], axis=0)
    if size.min() < LEAST_VOXEL_MM or size.max() > MOST_VOXEL_MM:
        return f"has voxels of {' × '.join(f'{s:.3g}' for s in size)} mm; correct its affine, which is in mm"
    return ""


LEAST_VOXEL_MM = 0.02
MOST_VOXEL_MM = 60.0


def _mask_problem(loaded: Any, image: ManifestImage, mask: Path) -> str:
    """A label map on the same grid."""
    if not is_volume_file(mask) or mask.name.lower().endswith(ITK_SUFFIXES):
        return ""  # looked into when it is read
    try:
        labels: Any = nib.load(mask)
    except (OSError, ValueError, EOFError, nib.filebasedimages.ImageFileError):
        return f"has the mask {image.mask}, which is no readable NIfTI file; copy it again"
    axes = _axes(loaded.shape)
    same = _axes(labels.shape) == (axes if image.volume is None else axes[:3])
    on_one_grid = same and np.allclose(labels.affine, loaded.affine, atol=1e-3)
    return "" if on_one_grid else f"and its mask {image.mask} lie on different grids"


SAME_FORM_MM = 1.0


def _forms_apart(header: Any) -> float:
    """How far apart, in mm, the two affines of a NIfTI put a corner; 0 where one is unset."""
    if int(header["sform_code"]) == 0 or int(header["qform_code"]) == 0:
        return 0.0
    size = np.array([*(n - 1 for n in _axes(header.get_data_shape())[:3]), 1.0])
    corners = np.array(np.meshgrid([0, 1], [0, 1], [0, 1])).reshape(3, -1).T * size[:3]
    ends = np.c_[corners, np.ones(8)]
    gap = (ends @ header.get_sform().T - ends @ header.get_qform().T)[:, :3]
    return float(np.linalg.norm(gap, axis=1).max())


def _axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of a NIfTI but those of size 1 behind the three of space."""
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    return (*shape, *(1,) * (3 - len(shape)))


@dataclass(frozen=True, kw_only=True)
class ManifestCheck:
    """What `--check` prints: cases in all and by split, how often each finding is absent, present and
    unknown, the problems that would spoil a training, and notes on what it cannot learn or show."""

    cases: int
    splits: dict[str, int]
    counts_0_1_unknown: dict[str, list[int]]
    problems: list[str]
    notes: list[str] = field(default_factory=list)


def check_manifest(task: Task, rows: list[ManifestRow], *, thorough: bool = False) -> ManifestCheck:
    """With ``thorough`` also what a training would pass over without a word.

    Count a manifest's cases and labels, and name every problem."""
    splits = dict(Counter(row.split or "(none)" for row in rows))
    problems = [f"the task's further sense {s} is not one" for s in task.further if s not in SENSES]
    problems += _in_several_splits(rows)
    problems += [f"no case has split {needed}" for needed in ("train", "val") if needed not in splits]
    problems += misread(task, rows) if thorough else ()
    for row in rows:
        problems += _row_problems(task, row, thorough=thorough)
    problems += shared_images(rows) if thorough else ()
    labels = label_matrix(task, rows)
    counts = {f.id: [int((labels[:, i] == v).sum()) for v in (0, 1, -1)] for i, f in enumerate(task.findings)}
    notes = _notes(task, rows, labels) if thorough else []
    return ManifestCheck(
        cases=len(rows), splits=splits, counts_0_1_unknown=counts, problems=problems, notes=notes
    )


def _notes(task: Task, rows: list[ManifestRow], labels: np.ndarray) -> list[str]:
    """What a training would pass over, or could not learn or show."""
    notes = [*not_read(task, rows), *ids_alike(rows), *unplaced_roles(task, rows)]
    nobody = [row for row in rows if not row.patient_id]
    if nobody and len(nobody) < len(rows):
        notes.append(
            f"{nobody[0].at}: has no patient_id, as {len(nobody)} of {len(rows)} cases; each counts as a "
            "patient of its own"
        )
    splits = [row.split for row in rows]
    return notes + one_sided(task, labels, splits) if {"train", "val"} <= set(splits) else notes


def _in_several_splits(rows: list[ManifestRow]) -> list[str]:
    """Patients and groups that stand in several splits; ids that differ in case or blanks alone are one
    patient."""
    out = []
    for what, key in (("patient", lambda r: r.patient_id or r.case_id), ("group", lambda r: r.group)):
        splits: dict[str, dict[str, ManifestRow]] = {}
        for row in rows:
            if key(row):
                splits.setdefault(key(row).strip().casefold(), {}).setdefault(row.split, row)
        for first in splits.values():
            if len(first) > 1:
                ats = " and ".join(f"{row.split or 'none'} ({row.at})" for row in first.values())
                name = key(next(iter(first.values())))
                out.append(f"{what} {name} stands in more than one split: {ats}; keep it in one")
    return out


def _row_problems(task: Task, row: ManifestRow, *, thorough: bool) -> Iterator[str]:
    """What is wrong with one case: its words, its files, its modalities, its labels."""
    if thorough:
        yield from (f"{row.at}: {fault}" for fault in word_faults(task, row))
    else:
        yield from (f"{row.at}: {fault}" for fault in unknown_to(task, row))
    if named := names_its_patient(row):
        yield f"{row.at}: {named}"
    for image in row.images:
        problem = file_problem(Path(row.root), image)
        if problem:
            yield f"{row.at}: {image.path} {problem}"
