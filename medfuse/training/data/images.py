"""What reading every image once shows: wrong kinds, damage, empty values, label maps that do not fit, twins
across splits, images of one frame that do not lie together."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np

from ...affine import Affine
from ...case import Image
from ...errors import UnreadableError
from ...io.headers import read_header
from ...io.manifest import ManifestImage, ManifestRow
from ...io.masks import read_mask
from ...io.rows import read_entry
from ...io.sound import read_sound
from ...io.volume_files import is_volume_file, load
from ...modalities import MODALITIES, is_cine
from ...task import Task

SAME_PLACE_MM = 0.5


@dataclass(frozen=True, kw_only=True)
class ImagesCheck:
    """What reading the images showed, one sentence each in the manifest's order: problems that would spoil a
    training, and notes on what may be meant so."""

    problems: list[str]
    notes: list[str]


def check_images(
    task: Task, rows: list[ManifestRow], progress: Callable[[int, int], None] = lambda done, total: None
) -> ImagesCheck:
    """Read each image of a manifest once. Takes as long as the preprocessing of a training."""
    look = _Look(task)
    problems: list[str] = []
    for n, row in enumerate(rows, 1):
        problems += look.row(row)
        progress(n, len(rows))
    return ImagesCheck(problems=problems, notes=[*look.notes, *_one_person(look.people, len(rows))])


@dataclass(frozen=True)
class _Placed:
    """An image with a place in space, as an entry of a manifest names it."""

    image: Image
    entry: ManifestImage

    @property
    def frame(self) -> str:
        """The frame of reference that it lies in, the manifest's before the header's; "" for none."""
        return self.entry.frame_of_reference or self.image.frame_of_reference


@dataclass
class _Look:
    task: Task
    seen: dict[str, tuple[ManifestRow, str]] = field(default_factory=dict)  # by digest of pixels
    studies: dict[str, ManifestRow] = field(default_factory=dict)  # by StudyInstanceUID
    people: dict[str, list[ManifestRow]] = field(default_factory=dict)  # by PatientID of a DICOM header
    notes: list[str] = field(default_factory=list)

    def row(self, row: ManifestRow) -> Iterator[str]:
        placed: list[_Placed] = []
        outlined: set[int] = set()
        for entry in row.images:
            path = Path(row.root) / entry.path
            if entry.modality not in MODALITIES or not entry.path or not path.exists():
                continue  # named before
            try:
                images, refused = read_entry(path, entry)
            except UnreadableError as e:
                yield f"{row.at}: {entry.path} cannot be used as {entry.modality}: {e.reason}"
                continue
            faults = [
                *_empty_files(path),
                *(r.reason for r in refused),
                *self._entry(row, entry, images, outlined),
            ]
            for fault in dict.fromkeys(faults):
                yield f"{row.at}: {entry.path}: {fault}"
            placed += [_Placed(image, entry) for image in images if image.affine is not None]
        yield from _apart(row, placed)
        yield from _lesions_beyond(row, placed)
        yield from _damaged_sounds(row)
        if outlined and all(entry.mask for entry in row.images):
            self.notes += [f"{row.at}: {said}" for said in _labels_apart(self.task, row, outlined)]

    def _entry(
        self, row: ManifestRow, entry: ManifestImage, images: list[Image], outlined: set[int]
    ) -> Iterator[str]:
        series = {i.source.series_uid for i in images} - {""}
        if len(series) > 1:
            yield f"holds {len(series)} series; give each series a folder and an entry of its own"
        for image in images:
            if image.modality != entry.modality:
                yield f"is {image.modality} by its header, {entry.modality} in the manifest; mend one"
            yield from _value_faults(image, entry.modality)
            if image.geometry.outcome == "irregular":
                measured = image.geometry.measured
                yield f"its slices do not lie evenly ({measured}); a slice may be missing: send it again"
            if image.affine is not None and image.pixels.shape[2] == 1:
                self.notes.append(
                    f"{row.at}: {entry.path}: is one slice, no volume; name the folder of its series"
                )
            self.notes += [f"{row.at}: {entry.path}: {said}" for said in _value_notes(image)]
            self._person(row, image)
            yield from self._study(row, image)
            yield from self._twin(row, entry, image)
            if entry.mask:
                yield from self._mask(row, entry, image, outlined)
            elif self.task.dense and image.kind == "cine" and row.split == "train":
                yield "is a cine without a label map, and the task learns classes from them; give its mask"

    def _study(self, row: ManifestRow, image: Image) -> Iterator[str]:
        """One study is of one patient."""
        uid = image.source.study_uid
        other = self.studies.setdefault(uid, row) if uid else row
        if (other.patient_id or other.case_id) != (row.patient_id or row.case_id):
            yield f"is of the study of case {other.case_id}, another patient; give both one patient_id"

    def _person(self, row: ManifestRow, image: Image) -> None:
        """Note whose the header of a DICOM image says that it is."""
        if image.source.series_uid and image.source.files:
            said = read_header(Path(image.source.files[0])).tags.get("PatientID", "").strip()
            if said:
                self.people.setdefault(said, []).append(row)

    def _twin(self, row: ManifestRow, entry: ManifestImage, image: Image) -> Iterator[str]:
        digest = _digest(image.pixels)
        other, path = self.seen.setdefault(digest, (row, entry.path))
        if other is row and path != entry.path:
            yield f"has the same pixels as {path} of the same case; name each image once"
        elif other is not row:
            where = f" in {other.split}, this one in {row.split}" if other.split != row.split else ""
            yield f"has the same pixels as {path} of case {other.case_id}{where}; keep them in one split"

    def _mask(
        self, row: ManifestRow, entry: ManifestImage, image: Image, outlined: set[int]
    ) -> Iterator[str]:
        path = Path(row.root) / entry.mask
        if not path.exists():
            return  # named before
        try:
            mask = read_mask(path, image)
        except UnreadableError as e:
            yield f"its mask {entry.mask}: {e.reason}"
            return
        classes = {int(c) for c in np.unique(mask)}
        outlined |= classes
        beyond = sorted(c for c in classes if c >= len(self.task.dense))
        if beyond:
            yield (
                f"its mask {entry.mask} holds the class(es) {', '.join(map(str, beyond[:5]))}, and dense "
                f"of the task has {len(self.task.dense)} (0 to {len(self.task.dense) - 1}); map them "
                "onto those"
            )
        if image.source.series_uid and is_volume_file(path) and image.affine is not None:
            stored = load(path)
            theirs = None if stored.affine is None else _corners(stored.affine, stored.data.shape[:3])
            if theirs is None or not _same_corners(_corners(image.affine, image.pixels.shape), theirs):
                yield f"and its mask {entry.mask} lie on different grids; resample the mask onto the image"


def _one_person(people: dict[str, list[ManifestRow]], cases: int) -> list[str]:
    """PatientIDs of headers that the manifest gives to several patients, one sentence each; an id of more
    than half the cases is no person's, as de-identified archives have it."""
    out = []
    for rows in people.values():
        patients = {row.patient_id or row.case_id: row for row in rows}
        if len(patients) > 1 and len({row.case_id for row in rows}) <= cases / 2:
            first, *others = patients.values()
            leak = ", in several splits" if len({row.split for row in rows}) > 1 else ""
            out.append(
                f"{others[0].at}: its DICOM header has the PatientID of case {first.case_id}, another "
                f"patient of the manifest{leak}; if they are one person, give both one patient_id"
            )
    return out


