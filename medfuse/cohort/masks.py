"""Masks that a segmenter left on disk as the label maps of a cohort: named structures become the classes of a
task, and each is told whole or cut."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..case import Image
from ..errors import UnreadableError, UserError, fault_of
from ..foreign import yaml_as_json
from ..inference.coverage import CUT_SHARE
from ..io.manifest import ManifestRow, read_manifest
from ..io.masks import read_structures
from ..io.names import plain_name, shown
from ..io.rows import named_images
from ..task import Task

View = Literal["whole", "cut", "absent"]
Called = int | str


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MaskLabels(_Strict):
    """The YAML that says what a segmenter calls each class of a task.

    segmenter, licence: who drew the masks. names: a JSON file beside this one that gives the numbers of a
    label map names (nnU-Net's dataset.json). classes: of the task's dense, each with what it is called:
    numbers of a label map, names of segments or structures, or of files in a folder without their ending;
    where two lie over each other the later one in this list holds.
    """

    segmenter: str
    licence: str = ""
    names: str = ""
    classes: dict[str, tuple[Called, ...]]

    @model_validator(mode="before")
    @classmethod
    def _one_or_many(cls, data: object) -> object:
        if isinstance(data, dict) and isinstance(data.get("classes"), dict):
            many = {k: v if isinstance(v, list | tuple) else [v] for k, v in data["classes"].items()}
            return {**data, "classes": many}
        return data


class MaskRecord(_Strict):
    """One image's label map.

    case_id, path: of the image. mask: what was read. label_map: what was written, beside masks.json. ml:
    volume of each class. view: whether each lies whole inside the image, is cut by its first or last slice,
    or is not there.
    """

    case_id: str
    path: str
    mask: str
    label_map: str
    ml: dict[str, float]
    view: dict[str, View]


class MaskFile(_Strict):
    """masks.json: what became of the masks of a manifest.

    segmenter, licence: who drew them. task: whose classes they became. images: one record each. refused:
    images whose mask could not be used, with the reason. nowhere: names of the labels that stand in no mask.
    """

    segmenter: str
    licence: str
    task: str
    images: list[MaskRecord] = Field(default_factory=list)
    refused: dict[str, str] = Field(default_factory=dict)
    nowhere: list[str] = Field(default_factory=list)


def read_labels(path: Path, task: Task) -> MaskLabels:
    """The YAML of `MaskLabels`. Raises UserError that names the file and the field, or a class that the task
    lacks."""
    if not task.dense:
        raise UserError(f"task {task.name}: has no label maps (dense), so masks teach it nothing")
    try:
        found = MaskLabels.model_validate(yaml_as_json(path.read_text(encoding="utf-8")))
    except (ValidationError, yaml.YAMLError, UnicodeDecodeError, OSError) as e:
        raise UserError(f"{path}: {fault_of(e)}; see Masks in docs/pretrained.md") from e
    strange = [c for c in found.classes if c not in task.dense[1:]]
    if strange:
        raise UserError(
            f"{path}: class {strange[0]} is not in dense of task {task.name}; there are "
            f"{', '.join(task.dense[1:])}"
        )
    return found


def _numbers(path: Path, labels: MaskLabels) -> dict[str, tuple[int, ...]]:
    """Numbers by name, of the file that ``names`` gives; nnU-Net writes name → number, and for a region that
    holds others name → numbers."""
    if not labels.names:
        return {}
    place = path.parent / Path(labels.names).name
    try:
        said = yaml_as_json(place.read_text(encoding="utf-8"))["labels"]  # JSON is YAML too
        pairs = [(str(a), b) for a, b in said.items()]
        if any(isinstance(b, int) for _, b in pairs):
            return {a: tuple(map(int, b if isinstance(b, list) else [b])) for a, b in pairs}
        return {str(b): (int(a),) for a, b in pairs}
    except (OSError, yaml.YAMLError, ValueError, KeyError, AttributeError, TypeError) as e:
        raise UserError(f"{place}: names no labels ({type(e).__name__}); give nnU-Net's dataset.json") from e


def _structures(path: Path, image: Image, numbers: dict[str, tuple[int, ...]]) -> dict[Called, np.ndarray]:
    """Every structure of a mask on the grid of its image, by number and by name."""
    found = read_structures(path, image)
    parts = {name: [found[n] for n in of if n in found] for name, of in numbers.items()}
    return found | {name: np.logical_or.reduce(of) for name, of in parts.items() if of}


def label_map(
    task: Task, labels: MaskLabels, structures: dict[Called, np.ndarray], image: Image
) -> tuple[np.ndarray, set[Called]]:
    """(I, J, K) numbers of the task's classes, and which names were there."""
    out = np.zeros(image.pixels.shape[:3], np.uint8)
    used: set[Called] = set()
    for name, called in labels.classes.items():
        for one in called:
            if one in structures:
                out[structures[one]] = task.dense.index(name)
                used.add(one)
    return out, used


def view_of(mask: np.ndarray, affine: np.ndarray) -> View:
    """Whether a structure (I, J, K) lies whole inside its image, by the slices at head and feet."""
    if not mask.any():
        return "absent"
    along = int(np.abs(affine[2, :3] / np.linalg.norm(affine[:3, :3], axis=0)).argmax())
    area = np.moveaxis(mask, along, 0).reshape(mask.shape[along], -1).sum(1)
    return "cut" if max(area[0], area[-1]) > CUT_SHARE * area.max() else "whole"


@dataclass(frozen=True, kw_only=True)
class _Row:
    """What became of the masks of one case: its line of the new manifest, records, refusals by image, and
    which names were there."""

    line: str
    records: list[MaskRecord]
    refused: dict[str, str]
    used: set[Called]


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """What masks are turned into: classes of a task, by a YAML, below a folder."""

    task: Task
    labels: MaskLabels
    numbers: dict[str, tuple[int, ...]]
    out: Path

    def row(self, row: ManifestRow) -> _Row:
        """The label maps of one case, written."""
        read = named_images(row)
        records: list[MaskRecord] = []
        refused = {f"{row.case_id} {r.path}": r.reason for r in read.refused}
        used: set[Called] = set()
        maps: dict[int, str] = {}
        for number, image in read.images:
            entry = row.images[number]
            if not entry.mask:
                continue
            try:
                made, there = self._one(row, image, Path(row.root) / entry.mask, number)
            except UnreadableError as e:
                refused[f"{row.case_id} {entry.path}"] = str(e)
                continue
            maps[number] = made.label_map
            records.append(made)
            used |= there
        images = [
            i.model_dump(exclude_defaults=True)
            | {"path": str((Path(row.root) / i.path).resolve()), "mask": maps.get(n, "")}
            for n, i in enumerate(row.images)
        ]
        line = json.dumps(row.model_dump(mode="json", exclude_defaults=True) | {"images": images})
        return _Row(line=line, records=records, refused=refused, used=used)

    def _one(self, row: ManifestRow, image: Image, path: Path, number: int) -> tuple[MaskRecord, set[Called]]:
        if image.affine is None or image.kind == "cine":
            raise UnreadableError(path, "its image has no place in space, so no mask can be placed on it")
        drawn, used = label_map(self.task, self.labels, _structures(path, image, self.numbers), image)
        if not used:
            raise UnreadableError(path, "holds none of the structures that the labels name")
        name = f"masks/{plain_name(row.case_id)}_{number}.nii.gz"
        nib.save(nib.Nifti1Image(drawn, image.affine), self.out / name)
        voxel = float(abs(np.linalg.det(image.affine[:3, :3]))) / 1000
        classes = {c: drawn == self.task.dense.index(c) for c in self.labels.classes}
        record = MaskRecord(
            case_id=row.case_id,
            path=shown(image.source.path),
            mask=shown(str(path)),
            label_map=name,
            ml={c: round(float(m.sum()) * voxel, 2) for c, m in classes.items()},
            view={c: view_of(m, image.affine) for c, m in classes.items()},
        )
        return record, used


def build_masks(
    manifest: Path,
    task: Task,
    labels_path: Path,
    out: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> MaskFile:
    """Write OUT/manifest.jsonl, whose images name label maps of the task in OUT/masks, and OUT/masks.json.

    The given manifest names a mask for each image: a label map, a DICOM SEG, an RTSTRUCT, or a folder with a
    file a structure. Raises UserError where nothing could be used, or a name stands in no mask at all.
    """
    labels = read_labels(labels_path, task)
    wanted = _Wanted(task=task, labels=labels, numbers=_numbers(labels_path, labels), out=out)
    rows = read_manifest(manifest)
    (out / "masks").mkdir(parents=True, exist_ok=True)
    made: list[_Row] = []
    for row in rows:
        made.append(wanted.row(row))
        progress(len(made), len(rows))
    refused = {image: why for m in made for image, why in m.refused.items()}
    records = [r for m in made for r in m.records]
    if not records:
        first = next(iter(refused.values()), "no image names a mask")
        raise UserError(f"{manifest}: no mask could be used; first: {first}")
    used = {one for m in made for one in m.used}
    found = MaskFile(
        segmenter=labels.segmenter,
        licence=labels.licence,
        task=task.name,
        images=records,
        refused=refused,
        nowhere=[str(one) for many in labels.classes.values() for one in many if one not in used],
    )
    (out / "manifest.jsonl").write_text("\n".join(m.line for m in made) + "\n", encoding="utf-8")
    (out / "masks.json").write_text(found.model_dump_json(indent=1), encoding="utf-8")
    return found
