"""Images as a reader sees them: radiological display, window, orientation marks. Flips and transposes only, no resampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import nibabel as nib
import numpy as np
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont

from ..case import Image
from ..prediction import Place

Plane = Literal["axial", "coronal", "sagittal"]
WINDOWS = {
    "CT": {
        "Abdomen": (40.0, 400.0),
        "Liver": (80.0, 160.0),
        "Bone": (400.0, 1800.0),
        "Lung": (-600.0, 1500.0),
    },
    "MR": {"Full": (0.0, 0.0), "Bright": (-1.0, 0.0)},
    "US": {"Full": (127.5, 255.0)},
}
EDGES = {"axial": ("R", "L", "A", "P"), "coronal": ("R", "L", "S", "I"), "sagittal": ("A", "P", "S", "I")}
HIGHLIGHT = (255, 196, 0)


@dataclass
class View:
    """A volume in display order: pixels (L, P, S) so that the first axis runs to the patient's left, the second to the
    back, the third upward. ``to_view`` maps the image's own voxel index to this one."""

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
    return View(pixels, to_view, tuple(float(v) for v in spacing), image.affine is not None)  # type: ignore[arg-type]


def count(image: Image, plane: Plane = "axial") -> int:
    if image.modality == "US":
        return len(image.pixels)
    return view_of(image).pixels.shape[{"sagittal": 0, "coronal": 1, "axial": 2}[plane]]


def window_of(image: Image, preset: str | None = None) -> tuple[float, float]:
    """Centre and width. MR has no units: its window comes from the volume's own values."""
    if image.modality == "MR":
        low, high = np.percentile(image.pixels[::2, ::2, ::2], [2, 99.5 if preset != "Bright" else 97])
        return float((low + high) / 2), float(max(high - low, 1e-3))
    presets = WINDOWS[image.modality]
    return presets.get(preset or "", next(iter(presets.values())))


def _grey(values: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    centre, width = window
    return (np.clip((values - (centre - width / 2)) / width, 0, 1) * 255).astype(np.uint8)


def slice_array(
    image: Image, index: int, *, plane: Plane = "axial", window: tuple[float, float] | None = None
) -> tuple[np.ndarray, tuple[float, float]]:
    """(H, W, 3) uint8 in display order, and (row, column) spacing in mm."""
    if image.modality == "US":
        frame = image.pixels[index]
        frame = np.repeat(frame[..., None], 3, -1) if frame.ndim == 2 else frame
        mm = image.spacing or (1.0, 1.0)
        return np.ascontiguousarray(frame), (mm[1], mm[0])
    v = view_of(image)
    w = window or window_of(image)
    if plane == "axial":
        grey, mm2 = _grey(v.pixels[:, :, index].T, w), (v.spacing[1], v.spacing[0])
    elif plane == "coronal":
        grey, mm2 = _grey(v.pixels[:, index, ::-1].T, w), (v.spacing[2], v.spacing[0])
    else:
        grey, mm2 = _grey(v.pixels[index, :, ::-1].T, w), (v.spacing[2], v.spacing[1])
    return np.repeat(grey[..., None], 3, -1), mm2


def display_slice(image: Image, place: Place) -> int:
    """Axial display index (or frame) of a place."""
    if place.frame is not None:
        return place.frame
    if place.slice is None:
        return count(image) // 2
    centre = (
        np.array([(a + b) / 2 for a, b in zip(*place.box_voxels, strict=True)])
        if place.box_voxels
        else np.array([0, 0, place.slice])
    )
    centre[2] = place.slice
    v = view_of(image)
    at = v.to_view[:3, :3] @ centre + v.to_view[:3, 3]
    return int(np.clip(round(at[2]), 0, v.pixels.shape[2] - 1))


def box_on_slice(image: Image, place: Place, index: int) -> tuple[float, float, float, float] | None:
    """(x0, y0, x1, y1) in pixels of the axial display slice (or frame), or None where the place does not reach it."""
    if place.box_voxels is None:
        return None
    low, high = (np.asarray(v, float) for v in place.box_voxels)
    if place.frame is not None:
        return (*low[:2], *high[:2]) if index == place.frame else None  # type: ignore[return-value]
    v = view_of(image)
    corners = np.array([[x, y, z] for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])])
    at = corners @ v.to_view[:3, :3].T + v.to_view[:3, 3]
    a, b = at.min(0), at.max(0)
    return (a[0], a[1], b[0], b[1]) if a[2] - 0.5 <= index <= b[2] + 0.5 else None


def font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def render(
    image: Image, index: int, *, plane: Plane = "axial", window: tuple[float, float] | None = None,
    places: list[tuple[Place, str]] | None = None, height: int = 480, caption: str = "",
) -> Picture.Image:  # fmt: skip
    """One slice or frame as a picture with square pixels in mm, orientation marks, and boxes at ``places``."""
    array, (row_mm, column_mm) = slice_array(image, index, plane=plane, window=window)
    h, w = array.shape[:2]
    scale = height / (h * row_mm)
    size = (max(1, round(w * column_mm * scale)), height)
    picture = Picture.fromarray(array).resize(size, Picture.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    if plane == "axial" or image.modality == "US":
        for place, label in places or []:
            box = box_on_slice(image, place, index)
            if box is not None:
                x0, y0, x1, y1 = (
                    box[0] * size[0] / w - 3,
                    box[1] * size[1] / h - 3,
                    (box[2] + 1) * size[0] / w + 3,
                    (box[3] + 1) * size[1] / h + 3,
                )
                draw.rectangle((x0, y0, x1, y1), outline=HIGHLIGHT, width=2)
                if label:
                    draw.text(
                        (max(2, x0), max(2, y0 - 17)),
                        label,
                        fill=HIGHLIGHT,
                        font=font(14),
                        stroke_width=2,
                        stroke_fill="black",
                    )
    _marks(draw, image, plane, size)
    if caption:
        draw.text(
            (8, size[1] - 22),
            caption,
            fill=(220, 220, 220),
            font=font(14),
            stroke_width=2,
            stroke_fill="black",
        )
    return picture


def _marks(draw: ImageDraw.ImageDraw, image: Image, plane: Plane, size: tuple[int, int]) -> None:
    """Side letters; an ultrasound's side is never guessed."""
    if image.modality == "US":
        return
    if image.affine is None and image.plane is None:
        draw.text((8, 6), "orientation unknown", fill=(255, 120, 120), font=font(14))
        return
    left, right, top, bottom = EDGES[plane]
    kwargs: dict[str, Any] = {"fill": (160, 220, 255), "font": font(18), "stroke_width": 2, "stroke_fill": "black"}
    draw.text((8, size[1] / 2), left, anchor="lm", **kwargs)
    draw.text((size[0] - 8, size[1] / 2), right, anchor="rm", **kwargs)
    draw.text((size[0] / 2, 6), top, anchor="ma", **kwargs)
    draw.text((size[0] / 2, size[1] - 6), bottom, anchor="md", **kwargs)
