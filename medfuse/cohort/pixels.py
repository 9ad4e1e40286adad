"""What the pixels of each series are: decoded once, hashed, noted, and not decoded again by a later run.

Twins are images whose decoded pixels are the same, under whatever id or coding; frames of cines are compared
by a perceptual hash too, and by that of their mirror image.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np
from PIL import Image as Picture

from ..case import Image
from ..io.headers import FileEntry
from ..io.scan import Key, Scan
from ..modalities import is_cine

SIDE = 16  # pixels of the picture that a perceptual hash is made of
SAME_BITS = 6  # of SIDE² bits that two copies of one frame may differ in
FLAT = 2.0  # grey levels of spread below which a frame says nothing


@dataclass(frozen=True)
class SeriesPixels:
    """One series as decoded. digest: of its pixels, "" where none could be read. looks: perceptual hashes, of
    cines. simulated: 1 where every image says that it is. note: why nothing could be
    read, or what was refused of it."""

    series: str
    signature: str
    modality: str
    images: int
    frames: int
    digest: str
    looks: str
    simulated: int
    note: str


COLUMNS = tuple(f.name for f in fields(SeriesPixels))


def signature_of(entries: Iterable[FileEntry]) -> str:
    """Of names, sizes and times of change of a series' files."""
    digest = hashlib.sha256()
    for entry in entries:
        stat = entry.path.stat()
        digest.update(
            f"{entry.path}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode("utf-8", "surrogateescape")
        )
    return digest.hexdigest()[:32]


def read_pixels(
    scan: Scan, keys: list[Key], cache: Path, progress: Callable[[int, int], None]
) -> dict[Key, SeriesPixels]:
    """What each series holds. ``cache`` is a CSV that grows by a line a series, so that a stopped run goes
    on."""
    known = _read_cache(cache)
    out: dict[Key, SeriesPixels] = {}
    fresh = not cache.exists()
    with cache.open("a", newline="", encoding="utf-8") as f:
        writer = csv.writer(f)
        if fresh:
            writer.writerow(COLUMNS)
        for n, key in enumerate(keys, 1):
            name = "|".join(key)
            signature = signature_of(scan.series[key])
            found = known.get(name)
            if found is None or found.signature != signature:
                found = _decode(scan, key, name, signature)
                writer.writerow(astuple(found))
                f.flush()
            out[key] = found
            progress(n, len(keys))
    return out


def _read_cache(path: Path) -> dict[str, SeriesPixels]:
    if not path.exists():
        return {}
    out = {}
    with path.open(newline="", encoding="utf-8") as f:
        for line in csv.DictReader(f):
            if None in line.values() or tuple(line) != COLUMNS:
                continue  # a line cut short by a kill
            numbers = {k: int(line[k]) for k in ("images", "frames", "simulated")}
            texts = {k: v for k, v in line.items() if k not in numbers}
            row = SeriesPixels(**texts, **numbers)  # type: ignore[arg-type]
            out[row.series] = row
    return out


def _decode(scan: Scan, key: Key, name: str, signature: str) -> SeriesPixels:
    modality = scan.series[key][0].modality
    before = len(scan.refused)
    images = scan.read(key)
    note = "; ".join(r.reason for r in scan.refused[before:])[:300]
    digest = ""
    if images:
        digest = hashlib.sha256("".join(sorted(pixel_digest(i) for i in images)).encode()).hexdigest()
    if images and all(float(i.pixels.max()) == float(i.pixels.min()) for i in images):
        note, digest, images = "all its pixels have one value", "", []
    return SeriesPixels(
        series=name,
        signature=signature,
        modality=modality,
        images=len(images),
        frames=sum(i.frames for i in images),
        digest=digest,
        looks=" ".join(look for i in images for look in looks_of(i)),
        simulated=int(bool(images) and all(i.source.simulated for i in images)),
        note=note,
    )


def pixel_digest(image: Image) -> str:
    """sha256 of an image's decoded pixels and their shape: the same under any coding or header."""
    digest = hashlib.sha256(f"{image.pixels.shape}{image.pixels.dtype}".encode())
    digest.update(np.ascontiguousarray(image.pixels).tobytes())
    return digest.hexdigest()


def looks_of(image: Image) -> list[str]:
    """Perceptual hash of the middle frame of a cine and of its mirror image; none of volumes and of frames
    without content."""
    if not is_cine(image.modality):
        return []
    frame = image.grey[image.frames // 2]
    if float(frame.std()) < FLAT:
        return []
    return [look(frame), look(frame[:, ::-1])]


def look(frame: np.ndarray) -> str:
    """Difference hash (Krawetz 2013) of a grey frame (H, W): whether each pixel of a small picture is
    brighter than its right neighbour, as hexadecimal text."""
    small = Picture.fromarray(np.ascontiguousarray(frame, np.uint8)).resize(
        (SIDE + 1, SIDE), Picture.Resampling.BOX
    )
    values = np.asarray(small, np.int16)
    return np.packbits(values[:, 1:] > values[:, :-1]).tobytes().hex()