def _lesions_beyond(row: ManifestRow, placed: list[_Placed]) -> Iterator[str]:
    """Lesions whose centre lies in no image of its modality."""
    for lesion in row.lesions:
        for modality, centre in lesion.centre_mm.items():
            images = [p.image for p in placed if p.image.modality == modality]
            boxes = [
                _corners(image.affine, image.pixels.shape) for image in images if image.affine is not None
            ]
            if boxes and not any(((b.min(0) - 5 <= centre) & (centre <= b.max(0) + 5)).all() for b in boxes):
                where = ", ".join(f"{x:g}" for x in centre)
                yield (
                    f"{row.at}: a lesion's centre ({where}) lies in no {modality} of the case; write it in "
                    "RAS+ mm of its frame"
                )


def _damaged_sounds(row: ManifestRow) -> Iterator[str]:
    for name in row.sounds:
        if (Path(row.root) / name).is_file():
            try:
                read_sound(Path(row.root) / name)
            except UnreadableError as e:
                yield f"{row.at}: the sound {name}: {e.reason}"


def _empty_files(path: Path) -> list[str]:
    """What a folder whose first or last slice came without a byte says: nothing else shows that it lacks."""
    empty = [p.name for p in path.iterdir() if p.is_file() and not p.stat().st_size] if path.is_dir() else []
    if not empty:
        return []
    return [f"holds {len(empty)} empty file(s), such as {min(empty)}; a slice may be missing: send it again"]


def _apart(row: ManifestRow, placed: list[_Placed]) -> Iterator[str]:
    """Images of one frame of reference that do not lie together."""
    for a, b in combinations(placed, 2):
        if a.frame and a.frame == b.frame and not _meet(a.image, b.image):
            yield (
                f"{row.at}: {a.entry.path} and {b.entry.path} have one frame of reference and do not "
                "meet in space; give each its own"
            )


