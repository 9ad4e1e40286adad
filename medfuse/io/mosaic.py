"""Siemens mosaics: the slices of one volume as tiles of one picture, unpacked by the private CSA header.

The position of a mosaic is that of a picture as large as all tiles, laid around the first slice's centre.
The formula is of the documentation of nibabel, "DICOM orientation and Siemens mosaics".
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from ..case import Geometry, Image
from ..errors import UnreadableError, UnsupportedError
from .acquired import number
from .child import ChildFailed, children
from .decode import read_pixels
from .geometry import check_orientation, normal_of, slice_affine
from .headers import FileEntry
from .index import with_private
from .overlays import overlay_of
from .planes import floats
from .private import SIEMENS_TILES, PrivateElement, find, numbers
from .roles import role_of, traits
from .scaling import rescale
from .source import source_of

MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
CSA = PrivateElement(0x0029, "SIEMENS CSA HEADER", 0x10, "OB")


@dataclass(frozen=True, kw_only=True)
class Mosaic:
    """What the CSA header says: how many slices, their normal (LPS), the step between them in mm."""

    slices: int
    normal: tuple[float, float, float]
    step: float

    @property
    def side(self) -> int:
        """Tiles in a row and in a column of the picture."""
        return int(np.ceil(np.sqrt(self.slices)))


def is_mosaic(header: Dataset) -> bool:
    """Whether a classic MR image says it is a mosaic. Enhanced images use the word for other things."""
    kinds = {str(v).upper() for v in _listed(header.get("ImageType"))}
    return "MOSAIC" in kinds and str(header.get("SOPClassUID", "")) == MR_IMAGE


def counts_tiles(header: Dataset) -> bool:
    """Whether a classic MR image counts several slices in it, (0019,100A), whatever its ImageType says: an
    anonymiser may have taken the word. ``header`` holds the vendors' elements."""
    tiles = numbers(header, SIEMENS_TILES)
    return str(header.get("SOPClassUID", "")) == MR_IMAGE and bool(tiles) and tiles[0] > 1


def _listed(value: object) -> list[object]:
    return [value] if isinstance(value, str) else list(value or ())  # type: ignore[call-overload]


