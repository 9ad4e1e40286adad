"""RTSTRUCT → masks on the grid of the series that was outlined.

Contours are polygons in LPS mm, one slice each (PS3.3 C.8.8.6). A voxel belongs to a structure where its
centre lies in an odd number of its polygons, so a polygon inside another is a hole. A contour that lies on no
slice is refused by name: filling between slices would make up an outline.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from skimage.draw import polygon2mask

from ..affine import other_frame
from ..case import Image
from ..errors import UnreadableError, UnsupportedError, os_fault
from .decode import parsed

STORAGE = "1.2.840.10008.5.1.4.1.1.481.3"
CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
OFF_SLICE = 0.1  # of the slice step: a contour farther from a slice lies between slices


@dataclass(frozen=True, kw_only=True)
class Structure:
    """One outlined region: its ROI number, its name, and (I, J, K) bool on the grid of the image, whose place
    among those given is ``image``."""

    number: int
    name: str
    mask: np.ndarray
    image: int = 0


@dataclass(frozen=True, kw_only=True)
class _Contour:
    """A closed polygon: LPS mm, three numbers a point; None where they are no numbers."""

    numbers: np.ndarray | None


@dataclass(frozen=True, kw_only=True)
class _Outlined:
    """One region of interest as the file holds it, with its closed contours."""

    number: int
    name: str
    contours: tuple[_Contour, ...]


@dataclass(frozen=True, kw_only=True)
class _Outlines:
    """What an RTSTRUCT says: the series and frames of reference that it outlines, and its regions."""

    series: tuple[str, ...]
    frames: tuple[str, ...]
    regions: tuple[_Outlined, ...]


def read_rtstruct(path: Path, images: Sequence[Image]) -> list[Structure]:
    """Every structure with closed contours, in the file's order, on the image whose series it outlines.

    Structures of points and open lines are no regions and are left out. Raises UnreadableError: not an
    RTSTRUCT, another series or frame of reference, a contour that lies on no slice or is no polygon.
    """
    return list(each_structure(path, images))


def each_structure(path: Path, images: Sequence[Image]) -> Iterator[Structure]:
    """As `read_rtstruct`, one at a time: their masks need not lie in memory together."""
    outlines = parsed(_parse, path)
    image = _outlined(path, outlines, images)
    closed = [r for r in outlines.regions if r.contours]
    if not closed:
        raise UnsupportedError(path, "outlines no region: none of its structures has a closed contour")
    at = next(n for n, i in enumerate(images) if i is image)
    for r in closed:
        mask = _mask(path, r.name, r.contours, image)
        yield Structure(number=r.number, name=r.name, mask=mask, image=at)


def _parse(path: Path) -> _Outlines | str:
    """Runs in a child: everything that is used of the file, as plain values, or why there is nothing."""
    try:
        ds = pydicom.dcmread(path)
    except OSError as e:
        return f"cannot be read ({os_fault(e)}); check the path"
    except (MemoryError, RecursionError):
        raise
    except Exception as e:  # a damaged header can break any part of the parser
        return f"is no readable DICOM file ({type(e).__name__}: {str(e)[:100]})"
    if ds.get("SOPClassUID") != STORAGE:
        return "is not an RTSTRUCT"
    try:
        outlines = _values(ds)
    except (MemoryError, RecursionError):
        raise
    except Exception as e:  # values of another form than their attribute's, or missing ones
        return f"holds values that outline nothing ({type(e).__name__}: {str(e)[:100]})"
    if not ds.get("StructureSetROISequence"):
        return "names no structure (StructureSetROISequence is empty)"
    return outlines


def _values(ds: Dataset) -> _Outlines:
    names = {int(r.ROINumber): str(r.get("ROIName", "")) for r in ds.get("StructureSetROISequence") or []}
    frames = ds.get("ReferencedFrameOfReferenceSequence") or []
    return _Outlines(
        series=tuple(sorted(series_of(ds))),
        frames=tuple(sorted({str(f.get("FrameOfReferenceUID", "")) for f in frames} - {""})),
        regions=tuple(_region(roi, names) for roi in ds.get("ROIContourSequence") or []),
    )


def _region(roi: Dataset, names: dict[int, str]) -> _Outlined:
    number = int(roi.ReferencedROINumber)
    closed = [c for c in roi.get("ContourSequence") or [] if c.get("ContourGeometricType") in CLOSED]
    return _Outlined(
        number=number,
        name=names.get(number, "") or f"ROI {number}",
        contours=tuple(_Contour(numbers=_numbers(c)) for c in closed),
    )


def _numbers(contour: Dataset) -> np.ndarray | None:
    try:
        return np.array([float(v) for v in contour.get("ContourData") or []])
    except (TypeError, ValueError):
        return None


def series_of(ds: Dataset) -> set[str]:
    """UIDs of the series that a structure set outlines."""
    return {
        str(series.SeriesInstanceUID)
        for frame in ds.get("ReferencedFrameOfReferenceSequence") or []
        for study in frame.get("RTReferencedStudySequence") or []
        for series in study.get("RTReferencedSeriesSequence") or []
    }


def _outlined(path: Path, outlines: _Outlines, images: Sequence[Image]) -> Image:
    """The one image of the series that was outlined."""
    wanted = outlines.series
    fitting = [i for i in images if i.source.series_uid in wanted]
    if len(fitting) != 1:
        what = "is not among the images" if not fitting else f"makes {len(fitting)} images"
        raise UnsupportedError(path, f"outlines the series {', '.join(wanted) or '(none)'}, which {what}")
    (image,) = fitting
    if image.space is None:
        raise UnsupportedError(path, "outlines a series without one regular grid, so no voxel can be marked")
    if outlines.frames and image.frame_of_reference not in outlines.frames:
        raise UnsupportedError(
            path, f"is in another frame of reference than its series {image.source.series_uid}"
        )
    return image


def _mask(path: Path, name: str, contours: Sequence[_Contour], image: Image) -> np.ndarray:
    mask: np.ndarray = np.zeros(image.pixels.shape, bool)
    for n, contour in enumerate(contours, 1):
        where = f"contour {n} of {name}"
        points = _voxels(path, where, contour, image)
        k = points[:, 2]
        slice_ = int(np.round(k.mean()))
        if np.abs(k - slice_).max() > OFF_SLICE or not 0 <= slice_ < mask.shape[2]:
            lies = f"from slice {k.min() + 1:.2f} to {k.max() + 1:.2f} of 1 to {mask.shape[2]}"
            allowed = f"within {OFF_SLICE} slices of one"
            raise UnsupportedError(path, f"{where} lies on no slice of its series ({lies})", lies, allowed)
        mask[:, :, slice_] ^= polygon2mask(mask.shape[:2], points[:, :2])
    return mask


def _voxels(path: Path, where: str, contour: _Contour, image: Image) -> np.ndarray:
    """(N, 3) voxel indices of a contour's points."""
    mm = contour.numbers
    if mm is None:
        raise UnreadableError(path, f"{where} is not made of numbers")
    if len(mm) < 9 or len(mm) % 3 or not np.isfinite(mm).all():
        raise UnreadableError(
            path, f"{where} is no polygon: {len(mm)} numbers, not three a point of three or more"
        )
    assert image.space is not None
    return image.space.voxels(other_frame(mm.reshape(-1, 3)))
