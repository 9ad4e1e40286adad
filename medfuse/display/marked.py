"""Key images that readers chose, with what was drawn on them, and measurements as lines of text."""

from __future__ import annotations

from io import BytesIO

from PIL import ImageDraw

from ..case import Case, Image
from ..io.names import plain_name
from .draw import font, render
from .key_images import KeyImage
from .marks import AnyMark, Freehand, InPlane, KeyView, Rectangle, Region
from .views import count, slice_array

INK = (124, 252, 154)
HEIGHT = 480


def marked_images(case: Case, marks: list[AnyMark]) -> list[KeyImage]:
    """A picture of each slice that a reader chose, oldest first, with the measurements on it. One whose slice
    is not here any more is left out."""
    out = []
    for mark in marks:
        if not isinstance(mark, KeyView) or not _stands(case, mark):
            continue
        image = case.images[mark.image]
        window = mark.window if image.kind == "volume" else None
        caption = f"{'SIMULATED, ' if image.source.simulated else ''}{_where(mark, image)}, research use"
        picture = render(image, mark.slice, plane=mark.plane, window=window, height=HEIGHT, caption=caption)
        here = (mark.image, mark.plane, mark.slice)
        same = [m for m in marks if (m.image, m.plane, m.slice) == here and not _turned(m)]
        rows, columns = slice_array(image, mark.slice, plane=mark.plane)[0].shape[:2]
        draw = ImageDraw.Draw(picture)
        for m in same:
            _draw(draw, m, picture.width / columns, picture.height / rows)
        png = BytesIO()
        picture.save(png, "PNG", compress_level=3)
        label = f"{mark.text or _where(mark, image)} ({mark.author} {mark.made})"
        out.append(KeyImage(plain_name(f"key_{mark.id}"), png.getvalue(), label))
    return out


def line_of(mark: AnyMark, case: Case) -> str:
    """Such as "distance 12.3 mm, CT portal, axial 12, bo 2026-11-27 03:00"."""
    where = _where(mark, case.images[mark.image]) if _stands(case, mark) else "an image that is not here"
    who = f"{mark.author} {mark.made}".strip()
    return ", ".join(x for x in (f"{mark.kind} {mark.text}", where, who) if x)


def _stands(case: Case, mark: AnyMark) -> bool:
    """Whether the slice that it was drawn on is in the case."""
    if mark.image >= len(case.images):
        return False
    image = case.images[mark.image]
    plane = "axial" if image.kind == "cine" else mark.plane
    return mark.series_uid in ("", image.source.series_uid) and mark.slice < count(image, plane)


def _where(mark: AnyMark, image: Image) -> str:
    what = "frame" if image.kind == "cine" else f"oblique {mark.plane}" if _turned(mark) else mark.plane
    return f"{image.modality} {image.role.replace('_', ' ')}, {what} {mark.slice + 1}"


def _turned(mark: AnyMark) -> bool:
    """Whether it lies on a plane that is none of the image's."""
    return isinstance(mark, InPlane) and mark.turned is not None


def _draw(draw: ImageDraw.ImageDraw, mark: AnyMark, sx: float, sy: float) -> None:
    """Lines of a mark and its text, scaled from pixels of the plane to those of the picture."""
    points = [(u * sx, v * sy) for u, v in mark.points]
    if not points:
        return
    if isinstance(mark, Freehand):
        draw.line([*points, points[0]], fill=INK, width=2)
    elif isinstance(mark, Region | Rectangle):
        (x0, y0), (x1, y1) = points
        box = (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
        (draw.ellipse if isinstance(mark, Region) else draw.rectangle)(box, outline=INK, width=2)
    elif mark.kind in ("bidirectional", "cobb"):
        draw.line(points[:2], fill=INK, width=2)
        draw.line(points[2:], fill=INK, width=2)
    elif len(points) == 1:
        x, y = points[0]
        draw.line([(x - 5, y), (x + 5, y)], fill=INK, width=2)
        draw.line([(x, y - 5), (x, y + 5)], fill=INK, width=2)
    else:
        draw.line(points, fill=INK, width=2)
        if mark.kind == "arrow":
            x, y = points[1]
            draw.ellipse((x - 4, y - 4, x + 4, y + 4), fill=INK)
    if mark.text:
        x = max(p[0] for p in points) + 6
        draw.text((x, points[0][1]), mark.text, fill=INK, font=font(13), stroke_width=2, stroke_fill="black")
