"""A slice with its marks as a picture."""

from __future__ import annotations

from typing import Any

from PIL import Image as Picture
from PIL import ImageDraw, ImageFont

from ..case import Image
from ..prediction import Place
from .places import box_on_slice
from .views import EDGES, Plane, slice_array

HIGHLIGHT = (255, 196, 0)


def font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """The font of captions and marks, in points."""
    return ImageFont.load_default(size)


def render(
    image: Image,
    index: int,
    *,
    plane: Plane = "axial",
    window: tuple[float, float] | None = None,
    places: list[tuple[Place, str]] | None = None,
    height: int = 480,
    caption: str = "",
) -> Picture.Image:
    """One slice or frame as a picture with square pixels in mm, orientation marks, and boxes at
    ``places``."""
    array, (row_mm, column_mm) = slice_array(image, index, plane=plane, window=window)
    h, w = array.shape[:2]
    scale = height / (h * row_mm)
    size = (max(1, round(w * column_mm * scale)), height)
    picture = Picture.fromarray(array).resize(size, Picture.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    if plane == "axial" or image.kind == "cine":
        for place, label in places or []:
            box = box_on_slice(image, place, index)
            if box is not None:
                x0 = box[0] * size[0] / w - 3
                y0 = box[1] * size[1] / h - 3
                x1 = (box[2] + 1) * size[0] / w + 3
                y1 = (box[3] + 1) * size[1] / h + 3
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
            (8, size[1] - 44),  # above the letter of the lower edge, which it would cover
            caption,
            fill=(220, 220, 220),
            font=font(14),
            stroke_width=2,
            stroke_fill="black",
        )
    return picture


def _marks(draw: ImageDraw.ImageDraw, image: Image, plane: Plane, size: tuple[int, int]) -> None:
    """Side letters; an ultrasound's side is never guessed."""
    if image.kind == "cine":
        return
    if image.affine is None and image.plane is None:
        draw.text((8, 6), "orientation unknown", fill=(255, 120, 120), font=font(14))
        return
    left, right, top, bottom = EDGES[plane]
    kwargs: dict[str, Any] = {
        "fill": (160, 220, 255),
        "font": font(18),
        "stroke_width": 2,
        "stroke_fill": "black",
    }
    draw.text((8, size[1] / 2), left, anchor="lm", **kwargs)
    draw.text((size[0] - 8, size[1] / 2), right, anchor="rm", **kwargs)
    draw.text((size[0] / 2, 6), top, anchor="ma", **kwargs)
    draw.text((size[0] / 2, size[1] - 6), bottom, anchor="md", **kwargs)