def _digest(pixels: np.ndarray) -> str:
    """Of an image's size and values, whatever their order and type, so that one that was mirrored, turned or
    written in another format is the same: sums of powers of the bits of its values as float32."""
    sums = np.zeros(4, np.uint64)
    for plane in pixels:
        bits = (np.asarray(plane, np.float32) + np.float32(0)).reshape(-1).view(np.uint32).astype(np.uint64)
        power = np.ones_like(bits)
        for n in range(4):
            power = power * bits
            sums[n : n + 1] += power.sum(dtype=np.uint64)
    return hashlib.sha256(f"{sorted(pixels.shape)}{sums.tolist()}".encode()).hexdigest()


def _labels_apart(task: Task, row: ManifestRow, outlined: set[int]) -> Iterator[str]:
    """Labels that the label maps of a case contradict. outlined: the classes that any of them holds."""
    for name in dict.fromkeys(f.lesion_class for f in task.findings if f.lesion_class in task.dense):
        said = {f.id: row.labels.get(f.id) for f in task.findings if f.lesion_class == name}
        there = task.dense.index(name) in outlined
        present = [f for f, value in said.items() if value == 1]
        if present and not there:
            yield f"{present[0]} is labelled present, and no label map holds its class {name}; mend one"
        elif there and all(value == 0 for value in said.values()):
            yield f"{next(iter(said))} is labelled absent, and a label map holds its class {name}; mend one"


def _value_faults(image: Image, modality: str) -> Iterator[str]:
    values = image.pixels
    if not np.isfinite(values).all():
        yield "holds NaN or infinite values; clean it before use"
        return
    low, high = float(values.min()), float(values.max())
    if low == high:
        yield f"holds the value {low:g} alone; export it again"
        return
    if not is_cine(modality) and not image.source.series_uid:
        yield from _scale_faults(values, modality)


def _scale_faults(values: np.ndarray, modality: str) -> Iterator[str]:
    """Values of a volume without a header of DICOM that are not those of its modality."""
    low, high = float(values.min()), float(values.max())
    if _like_labels(values):
        yield (
            f"holds {len(np.unique(values))} whole numbers alone, from {low:g} to {high:g}, like a label "
            "map; name the image, and the label map as its mask"
        )
    elif modality == "CT" and high - low < LEAST_HU_SPAN:
        yield (
            f"goes from {low:.4g} to {high:.4g} alone, so its values are no HU; name the image before it was "
            "normalised"
        )
    elif modality == "CT" and low >= 0:
        yield "never goes below 0, so its values are no HU; apply slope and intercept, or mend the modality"
    elif modality == "MR" and float((values < -500).mean()) > 0.01:
        yield f"goes down to {low:g} like HU of CT, and the manifest says MR; correct the modality"


LEAST_HU_SPAN = 50.0
MOST_CLASSES = 12


def _like_labels(values: np.ndarray) -> bool:
    """Whether an image holds a few small whole numbers from 0 on, as classes are."""
    some = values.reshape(-1)[:: max(1, values.size // 100_000)]
    low, high = float(some.min()), float(values.max())
    if low != 0 or high > 255 or len(np.unique(some)) > MOST_CLASSES:
        return False
    seen = np.unique(values)
    return len(seen) <= MOST_CLASSES and bool((seen == np.round(seen)).all()) and float(values.min()) == 0


def _value_notes(image: Image) -> Iterator[str]:
    """What may be meant so: DICOM CT without a voxel of air."""
    if image.modality == "CT" and image.source.series_uid and float(image.pixels.min()) >= 0:
        yield "never goes below 0, as HU of a body in air do; its rescale intercept may be lost"


def _corners(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(8, 3) RAS+ mm of the outermost voxels."""
    unit = np.array([[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)])
    return Affine(affine).points(unit * (np.array(shape[:3]) - 1))


def _meet(a: Image, b: Image) -> bool:
    """Whether the boxes around two images overlap."""
    assert a.affine is not None
    assert b.affine is not None
    one, two = _corners(a.affine, a.pixels.shape), _corners(b.affine, b.pixels.shape)
    return bool(((one.min(0) <= two.max(0)) & (two.min(0) <= one.max(0))).all())


def _same_corners(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether each corner of one box is a corner of the other, whatever the order of axes."""
    apart = np.linalg.norm(a[:, None] - b[None], axis=-1)
    return bool((apart.min(1) < SAME_PLACE_MM).all() and (apart.min(0) < SAME_PLACE_MM).all())
