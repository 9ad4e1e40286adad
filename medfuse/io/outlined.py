"""Outlines that somebody made (DICOM SEG, RTSTRUCT, a label map) as structures on the grid of the image that
they are of, one at a time and each cut to where it lies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from scipy.ndimage import affine_transform, find_objects

from ..affine import Affine
from ..case import Image
from ..errors import UnreadableError
from .decode import parsed
from .masks import SAME_PLACE, class_numbers
from .rtstruct import each_structure
from .volume_files import load

MOST_STRUCTURES = 200  # of one file


@dataclass(frozen=True, kw_only=True)
class OutlinedStructure:
    """image: its place among the images. name: as its author wrote it. corner: the voxel where ``mask``
    begins, which is (I, J, K), as stored."""

    image: int
    name: str
    corner: tuple[int, int, int]
    mask: Bool[np.ndarray, "i j k"]


@dataclass(frozen=True, kw_only=True)
class _Segment:
    """One segment of a SEG: (I, J, K) bool where it lies, and (4, 4) from its index to RAS+ mm."""

    name: str
    mask: np.ndarray
    affine: np.ndarray


@dataclass(frozen=True, kw_only=True)
class _Segmented:
    frame_of_reference: str
    segments: tuple[_Segment, ...]


def outlined_structures(
    path: Path, kind: str, images: Sequence[Image], series: Sequence[str] = ()
) -> Iterator[OutlinedStructure]:
    """The structures of a file of a kind of `ReferringObject`, those that mark a voxel. series: UIDs of those
    that it says it is of.

    Raises UnreadableError: damaged, of no image here, or placed where no voxel can be told.
    """
    if kind == "structure set":
        yield from _of_structure_set(path, images)
    elif kind == "segmentation":
        yield from _of_segmentation(path, images, series)
    else:
        yield from _of_label_map(path, images)


def _of_structure_set(path: Path, images: Sequence[Image]) -> Iterator[OutlinedStructure]:
    for n, found in enumerate(each_structure(path, images)):
        if n == MOST_STRUCTURES:
            raise UnreadableError(path, f"holds more than {MOST_STRUCTURES} structures")
        yield from _cut(found.mask, (0, 0, 0), " ".join(found.name.split()), found.image)


def _of_segmentation(
    path: Path, images: Sequence[Image], series: Sequence[str]
) -> Iterator[OutlinedStructure]:
    found = parsed(_read_segments, path)
    placed = [n for n, i in enumerate(images) if i.affine is not None and i.kind == "volume"]
    same = [
        n
        for n in placed
        if found.frame_of_reference and images[n].frame_of_reference == found.frame_of_reference
    ]
    if not same:
        raise UnreadableError(path, "is in the frame of reference of no image here, so it cannot be placed")
    at = next((n for n in same if images[n].source.series_uid in series), same[0])
    for segment in found.segments:
        yield from _on_image(segment.mask, segment.affine, segment.name, at, images[at])


def _of_label_map(path: Path, images: Sequence[Image]) -> Iterator[OutlinedStructure]:
    numbers, affine = _numbers(path)
    fitting = [n for n, i in enumerate(images) if i.affine is not None and i.kind == "volume"]
    same = [n for n in fitting if _same_grid(numbers.shape, affine, images[n])]
    if not same and len(fitting) != 1:
        raise UnreadableError(path, "has the grid of no image here, so nobody can tell which one it is of")
    at = (same or fitting)[0]
    for number, where in enumerate(find_objects(numbers.astype(np.int32)), 1):
        if where is not None:
            moved = affine @ _shift([s.start for s in where])
            yield from _on_image(numbers[where] == number, moved, str(number), at, images[at])


def _numbers(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(I, J, K) class numbers of a label map, and (4, 4) from its index to RAS+ mm."""
    stored = load(path)
    if stored.colour or stored.affine is None:
        raise UnreadableError(path, "is no label map that can be placed: it holds colours, or no orientation")
    if max(stored.data.shape[3:], default=1) > 1:
        raise UnreadableError(path, f"is 4D {stored.data.shape}; a label map is one volume")
    return class_numbers(path, stored.data).reshape((*stored.data.shape, 1, 1)[:3]), stored.affine


