"""What `medfuse train --check` looks at before any training: files, labels, leaks between splits, geometry, class counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image as Picture

from ..evaluation.feature_set import label_matrix
from ..io.manifest import ManifestImage, ManifestRow
from ..io.nifti import is_volume_file
from ..io.picture import SUFFIXES
from ..task import Task


def file_problem(root: Path, image: ManifestImage) -> str:
    """What is wrong with a file by its header alone, "" where nothing is; DICOM folders are looked into when they are read."""
    path = root / image.path
    if not path.exists():
        return "does not exist"
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
    if path.name.lower().endswith(".mha"):
        return ""  # looked into when it is read
    loaded: Any = nib.load(path)
    shape = tuple(n for n in loaded.shape if n > 1)
    if image.modality in ("CT", "MR"):
        if len(shape) != 3:
            return f"has shape {loaded.shape}, not a volume"
        if int(loaded.header["sform_code"]) == 0 and int(loaded.header["qform_code"]) == 0:
            return "has no orientation (sform and qform are both unset)"
    if mask is None:
        return ""
    if not mask.exists():
        return f"has the mask {image.mask}, which does not exist"
    labels: Any = nib.load(mask)
    if tuple(n for n in labels.shape if n > 1) != shape or not np.allclose(labels.affine, loaded.affine, atol=1e-3):
        return f"and its mask {image.mask} lie on different grids"
    return ""


def check_manifest(task: Task, rows: list[ManifestRow]) -> dict:
    """What `--check` prints: counts and the problems that would spoil a training."""
    problems = []
    splits: dict[str, int] = {}
    patients: dict[str, set[str]] = {}
    for row in rows:
        splits[row.split or "(none)"] = splits.get(row.split or "(none)", 0) + 1
        patients.setdefault(row.patient_id or row.case_id, set()).add(row.split)
        for image in row.images:
            problem = file_problem(Path(row.root), image)
            if problem:
                problems.append(f"case {row.case_id}: {image.path} {problem}")
            if image.modality and image.modality not in task.modalities:
                problems.append(f"case {row.case_id}: modality {image.modality} is not in the task")
        unknown = set(row.labels) - {f.id for f in task.findings}
        if unknown:
            problems.append(f"case {row.case_id}: label(s) {', '.join(sorted(unknown))} are not findings of the task")
    leaks = [p for p, s in patients.items() if len(s) > 1]
    problems += [f"patient {p} stands in more than one split" for p in leaks]
    for needed in ("train", "val"):
        if needed not in splits:
            problems.append(f"no case has split {needed}")
    labels = label_matrix(task, rows)
    counts = {f.id: [int((labels[:, i] == v).sum()) for v in (0, 1, -1)] for i, f in enumerate(task.findings)}
    return {"cases": len(rows), "splits": splits, "counts_0_1_unknown": counts, "problems": problems}
