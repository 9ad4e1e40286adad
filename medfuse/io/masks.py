"""Label maps → class numbers on an image's own grid, placed by their affines and never by their shape."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8
from pydicom import dcmread
from scipy.ndimage import affine_transform

from ..affine import Affine
from ..case import Image
from ..errors import UnreadableError
from .decode import parsed
from .rtstruct import STORAGE as RTSTRUCT
from .rtstruct import read_rtstruct
from .volume_files import Stored, is_volume_file, load

SAME_PLACE = 0.1  # of a voxel: corners closer than this are one
LEAST_INSIDE = 0.5  # of the labelled volume that must lie in the image; below it, the map is another image's


def read_mask(path: Path, image: Image) -> UInt8[np.ndarray, "*grid"]:
    """Class numbers on the image's grid, (I, J, K) or (T, H, W).

    Of a NIfTI, MetaImage or NRRD as stored; of a DICOM SEG its segment numbers; of an RTSTRUCT 1 for its
    first structure, 2 for the next one.

    A map on another grid is resampled by nearest neighbour. Raises UnreadableError where it has no place, or
    another one than the image.
    """
    if path.suffix.lower() == ".dcm":
        return _of_dicom(path, image)
    stored = load(path)
    if stored.colour:
        raise UnreadableError(path, "holds colours; a mask holds one class number a voxel")
    numbers = class_numbers(path, stored.data)
    if image.kind == "cine":
        frames = numbers.reshape(numbers.shape[0], numbers.shape[1], -1).transpose(2, 1, 0)
        if frames.shape != image.pixels.shape[:3]:
            raise UnreadableError(
                path, f"mask {frames.shape} does not fit its frames {image.pixels.shape[:3]}"
            )
        return frames
    if max(numbers.shape[3:], default=1) > 1:
        raise UnreadableError(path, f"is 4D {numbers.shape}; a mask is one volume")
    return on_grid(path, numbers.reshape((*numbers.shape, 1, 1)[:3]), stored, image)


def class_numbers(path: Path, data: np.ndarray) -> np.ndarray:
    """Class numbers as uint8. Raises UnreadableError where a voxel holds anything else."""
    numbers = np.asarray(data)
    if numbers.dtype != np.uint8:
        whole = np.isfinite(numbers).all() and (numbers == np.rint(numbers)).all()
        if not whole or numbers.min() < 0 or numbers.max() > 255:
            raise UnreadableError(path, "holds other values than class numbers from 0 to 255")
    return numbers.astype(np.uint8)


def on_grid(path: Path, numbers: np.ndarray, stored: Stored, image: Image) -> np.ndarray:
    """(I, J, K) class numbers of a stored map → the same on the image's grid, by both affines."""
    if image.affine is None:
        raise UnreadableError(path, "its image is an irregular stack, on which no mask can be placed")
    if stored.affine is None:
        raise UnreadableError(path, "has no orientation, so it cannot be placed on its image; set its sform")
    return place(path, numbers, Affine(stored.affine), image)


def place(path: Path, numbers: np.ndarray, affine: Affine, image: Image) -> np.ndarray:
    """The same, of a map whose ``affine`` is known; ``image`` has one."""
    assert image.affine is not None
    shape = image.pixels.shape[:3]
    to_map = np.linalg.inv(affine.ras) @ image.affine  # voxel of the image → voxel of the map
    corners = np.array([[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)]) * (np.array(shape) - 1)
    moved = corners @ to_map[:3, :3].T + to_map[:3, 3]
    if numbers.shape == shape and np.abs(moved - corners).max() < SAME_PLACE:
        return numbers
    # grid-constant: the border voxels reach half a voxel out, and rounding does not push them off the map
    found = affine_transform(
        numbers, to_map[:3, :3], to_map[:3, 3], output_shape=shape, order=0, mode="grid-constant"
    )
    voxel = abs(np.linalg.det(affine.ras[:3, :3]))
    labelled = np.count_nonzero(numbers) * voxel
    inside = np.count_nonzero(found) * abs(np.linalg.det(image.affine[:3, :3]))
    if labelled and inside < LEAST_INSIDE * labelled:
        raise UnreadableError(
            path,
            f"lies elsewhere: {inside / labelled:.0%} of what it marks is inside its image; is it another "
            "image's?",
        )
    lost = np.setdiff1d(np.unique(numbers), np.unique(found))
    if np.any(lost):
        classes = ", ".join(str(n) for n in lost if n)
        raise UnreadableError(
            path, f"its class {classes} has no voxel on its image's grid: outside, or smaller than a voxel"
        )
    return found


