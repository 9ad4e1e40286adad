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
from ...io.manifest import ManifestImage, ManifestRow
from ...io.masks import read_mask
from ...io.rows import read_entry
from ...io.volume_files import is_volume_file, load
from ...modalities import MODALITIES, is_cine
from ...task import Task

SAME_PLACE_MM = 0.5


def image_problems(
    task: Task, rows: list[ManifestRow], progress: Callable[[int, int], None] = lambda done, total: None
) -> list[str]:
    """Read each image of a manifest once; one sentence a fault, in the manifest's order. Takes as long as the
    preprocessing of a training."""
    look = _Look(task)
    out: list[str] = []
    for n, row in enumerate(rows, 1):
        out += look.row(row)
        progress(n, len(rows))
    return out


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

    def row(self, row: ManifestRow) -> Iterator[str]:
        placed: list[_Placed] = []
        for entry in row.images:
            path = Path(row.root) / entry.path
            if entry.modality not in MODALITIES or not path.exists():
                continue  # named before
            try:
                images, refused = read_entry(path, entry)
            except UnreadableError as e:
                yield f"{row.at}: {entry.path} cannot be used as {entry.modality}: {e.reason}"
                continue
            faults = [*(r.reason for r in refused), *self._entry(row, entry, images)]
            for fault in dict.fromkeys(faults):
                yield f"{row.at}: {entry.path}: {fault}"
            placed += [_Placed(image, entry) for image in images if image.affine is not None]
        for a, b in combinations(placed, 2):
            if a.frame and a.frame == b.frame and not _meet(a.image, b.image):
                yield (
                    f"{row.at}: {a.entry.path} and {b.entry.path} have one frame of reference and do not "
                    "meet in space; give each its own"
                )

    def _entry(self, row: ManifestRow, entry: ManifestImage, images: list[Image]) -> Iterator[str]:
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
            yield from self._twin(row, entry, image)
            if entry.mask:
                yield from self._mask(row, entry, image)
            elif self.task.dense and image.kind == "cine" and row.split == "train":
                yield "is a cine without a label map, and the task learns classes from them; give its mask"

    def _twin(self, row: ManifestRow, entry: ManifestImage, image: Image) -> Iterator[str]:
        digest = hashlib.sha256(f"{image.pixels.shape}".encode())
        digest.update(np.ascontiguousarray(image.pixels).tobytes())
        other, path = self.seen.setdefault(digest.hexdigest(), (row, entry.path))
        if other is row and path != entry.path:
            yield f"has the same pixels as {path} of the same case; name each image once"
        elif other is not row:
            where = f" in {other.split}, this one in {row.split}" if other.split != row.split else ""
            yield f"has the same pixels as {path} of case {other.case_id}{where}; keep them in one split"

    def _mask(self, row: ManifestRow, entry: ManifestImage, image: Image) -> Iterator[str]:
        path = Path(row.root) / entry.mask
        if not path.exists():
            return  # named before
        try:
            mask = read_mask(path, image)
        except UnreadableError as e:
            yield f"its mask {entry.mask}: {e.reason}"
            return
        beyond = [int(c) for c in np.unique(mask) if c >= len(self.task.dense)]
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


def _value_faults(image: Image, modality: str) -> Iterator[str]:
    values = image.pixels
    if not np.isfinite(values).all():
        yield "holds NaN or infinite values; clean it before use"
        return
    low, high = float(values.min()), float(values.max())
    if low == high:
        yield f"holds the value {low:g} alone; export it again"
        return
    if is_cine(modality) or image.source.series_uid:
        return
    if modality == "CT" and low >= 0:
        yield "never goes below 0, so its values are no HU; apply slope and intercept, or mend the modality"
    elif modality == "MR" and float((values < -500).mean()) > 0.01:
        yield f"goes down to {low:g} like HU of CT, and the manifest says MR; correct the modality"


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
