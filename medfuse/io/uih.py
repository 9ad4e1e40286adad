"""Pictures of United Imaging whose tiles are the slices of one volume ("VFRAME"): a private sequence has the
position of each, and the picture has none."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from ..case import Geometry, Image
from ..errors import UnreadableError, UnsupportedError
from .acquired import number
from .child import ChildFailed, children
from .decode import read_pixels
from .geometry import Stack, check_orientation, stack_slices
from .headers import FileEntry
from .index import with_private
from .overlays import overlay_of
from .planes import floats
from .private import PrivateElement, find
from .roles import role_of, traits
from .scaling import rescale, wrong_scaling
from .source import source_of

MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
FRAMES = PrivateElement(0x0065, "Image Private Header", 0x51, "SQ")
WHAT = "is a picture of tiles (VFRAME of UIH)"


def is_tiled_uih(header: Dataset) -> bool:
    """Whether a classic MR image says it is a picture of tiles, and has no place of its own."""
    kinds = header.get("ImageType") or ()
    words = {kinds} if isinstance(kinds, str) else set(kinds)
    classic = str(header.get("SOPClassUID", "")) == MR_IMAGE
    return classic and "VFRAME" in words and not header.get("ImagePositionPatient")


def read_places(path: Path) -> np.ndarray | str:
    """Positions (K, 3) LPS mm of the tiles of one file, or one clause that says why they have none. Runs in a
    child."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stored = find(pydicom.dcmread(path, stop_before_pixels=True, force=True), FRAMES)
        if stored is None or not isinstance(stored.value, Sequence) or isinstance(stored.value, (str, bytes)):
            return f"{WHAT} without its private sequence (0065,1051), so its slices have no place"
        try:
            places = np.array([[float(v) for v in item.ImagePositionPatient] for item in stored.value])
        except Exception as e:  # untrusted bytes: every fault of an item means the same
            return f"{WHAT} whose private sequence (0065,1051) is damaged ({type(e).__name__})"
    if places.ndim != 2 or places.shape[1] != 3 or not np.isfinite(places).all():
        return f"{WHAT} whose private sequence (0065,1051) does not place each of them"
    return places


def cut(picture: np.ndarray, tiles: int) -> np.ndarray:
    """(all rows, all columns) → (tiles, rows, columns), read row by row: as many across as the square root
    asks for. Raises ValueError."""
    across = int(np.ceil(np.sqrt(tiles)))
    down = -(-tiles // across)
    if picture.shape[0] % down or picture.shape[1] % across:
        raise ValueError(f"{picture.shape[0]} × {picture.shape[1]} pixels do not part into {down} × {across}")
    rows = picture.shape[0] // down
    columns = picture.shape[1] // across
    return picture.reshape(down, rows, across, columns).swapaxes(1, 2).reshape(-1, rows, columns)[:tiles]


def read_tiled_uih(entry: FileEntry, *, split: bool) -> Image:
    """The one volume of a picture of tiles. ``split``: one of several of its series. Raises UnreadableError,
    and UnsupportedError where its slices have no place."""
    try:
        places = children().run(read_places, entry.path)
        with_private([entry])
    except ChildFailed as e:
        raise UnreadableError(entry.path, str(e)) from e
    if isinstance(places, str):
        raise UnsupportedError(entry.path, places)
    ds = entry.header
    assert ds is not None
    stack = _stack_of(entry, ds, places)
    order = list(stack.order)
    picture = read_pixels(entry.path, ds)
    tiles = _slices_of(entry, picture, len(places))[order]
    overlay = overlay_of([entry.path], [ds], (1, *picture.shape[1:]))
    mask = None if overlay.mask is None else cut(overlay.mask[0], len(places))[order]
    volume = np.empty(tiles.shape, np.float32)
    note = rescale(tiles, ds, volume)
    uneven = stack.geometry.outcome not in ("exact", "split")
    said = f"geometry {stack.geometry.outcome}: {stack.geometry.measured}" if uneven else ""
    role, confidence = role_of(ds, entry.modality)
    return Image(
        entry.modality,
        volume.transpose(2, 1, 0),
        source_of([entry]),
        affine=stack.affine,
        frame_of_reference=str(ds.get("FrameOfReferenceUID", "") or f"series:{ds.SeriesInstanceUID}"),
        role=role,
        role_confidence=confidence,
        geometry=_parted(stack.geometry) if split else stack.geometry,
        warnings=tuple(s for s in (note, *overlay.notes, said) if s),
        traits=traits(ds, entry.modality),
        overlay=None if mask is None else mask.transpose(2, 1, 0),
        plane=stack.plane,
    )


def _stack_of(entry: FileEntry, ds: Dataset, places: np.ndarray) -> Stack:
    """The tiles as slices. Raises UnsupportedError where orientation, spacing or scaling are none."""
    orientation = floats(ds, "ImageOrientationPatient", 6, entry.path)
    spacing = floats(ds, "PixelSpacing", 2, entry.path)
    wrong = check_orientation(orientation) or wrong_scaling(ds)
    if not wrong and (spacing <= 0).any():
        wrong = f"PixelSpacing {spacing.tolist()} is not positive"
    if wrong:
        raise UnsupportedError(entry.path, wrong)
    thickness = number(ds, "SliceThickness") or 0.0
    return stack_slices(places, orientation, (float(spacing[0]), float(spacing[1])), thickness)


def _parted(geometry: Geometry) -> Geometry:
    """Of one of several volumes of a series."""
    whole = geometry.outcome == "exact"
    return Geometry("split", geometry.measured, geometry.allowed) if whole else geometry


def _slices_of(entry: FileEntry, picture: np.ndarray, tiles: int) -> np.ndarray:
    """The slices (K, rows, columns) of a picture (1, all rows, all columns). Raises UnsupportedError."""
    try:
        if picture.ndim != 3 or len(picture) != 1:
            raise ValueError(f"pixels {picture.shape} are not one grey picture")
        return cut(picture[0], tiles)
    except ValueError as e:
        raise UnsupportedError(entry.path, f"{WHAT}, but its {e}") from None