@dataclass(frozen=True, kw_only=True)
class _Segments:
    """What a DICOM SEG holds: (I, J, K) segment numbers, (4, 4) to RAS+ mm, its frame of reference, and the
    numbers by their segment's label."""

    numbers: np.ndarray
    affine: np.ndarray
    frame_of_reference: str
    names: dict[str, int]


def read_structures(path: Path, image: Image) -> dict[int | str, Bool[np.ndarray, "*grid"]]:
    """Every structure of a mask on the image's grid: by its number, and by its name where the file says one
    (segments of a DICOM SEG, structures of an RTSTRUCT, files of a folder with one mask each).

    Raises UnreadableError as `read_mask` does.
    """
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if is_volume_file(p))
        if not files:
            raise UnreadableError(path, "holds no NIfTI, MetaImage or NRRD file; give a folder of masks")
        return {p.name.split(".")[0]: read_mask(p, image) > 0 for p in files}
    names: dict[str, int] = {}
    if path.suffix.lower() == ".dcm":
        segments = _segments(path)
        if segments is None:
            outlined: dict[int | str, np.ndarray] = {}
            for number, structure in enumerate(read_rtstruct(path, [image]), 1):
                outlined |= {number: structure.mask, structure.name: structure.mask}
            return outlined
        names = segments.names
        drawn = _of_segments(path, segments, image)
    else:
        drawn = read_mask(path, image)
    found: dict[int | str, np.ndarray] = {int(n): drawn == n for n in np.unique(drawn) if n}
    return found | {name: found[n] for name, n in names.items() if n in found}


def _of_dicom(path: Path, image: Image) -> np.ndarray:
    found = _segments(path)
    if found is None:
        outlined = np.zeros(image.pixels.shape[:3], np.uint8)
        for number, structure in enumerate(read_rtstruct(path, [image]), 1):
            outlined[structure.mask] = number
        return outlined
    return _of_segments(path, found, image)


def _segments(path: Path) -> _Segments | None:
    """What a DICOM SEG holds; None for an RTSTRUCT."""
    return parsed(_read_dicom, path)


def _of_segments(path: Path, found: _Segments, image: Image) -> np.ndarray:
    if image.affine is None:
        raise UnreadableError(path, "its image is an irregular stack, on which no mask can be placed")
    if found.frame_of_reference != image.frame_of_reference:
        raise UnreadableError(path, "is a segmentation in another frame of reference than its image")
    return place(path, class_numbers(path, found.numbers), Affine(found.affine), image)


def _read_dicom(path: Path) -> _Segments | str | None:
    """Runs in a child: the segments of a SEG, None for an RTSTRUCT, or why there are none. pydicom and
    highdicom raise many kinds for a damaged file."""
    import highdicom as hd

    try:
        ds = dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID", "Modality"])
    except Exception as e:
        return f"not a readable DICOM file ({type(e).__name__})"
    if ds.get("SOPClassUID") == RTSTRUCT:
        return None
    if ds.get("Modality") != "SEG":
        return "is neither a DICOM SEG nor an RTSTRUCT, so it is no mask"
    try:
        read = hd.seg.segread(str(path))
        names = {str(read.get_segment_description(n).segment_label): int(n) for n in read.segment_numbers}
        volume = read.get_volume(combine_segments=True, skip_overlap_checks=False)
    except Exception as e:
        return f"not a segmentation that can be placed ({type(e).__name__}: {str(e)[:120]})"
    return _Segments(
        numbers=np.asarray(volume.array),
        affine=Affine(volume.affine, "LPS+").ras,
        frame_of_reference=str(volume.frame_of_reference_uid or ""),
        names=names,
    )
