"""Images as a reader sees them: radiological display, window, orientation marks. Flips and transposes only,
no resampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import nibabel as nib
import numpy as np

from ..case import Image
from ..modalities import modality_of

Plane = Literal["axial", "coronal", "sagittal"]
EDGES = {"axial": ("R", "L", "A", "P"), "coronal": ("R", "L", "S", "I"), "sagittal": ("A", "P", "S", "I")}


@dataclass
class View:
    """A volume in display order: pixels (L, P, S) so that the first axis runs to the patient's left, the
    second to the back, the third upward. ``to_view`` maps the image's own voxel index to this one."""

    pixels: np.ndarray
    to_view: np.ndarray  # (4, 4)
    spacing: tuple[float, float, float]
    exact: bool


def view_of(image: Image) -> View:
    """Reorder a volume for display. Without an affine (irregular stack) the slices are shown as stored."""
    affine = image.affine if image.affine is not None else image.plane
    if affine is None:
        return View(image.pixels, np.eye(4), (1.0, 1.0, 1.0), False)
    start = nib.orientations.io_orientation(affine)
    transform = nib.orientations.ornt_transform(start, nib.orientations.axcodes2ornt(("L", "P", "S")))
    pixels = nib.orientations.apply_orientation(image.pixels, transform)
    to_view = np.linalg.inv(nib.orientations.inv_ornt_aff(transform, image.pixels.shape))
    spacing = np.linalg.norm((affine @ np.linalg.inv(to_view))[:3, :3], axis=0)
    x, y, z = (float(v) for v in spacing)
    return View(pixels, to_view, (x, y, z), image.affine is not None)


def count(image: Image, plane: Plane = "axial") -> int:
    """How many frames a cine has, or planes a volume."""
    if image.kind == "cine":
        return len(image.pixels)
    return view_of(image).pixels.shape[{"sagittal": 0, "coronal": 1, "axial": 2}[plane]]


def window_of(image: Image, preset: str | None = None) -> tuple[float, float]:
    """Centre and width of a preset of the image's modality, the first one where there is no such preset.
    Without a unit (MR) the window comes from the volume's own values."""
    presets = modality_of(image.modality).windows
    window = presets.get(preset or "", next(iter(presets.values())))
    if window.percentiles is None:
        return window.centre, window.width
    low, high = np.percentile(image.pixels[::2, ::2, ::2], window.percentiles)
    return float((low + high) / 2), float(max(high - low, 1e-3))


def windows_of(image: Image) -> dict[str, tuple[float, float]]:
    """Centre and width of every preset of the image's modality, by name; the first one is shown first."""
    return {name: window_of(image, name) for name in modality_of(image.modality).windows}


def _grey(values: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    centre, width = window
    return (np.clip((values - (centre - width / 2)) / width, 0, 1) * 255).astype(np.uint8)


def slice_array(
    image: Image, index: int, *, plane: Plane = "axial", window: tuple[float, float] | None = None
) -> tuple[np.ndarray, tuple[float, float]]:
    """(H, W, 3) uint8 in display order, and (row, column) spacing in mm."""
    if image.kind == "cine":
        frame = image.pixels[index]
        frame = np.repeat(frame[..., None], 3, -1) if frame.ndim == 2 else frame
        mm = image.spacing or (1.0, 1.0)
        return np.ascontiguousarray(frame), (mm[1], mm[0])
    v = view_of(image)
    w = window or window_of(image)
    if plane == "axial":
        grey = _grey(v.pixels[:, :, index].T, w)
        mm2 = (v.spacing[1], v.spacing[0])
    elif plane == "coronal":
        grey = _grey(v.pixels[:, index, ::-1].T, w)
        mm2 = (v.spacing[2], v.spacing[0])
    else:
        grey = _grey(v.pixels[index, :, ::-1].T, w)
        mm2 = (v.spacing[2], v.spacing[1])
    return np.repeat(grey[..., None], 3, -1), mm2
