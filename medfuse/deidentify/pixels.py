"""The picture itself: nothing but the values of the image is written, and what may be a name is masked
or refused. Words are read by `lettering` where its package is installed; without it nothing is claimed.

Pixels are decoded and written anew, uncompressed and cut to their length: comments and EXIF of JPEG and
JPEG 2000, bytes behind a frame, planes in the bits above BitsStored and palettes cannot come along.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import UID, ExplicitVRLittleEndian

from ..errors import UnreadableError
from ..io.decode import UNCOMPRESSED, read_pixels
from ..io.ultrasound import brightest_frame, regions, scan_area, text_boxes
from ..modalities import is_cine
from . import lettering
from .lettering import Box
from .values import listed, words_of

READINGS = 3  # what is found is blacked out and the picture read again; what is found last is refused
FULL = 0.98  # of the picture: a scanned area that large leaves no outside
# Words of ImageType by which scanners and workstations mark a picture of a screen.
SCREENS = (
    "SAVE",
    "SCREEN",
    "SCREENSHOT",
    "CAPTURE",
    "CAPTURED",
    "SCREENSAVE",
    "SCREENCAPTURE",
    "SCREENCAP",
    "SNAPSHOT",
    "SAVED",
    "HARDCOPY",
    "PROT",
    "PROTOCOL",
    "INFO",
    "REPORT",
    "PATIENTPROTOCOL",
    "SUMMARY",
    "WORKSHEET",
    "DOSE",
    "PRINT",
    "PRINTED",
    "FILM",
    "FILMED",
    "SCANNED",
    "DIGITIZED",
    "DOCUMENT",
    "TEXT",
    "FRAMEGRAB",
    "SCRN",
)
END_OF_IMAGE = b"\xff\xd9"  # of JPEG, JPEG-LS and JPEG 2000 alike
ENDED = ("1.2.840.10008.1.2.4.",)  # transfer syntaxes whose frames end with it
NO_END = ("1.2.840.10008.1.2.4.10",)  # MPEG-2, MPEG-4, HEVC: video


@dataclass
class PixelWork:
    """What was done to the pixels of one file. boxes: text found outside the scanned area (x0, y0, x1, y1);
    words: boxes around words that were read anywhere else; done: sentences; unjudged: what may still hold a
    name; masked: whether all outside the scanned area is black; cleaned: whether words were looked for
    everywhere, and a last reading found none."""

    done: list[str] = field(default_factory=list)
    unjudged: list[str] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    words: list[Box] = field(default_factory=list)
    masked: bool = False
    cleaned: bool = False


def refuse_screens(path: Path, ds: Dataset) -> None:
    """Raise UnreadableError for a picture of a screen: text is part of it, wherever it stands."""
    kinds = [w for v in listed(ds.get("ImageType")) for w in words_of(v)]
    if any(w in SCREENS for w in kinds):
        raise UnreadableError(path, "is a saved screen or a page of text by its ImageType; not written")
    if _says_words(ds) and not is_cine(str(ds.get("Modality", ""))) and not lettering.available():
        raise UnreadableError(
            path, f"says text is burned into its pixels; to have it read, {lettering.HELP}; not written"
        )
    if str(ds.get("ConversionType", "")).strip():
        raise UnreadableError(path, "was converted from another picture (ConversionType); not written")
    placed = "ImagePositionPatient" in ds or "PerFrameFunctionalGroupsSequence" in ds
    if "SECONDARY" in kinds and not placed and not is_cine(str(ds.get("Modality", ""))):
        raise UnreadableError(
            path, "is a secondary image without a place in the patient: a capture; not written"
        )


def _says_words(ds: Dataset) -> bool:
    return str(ds.get("BurnedInAnnotation", "")).upper() == "YES"


def clean_pixels(path: Path, ds: Dataset, modality: str) -> PixelWork:
    """Decode, mask, and write the pixels of ``ds`` anew. Raises UnreadableError for what cannot be judged."""
    work = PixelWork()
    surplus = _check_whole(path, ds)
    pixels = _in_their_bits(read_pixels(path, ds), ds)
    cine = is_cine(modality)
    if cine:
        pixels = _mask_ultrasound(path, ds, pixels, work)
    if not lettering.available():
        work.unjudged.append(f"words in the picture were not looked for ({lettering.HELP})")
    elif not lettering.legible(pixels.shape[1:]):
        if _says_words(ds):
            raise UnreadableError(
                path, "says text is burned into its pixels, and is too small to be read; not written"
            )
        work.unjudged.append("the picture is too small for words to be read in it")
    else:
        pixels = _without_words(path, ds, pixels, work, cine=cine)
    if cine:
        _refuse_written_traces(path, ds, pixels)
    if surplus:
        work.done.append(f"{surplus} bytes behind the pixels dropped")
    _replace_pixels(ds, pixels, work)
    return work


def _without_words(path: Path, ds: Dataset, pixels: np.ndarray, work: PixelWork, *, cine: bool) -> np.ndarray:
    """Black where words are read: of a cine on every frame, else on the frame where they stand. pixels
    (T, H, W) or (T, H, W, 3). Raises UnreadableError where words are still read at last, or none in a picture
    that says it has some."""
    black = pixels.max() if ds.get("PhotometricInterpretation") == "MONOCHROME1" else pixels.min()
    pixels = pixels.copy()
    for part in [slice(None)] if cine else [slice(n, n + 1) for n in range(len(pixels))]:
        work.words += _blacken(path, pixels[part], black)
    if _says_words(ds) and not (work.words or work.masked):
        raise UnreadableError(path, "says text is burned into its pixels, and none was found; not written")
    if work.words:
        work.done.append(f"words read in {len(work.words)} places, now black")
    work.unjudged.append("words too faint, too small or too hidden to be read in the picture")
    work.cleaned = True
    return pixels


def _blacken(path: Path, frames: np.ndarray, black: np.generic) -> list[Box]:
    """Make words black on all of some frames, in place, and read again what had any. Raises
    UnreadableError."""
    gone: set[Box] = set()
    unread: Iterable[int] = range(len(_pictures(frames)))
    for reading in range(READINGS + 1):
        pictures = _pictures(frames)
        found = {n: lettering.words_in(pictures[n]) for n in unread}
        unread = [n for n, boxes in found.items() if boxes]
        if not unread:
            return sorted(gone)
        if reading == READINGS:
            break
        for x0, y0, x1, y1 in (box for boxes in found.values() for box in boxes):
            frames[:, y0 : y1 + 1, x0 : x1 + 1] = black
            gone.add((x0, y0, x1, y1))
    raise UnreadableError(path, "still has words in its picture when those found are black; not written")


def _pictures(frames: np.ndarray) -> list[np.ndarray]:
    """What of some frames is read: what ever was bright, what ever was dark, and the frame in the middle."""
    if len(frames) == 1:
        return [frames[0]]
    return [frames.max(0), frames.min(0), frames[len(frames) // 2]]


def _check_whole(path: Path, ds: Dataset) -> int:
    """Raise UnreadableError for pixels that are cut short; return how many bytes stand behind plain ones."""
    syntax = ds.file_meta.get("TransferSyntaxUID", "")
    data = ds["PixelData"].value
    if not isinstance(data, (bytes, bytearray)):
        raise UnreadableError(path, "holds its pixels in no readable form; not written")
    frames = int(ds.get("NumberOfFrames") or 1)
    if not syntax or not UID(syntax).is_compressed:
        surplus = len(data) - _plain_length(ds, frames)
        if surplus < 0:
            raise UnreadableError(
                path, f"is cut short: {-surplus} bytes of its pixels are missing; not written"
            )
        return surplus if surplus > 1 else 0
    if str(syntax).startswith(ENDED) and not str(syntax).startswith(NO_END):
        _check_frames(path, bytes(data), frames)
    return 0


def _check_frames(path: Path, data: bytes, frames: int) -> None:
    """Raise UnreadableError where a compressed frame is missing or does not end."""
    found = list(generate_frames(data, number_of_frames=frames))
    if len(found) < frames or any(END_OF_IMAGE not in f for f in found):
        raise UnreadableError(path, "is cut short: a frame of its pixels does not end; not written")


def _plain_length(ds: Dataset, frames: int) -> int:
    """Bytes of uncompressed pixels by the header (PS3.5 8.1.1); 4:2:2 has two samples for three."""
    samples = int(ds.get("SamplesPerPixel") or 1)
    if "422" in str(ds.get("PhotometricInterpretation", "")):
        samples = 2
    bits = frames * int(ds.Rows) * int(ds.Columns) * samples * int(ds.BitsAllocated)
    return -(-bits // 8)


def _in_their_bits(pixels: np.ndarray, ds: Dataset) -> np.ndarray:
    """Nothing above BitsStored: an overlay may be drawn there (PS3.3 of 2004, C.9.2). Signed values
    keep their sign."""
    stored = int(ds.get("BitsStored") or 0)
    bits = pixels.dtype.itemsize * 8
    if pixels.ndim == 4 or not 0 < stored < bits or pixels.dtype.kind not in "iu":
        return pixels
    return np.right_shift(np.left_shift(pixels, bits - stored), bits - stored)


def _mask_ultrasound(path: Path, ds: Dataset, pixels: np.ndarray, work: PixelWork) -> np.ndarray:
    """Black outside the scanned area on every frame. Where the scan fills the picture there is no outside:
    then words are read, or the file is refused."""
    inverse = ds.get("PhotometricInterpretation") == "MONOCHROME1"
    top = (1 << int(ds.BitsStored)) - 1
    shown = top - pixels if inverse else pixels
    brightest = brightest_frame(shown)
    area = scan_area(brightest, regions(ds))
    if area is None or area.mean() > FULL:
        if lettering.available() and lettering.legible(brightest.shape):
            work.unjudged.append("the scanned area has no outside that could be black")
            return pixels
        raise UnreadableError(path, "its scanned area cannot be told from burned-in text; not written")
    work.boxes = list(text_boxes(brightest, area))
    work.masked = True
    work.done.append("everything outside the scanned area is black on every frame")
    masked = mask_outside(shown, area)
    return (top - masked).astype(pixels.dtype) if inverse else masked


def _refuse_written_traces(path: Path, ds: Dataset, pixels: np.ndarray) -> None:
    """Raise UnreadableError where structures as small as letters stand in a row in an M-mode or Doppler
    region, after words that were read have gone."""
    inverse = ds.get("PhotometricInterpretation") == "MONOCHROME1"
    brightest = brightest_frame((1 << int(ds.BitsStored)) - 1 - pixels if inverse else pixels)
    for region in regions(ds):
        x0, y0, x1, y1 = region.box
        if region.kind in ("m-mode", "doppler") and rows_of_letters(brightest[y0 : y1 + 1, x0 : x1 + 1]):
            raise UnreadableError(
                path, "may have text inside an M-mode or Doppler region that was not read; not written"
            )


def rows_of_letters(grey: np.ndarray) -> int:
    """How many rows hold four or more letter-sized bright structures of like height on one line.

    grey: (H, W), brightest value of each pixel. A letter is 5 to 40 pixels tall, no wider than 1.5 times
    that, and
    much brighter than what is around it.
    """
    from scipy import ndimage

    peak = float(grey.max())
    if peak == 0:
        return 0
    labels, _ = ndimage.label(grey > 0.6 * peak, np.ones((3, 3), bool))
    letters = [
        (s[0].stop, s[0].stop - s[0].start, s[1].start, s[1].stop)
        for s in ndimage.find_objects(labels)
        if 5 <= s[0].stop - s[0].start <= 40 and 1 <= s[1].stop - s[1].start <= 1.5 * (s[0].stop - s[0].start)
    ]
    rows: dict[int, list[tuple[int, int, int]]] = {}
    for bottom, height, left, right in letters:
        rows.setdefault(round(bottom / 3), []).append((left, right, height))
    count = 0
    for row in rows.values():
        heights = sorted(h for *_, h in row)
        alike = [r for r in sorted(row) if abs(r[2] - heights[len(heights) // 2]) <= 2]
        near = sum(b[0] - a[1] <= 1.5 * a[2] for a, b in pairwise(alike))
        count += near >= 3
    return count


def mask_outside(pixels: np.ndarray, area: np.ndarray) -> np.ndarray:
    """Black outside ``area`` (H, W) on every frame; pixels (T, H, W) or (T, H, W, 3)."""
    keep = area[None] if pixels.ndim == 3 else area[None, ..., None]
    return np.where(keep, pixels, 0).astype(pixels.dtype)


def _replace_pixels(ds: Dataset, pixels: np.ndarray, work: PixelWork) -> None:
    """Uncompressed, colour by pixel as RGB."""
    if ds.file_meta.get("TransferSyntaxUID") not in UNCOMPRESSED:
        work.done.append("decoded and written uncompressed")
    colour = pixels.ndim == 4
    ds.SamplesPerPixel = 3 if colour else 1
    grey = "MONOCHROME1" if ds.get("PhotometricInterpretation") == "MONOCHROME1" else "MONOCHROME2"
    ds.PhotometricInterpretation = "RGB" if colour else grey
    if colour:
        ds.PlanarConfiguration = 0
    bits = pixels.dtype.itemsize * 8
    ds.BitsAllocated = bits
    if colour or ds.BitsStored > bits:
        ds.BitsStored = bits
    ds.HighBit = ds.BitsStored - 1
    data = np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder("<"))).tobytes()
    ds.PixelData = data + b"\0" * (len(data) % 2)
    ds["PixelData"].VR = "OB" if bits == 8 else "OW"
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for name in [n for n in ds.dir("PaletteColor") if n in ds] + [
        "ExtendedOffsetTable",
        "ExtendedOffsetTableLengths",
    ]:
        if name in ds:
            delattr(ds, name)