def read_csa(path: Path) -> Mosaic | str:
    """The CSA header of one file, or one clause that says why its slices have no place. Runs in a child."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from nibabel.nicom import csareader

        ds = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        stored = find(ds, CSA)
        if stored is None or not isinstance(stored.value, bytes):
            return "is a Siemens mosaic without its CSA header (0029,1010), so its slices have no place"
        try:
            tags = csareader.read(stored.value)["tags"]
            normal = tuple(float(v) for v in tags["SliceNormalVector"]["items"])
            told = [int(v) for v in tags.get("NumberOfImagesInMosaic", {"items": []})["items"]]
        except Exception as e:  # untrusted bytes: the parser's every fault means the same
            return f"is a Siemens mosaic whose CSA header is damaged ({type(e).__name__})"
    slices = told[0] if told else _tiles(ds)
    if slices < 1 or len(normal) != 3 or abs(np.linalg.norm(normal) - 1) > 0.01:
        return "is a Siemens mosaic whose CSA header lacks the number of its slices or their normal"
    step = number(ds, "SpacingBetweenSlices") or 0.0
    if not 0 < step < 1000:
        return "is a Siemens mosaic without SpacingBetweenSlices, so the step between its slices is unknown"
    return Mosaic(slices=slices, normal=(normal[0], normal[1], normal[2]), step=step)


def _tiles(ds: Dataset) -> int:
    """The number of slices by (0019,100A), 0 where it is silent."""
    element = find(ds, SIEMENS_TILES)
    if element is None:
        return 0
    raw = element.value
    return int.from_bytes(raw[:2], "little") if isinstance(raw, bytes) else int(raw)


def unpack(picture: np.ndarray, mosaic: Mosaic) -> np.ndarray:
    """(rows, columns) of all tiles → (slices, rows, columns), tiles read row by row. Raises ValueError."""
    side = mosaic.side
    if picture.shape[0] % side or picture.shape[1] % side:
        raise ValueError(
            f"{picture.shape[0]} × {picture.shape[1]} pixels do not part into {side} × {side} tiles"
        )
    rows = picture.shape[0] // side
    columns = picture.shape[1] // side
    tiles = picture.reshape(side, rows, side, columns).swapaxes(1, 2).reshape(-1, rows, columns)
    return tiles[: mosaic.slices]


def first_position(
    position: np.ndarray, orientation: np.ndarray, spacing: np.ndarray, shape: tuple[int, int], side: int
) -> np.ndarray:
    """Centre of the first slice's first pixel (3,), LPS mm, from the mosaic's own. spacing is (row, column);
    ``shape`` is (rows, columns) of the whole picture."""
    rows = (shape[0] - shape[0] // side) / 2 * spacing[0]
    columns = (shape[1] - shape[1] // side) / 2 * spacing[1]
    return position + orientation[:3] * columns + orientation[3:] * rows


def read_mosaic(entry: FileEntry, *, split: bool) -> Image:
    """The one volume of a mosaic. ``split``: one of several of its series. Raises UnreadableError, and
    UnsupportedError where its slices have no place."""
    try:
        mosaic = children().run(read_csa, entry.path)
        with_private([entry])
    except ChildFailed as e:
        raise UnreadableError(entry.path, str(e)) from e
    if isinstance(mosaic, str):
        raise UnsupportedError(entry.path, mosaic, "a Siemens mosaic", "a CSA header that places its tiles")
    ds = entry.header
    assert ds is not None
    orientation = floats(ds, "ImageOrientationPatient", 6, entry.path)
    spacing = floats(ds, "PixelSpacing", 2, entry.path)
    position = floats(ds, "ImagePositionPatient", 3, entry.path)
    wrong = check_orientation(orientation)
    if wrong or (spacing <= 0).any():
        raise UnsupportedError(entry.path, wrong or f"PixelSpacing {spacing.tolist()} is not positive")
    normal = _checked_normal(entry.path, mosaic, orientation)
    picture = read_pixels(entry.path, ds)
    tiles = _tiles_of(entry.path, picture, mosaic)
    first = first_position(position, orientation, spacing, picture.shape[1:], mosaic.side)
    volume = np.empty(tiles.shape, np.float32)
    note = rescale(tiles, ds, volume)
    overlay = overlay_of([entry.path], [ds], (1, *picture.shape[1:]))
    mask = None if overlay.mask is None else unpack(overlay.mask[0], mosaic)
    said = f"Siemens mosaic of {mosaic.slices} slices, step {mosaic.step:g} mm by its CSA header"
    role, confidence = role_of(ds, entry.modality)
    affine = slice_affine(first, orientation, (spacing[0], spacing[1]), normal * mosaic.step)
    return Image(
        entry.modality,  # type: ignore[arg-type]
        volume.transpose(2, 1, 0),
        source_of([entry]),
        affine=affine,
        frame_of_reference=str(ds.get("FrameOfReferenceUID", "") or f"series:{ds.SeriesInstanceUID}"),
        role=role,
        role_confidence=confidence,
        geometry=Geometry("split" if split else "exact", said),
        warnings=tuple(s for s in (note, *overlay.notes) if s),
        traits=traits(ds, entry.modality),
        overlay=None if mask is None else mask.transpose(2, 1, 0),
    )


def _checked_normal(path: Path, mosaic: Mosaic, orientation: np.ndarray) -> np.ndarray:
    """The normal (3,) of the CSA header. Raises UnsupportedError where the orientation has another one."""
    normal = np.array(mosaic.normal)
    along = float(normal @ normal_of(orientation))
    if abs(along) < 0.99:
        off = f"{np.degrees(np.arccos(abs(along))):.0f}°"
        what = f"is a Siemens mosaic whose normal in the CSA header lies {off} off that of its orientation"
        raise UnsupportedError(path, what)
    return normal


def _tiles_of(path: Path, picture: np.ndarray, mosaic: Mosaic) -> np.ndarray:
    """The slices (K, rows, columns) of a picture (1, all rows, all columns). Raises UnsupportedError."""
    try:
        if picture.ndim != 3 or len(picture) != 1:
            raise ValueError(f"pixels {picture.shape} are not one grey picture")
        return unpack(picture[0], mosaic)
    except ValueError as e:
        raise UnsupportedError(path, f"is a Siemens mosaic, but its {e}") from None
