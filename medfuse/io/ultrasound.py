"""Ultrasound: what its headers say (regions, frame times) and what its pixels say (scanned area, text)."""

from __future__ import annotations

import numpy as np
from PIL import Image as Picture
from PIL import ImageDraw
from pydicom.dataset import Dataset
from scipy import ndimage
from scipy.spatial import ConvexHull

from ..case import Image, Region
from ..errors import UnreadableError
from .decode import read_pixels
from .frame_times import frame_ms, uneven, unused
from .headers import FileEntry
from .overlays import overlay_of
from .roles import role_of
from .source import source_of

KINDS = {1: "2d", 2: "m-mode", 3: "doppler", 4: "doppler", 5: "other"}
CENTIMETRES = 3
DARK = 12  # levels: below it is background
LETTER = 40  # levels: above it, outside the scanned area, is text or graphics
GAP = 1 / 60  # of the image: dark gaps inside a sector that are bridged
STRIP = 0.2  # of the image: anything flatter or narrower is a banner, a label or a scale
REACH = 4  # pixels that smoothing takes off the sector's edge
MIN_AREA = 0.04  # share of the image below which no scanned area is believed


def read_ultrasound(entry: FileEntry) -> Image:
    """One still or cine. Pixels as acquired; ``area`` and ``text`` say where the scan is and where words are
    burned in.

    Raises UnreadableError.
    """
    ds = entry.header
    assert ds is not None
    pixels = _eight_bits(entry, ds)
    found = regions(ds)
    role, confidence = role_of(ds, entry.modality)
    notes = [] if found else ["uncalibrated: no region with centimetres, so lengths stay in pixels"]
    notes += filter(None, (uneven(ds), unused(ds)))
    overlay = overlay_of([entry.path], [ds], pixels.shape[:3])
    notes += overlay.notes
    brightest = brightest_frame(pixels)
    area = scan_area(brightest, found)
    if area is None:
        notes.append("the scanned area cannot be told from its surroundings; nothing is masked")
    image = Image(
        entry.modality,
        pixels,
        source_of([entry]),
        role=role,
        role_confidence=confidence,
        regions=found,
        frame_ms=frame_ms(ds),
        warnings=tuple(notes),
        area=area,
        overlay=overlay.mask,
    )
    if area is not None:
        image.text = text_boxes(brightest, area)
    return image


def _eight_bits(entry: FileEntry, ds: Dataset) -> np.ndarray:
    """(T, H, W[, 3]) uint8: bright is high, and colours that are all grey are one. Raises UnreadableError."""
    pixels = read_pixels(entry.path, ds)
    if pixels.ndim == 4 and pixels.shape[-1] != 3:
        raise UnreadableError(
            entry.path, f"has {pixels.shape[-1]} samples a pixel; grey and three colours are read"
        )
    if ds.get("PhotometricInterpretation") == "MONOCHROME1":
        pixels = np.iinfo(pixels.dtype).max - pixels
    if pixels.dtype != np.uint8:
        top = float(pixels.max()) or 1.0
        pixels = np.clip(pixels.astype(np.float32) / top * 255, 0, 255).astype(np.uint8)
    if (
        pixels.ndim == 4
        and np.array_equal(pixels[..., 0], pixels[..., 1])
        and np.array_equal(pixels[..., 0], pixels[..., 2])
    ):
        pixels = np.ascontiguousarray(pixels[..., 0])
    return pixels


def brightest_frame(pixels: np.ndarray) -> np.ndarray:
    """(H, W): the largest value of each pixel over every frame, so nothing that ever lights up is
    overlooked."""
    top = pixels.max(0)
    return top if top.ndim == 2 else top.max(-1)


def scan_area(brightest: np.ndarray, found: tuple[Region, ...]) -> np.ndarray | None:
    """(H, W) bool: where the scan is; None where it cannot be told.

    The sector is the convex hull of the largest bright structure, inside the declared 2D regions where there
    are any (letters and logos are small structures of their own). M-mode and Doppler regions are taken as
    declared.
    """
    flat = [r for r in found if r.kind in ("2d", "colour")]
    mask = np.zeros(brightest.shape, bool)
    for region in flat:
        x0, y0, x1, y1 = region.box
        box = (slice(y0, y1 + 1), slice(x0, x1 + 1))
        sector = _largest(brightest[box])
        mask[box] |= np.ones_like(mask[box]) if sector is None or sector.mean() < 0.1 else sector
    for region in found:
        if region.kind in ("m-mode", "doppler"):
            x0, y0, x1, y1 = region.box
            mask[y0 : y1 + 1, x0 : x1 + 1] = True
    if not mask.any():
        sector = _largest(brightest)
        if sector is None or sector.mean() < MIN_AREA:
            return None
        mask = sector
    return mask