def _same_grid(shape: tuple[int, ...], affine: np.ndarray, image: Image) -> bool:
    if shape != image.pixels.shape[:3]:
        return False
    corners = np.array([[a, b, c, 1] for a in (0, 1) for b in (0, 1) for c in (0, 1)]) * [*shape, 1]
    moved = corners @ (np.linalg.inv(affine) @ image.affine).T
    return bool(np.abs(moved - corners).max() < SAME_PLACE)


def _shift(corner: Sequence[float]) -> np.ndarray:
    out = np.eye(4)
    out[:3, 3] = corner
    return out


def _on_image(
    mask: np.ndarray, affine: np.ndarray, name: str, at: int, image: Image
) -> Iterator[OutlinedStructure]:
    """A mask with a place of its own, on the voxels of the image whose centres lie in it."""
    assert image.affine is not None
    to_image = np.linalg.inv(image.affine) @ affine
    ends = np.array([[a, b, c, 1] for a in (0, 1) for b in (0, 1) for c in (0, 1)]) * [*mask.shape, 1]
    reached = (ends - [0.5, 0.5, 0.5, 0]) @ to_image.T
    grid = np.array(image.pixels.shape[:3])
    low = np.clip(np.floor(reached[:, :3].min(0)), 0, grid).astype(int)
    high = np.clip(np.ceil(reached[:, :3].max(0)) + 1, 0, grid).astype(int)
    if (high <= low).any():
        return
    back = np.linalg.inv(to_image) @ _shift(low)
    found = affine_transform(
        mask.astype(np.uint8),
        back[:3, :3],
        back[:3, 3],
        output_shape=tuple(high - low),
        order=0,
        mode="grid-constant",
    )
    yield from _cut(found > 0, (int(low[0]), int(low[1]), int(low[2])), name, at)


def _cut(mask: np.ndarray, corner: tuple[int, int, int], name: str, at: int) -> Iterator[OutlinedStructure]:
    """A structure, where it marks a voxel."""
    found = find_objects(mask.astype(np.uint8))
    if not found or found[0] is None:
        return
    x, y, z = found[0]
    begin = (corner[0] + x.start, corner[1] + y.start, corner[2] + z.start)
    yield OutlinedStructure(image=at, name=name, corner=begin, mask=mask[x, y, z].copy())


def _read_segments(path: Path) -> _Segmented | str:
    """Runs in a child: the segments of a SEG, or why there are none. highdicom raises many kinds for a
    damaged file."""
    import highdicom as hd

    try:
        read = hd.seg.segread(str(path))
        numbers = [int(n) for n in read.segment_numbers]
        if len(numbers) > MOST_STRUCTURES:
            return f"holds more than {MOST_STRUCTURES} segments"
        segments = []
        frame = ""
        for n in numbers:
            volume = read.get_volume(segment_numbers=[n], combine_segments=False)
            frame = str(volume.frame_of_reference_uid or "")
            mask = np.asarray(volume.array)[..., 0] > 0.5
            where = find_objects(mask.astype(np.uint8))
            if not where or where[0] is None:
                continue
            affine = Affine(volume.affine, "LPS+").ras @ _shift([s.start for s in where[0]])
            name = " ".join(str(read.get_segment_description(n).segment_label or "").split())
            segments.append(_Segment(name=name or str(n), mask=mask[where[0]].copy(), affine=affine))
    except Exception as e:
        return f"not a segmentation that can be placed ({type(e).__name__}: {str(e)[:120]})"
    return _Segmented(frame_of_reference=frame, segments=tuple(segments))