def _largest(brightest: np.ndarray) -> np.ndarray | None:
    """Convex hull of the largest bright structure that is neither a strip nor a label; gaps of GAP are
    bridged."""
    bright = ndimage.binary_opening(brightest > DARK, iterations=2)
    near = max(3, round(GAP * min(brightest.shape)))
    labels, _ = ndimage.label(
        ndimage.binary_closing(np.pad(bright, near), iterations=near)[near:-near, near:-near]
    )
    best = None
    largest = 0
    for number, where in enumerate(ndimage.find_objects(labels), 1):
        tall, wide = (s.stop - s.start for s in where)
        if tall < STRIP * brightest.shape[0] or wide < STRIP * brightest.shape[1]:
            continue
        edge = np.argwhere(labels[where] == number)[:, ::-1]
        if len(edge) > largest:
            best = edge + np.array([where[1].start, where[0].start])
            largest = len(edge)
    if best is None:
        return None
    hull = best[ConvexHull(best).vertices]
    canvas = Picture.new("1", brightest.shape[::-1])
    ImageDraw.Draw(canvas).polygon([tuple(map(int, p)) for p in hull], fill=1, outline=1)
    return ndimage.binary_dilation(np.asarray(canvas), iterations=REACH)


def text_boxes(brightest: np.ndarray, area: np.ndarray) -> tuple[tuple[int, int, int, int], ...]:
    """Boxes (x0, y0, x1, y1) of bright structure outside the scanned area on any frame: banners, names,
    scales."""
    outside = (brightest > LETTER) & ~area
    labels, _ = ndimage.label(ndimage.binary_dilation(outside, np.ones((3, 9), bool)))
    return tuple(
        (s[1].start, s[0].start, s[1].stop - 1, s[0].stop - 1)
        for s in ndimage.find_objects(labels)
        if s is not None
    )


CORNERS = ("RegionLocationMinX0", "RegionLocationMinY0", "RegionLocationMaxX1", "RegionLocationMaxY1")


def regions(ds: Dataset) -> tuple[Region, ...]:
    """SequenceOfUltrasoundRegions (PS3.3 C.8.5.5): only regions whose units are centimetres become
    millimetres."""
    out = []
    for item in ds.get("SequenceOfUltrasoundRegions", []) or []:
        try:
            region = _region(item, int(ds.Columns), int(ds.Rows))
        except (AttributeError, KeyError, TypeError, ValueError):
            continue  # an incomplete region calibrates nothing; the image stays readable without it
        if region is not None:
            out.append(region)
    return tuple(out)


def _region(item: Dataset, columns: int, rows: int) -> Region | None:
    """One region inside a picture of this size; None where it is empty, or flat without centimetres. Raises
    what an incomplete item raises."""
    units = (int(item.PhysicalUnitsXDirection), int(item.PhysicalUnitsYDirection))
    delta = (abs(float(item.PhysicalDeltaX)), abs(float(item.PhysicalDeltaY)))
    x0, y0, x1, y1 = (int(item[k].value) for k in CORNERS)
    kind = KINDS.get(int(item.RegionSpatialFormat), "other")
    if kind == "2d" and int(item.get("RegionDataType", 1)) == 2:
        kind = "colour"
    if kind in ("2d", "colour") and (units != (CENTIMETRES, CENTIMETRES) or not 0 < min(delta) < np.inf):
        return None
    box = (max(0, x0), max(0, y0), min(columns - 1, x1), min(rows - 1, y1))
    if box[2] <= box[0] or box[3] <= box[1]:
        return None
    return Region(box, (delta[0] * 10, delta[1] * 10), kind)  # type: ignore[arg-type]


def shared_region(found: tuple[Region, ...], a: tuple[float, float], b: tuple[float, float]) -> Region | None:
    """The calibrated 2D region that holds both points (x, y), or None: then their distance is in pixels
    only."""

    def holds(region: Region, p: tuple[float, float]) -> bool:
        x0, y0, x1, y1 = region.box
        return x0 <= p[0] <= x1 and y0 <= p[1] <= y1

    return next((r for r in found if r.kind in ("2d", "colour") and holds(r, a) and holds(r, b)), None)


def length(found: tuple[Region, ...], a: tuple[float, float], b: tuple[float, float]) -> tuple[float, str]:
    """Distance between two pixels (x, y) of an ultrasound image: in mm inside one calibrated region, else in
    pixels."""
    region = shared_region(found, a, b)
    scale = region.mm_per_pixel if region else (1.0, 1.0)
    value = float(np.hypot((a[0] - b[0]) * scale[0], (a[1] - b[1]) * scale[1]))
    return value, "mm" if region else "pixel"
