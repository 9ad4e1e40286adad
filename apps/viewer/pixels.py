"""Pixels for the browser: a case's images in display order, as compressed chunks under MEDFUSE_HOME/cache,
sent once.

Original values stay readable: integers that fit 16 bits are exact, others are one linear scale over 65,536
    steps. A URL holds a random key that only a living session of the viewer was given (`Shelf`).
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from isal import igzip
from PIL import Image as Picture
from pydicom.errors import InvalidDicomError

from apps.viewer import outlined, overlays, presented, referred
from apps.viewer.desk import cache_limit, library
from medfuse.case import Case, Image
from medfuse.display.contract import CaseImages, CineImage, RefusedFile, UltrasoundRegion, VolumeImage
from medfuse.display.views import count, slice_array, view_of, windows_of
from medfuse.io.names import shown
from medfuse.library import store
from medfuse.modalities import MODALITIES, modality_of

CHUNK_VOXELS = 4 << 20  # 8 MiB of CT: the first slices arrive while the others are on their way
FORM = "11"  # of the files here: another number makes them anew
THUMB = 72  # pixels of the longer side
_pool = ThreadPoolExecutor(2, thread_name_prefix="encode")
_making: dict[str, threading.Lock] = {}  # folder → held while it is made


def _folder() -> Path:
    return library().home / "cache" / "viewer"


def case_pixels(case_id: str) -> Path:
    """The folder of a case's encoded images (`case.json` names them), made on first use: by one session,
    however many open the case at once. Raises what `store.load_case` does."""
    holds = [*store.files_of(library(), case_id), *outlined.files_of(case_id)]
    key = hashlib.sha256("\n".join([FORM, case_id, *holds]).encode()).hexdigest()
    folder = _folder() / key
    shown = library()
    with _making.setdefault(key, threading.Lock()):
        if not (folder / "case.json").exists():
            write_case(store.load_case(shown, case_id), folder)
            _tidy(keep=folder)
        os.utime(folder)
    return folder


def write_case(case: Case, folder: Path) -> None:
    """Encode every image of a case; the folder appears whole or not at all."""
    part = folder.with_name(f".{folder.name}.{os.getpid()}.{secrets.token_hex(4)}")
    part.mkdir(parents=True)
    try:
        images = [encode(image, part, n) for n, image in enumerate(case.images)]
        refused = [
            RefusedFile(path=shown(r.path), reason=shown(r.reason), modality=r.modality) for r in case.refused
        ]
        structures, unplaced = outlined.write(case, images, part)
        data = CaseImages(
            case_id=case.case_id,
            patient_id=case.patient_id,
            images=images,
            refused=refused,
            states={m: case.state(m) for m in MODALITIES},
            files=[_files(image) for image in case.images],
            instances=referred.instances_of(case.images),
            stored=[presented.stored_of(image) for image in case.images],
            structures=structures,
            unplaced=unplaced,
        )
        (part / "case.json").write_text(data.model_dump_json(), encoding="utf-8")
        if not folder.exists():  # another session may have been faster
            part.rename(folder)
    except FileExistsError:
        pass
    finally:
        shutil.rmtree(part, ignore_errors=True)


def encode(image: Image, folder: Path, n: int) -> VolumeImage | CineImage:
    """Write ``n.CHUNK.gz`` files of one image into ``folder`` and return what the browser must know of it."""
    common: dict[str, Any] = {
        "index": n,
        "modality": image.modality,
        "role": image.role,
        "title": image.source.description or image.role.replace("_", " "),
        "series_uid": image.source.series_uid,
        "study_uid": image.source.study_uid,
        "date": image.source.date,
        "frame_of_reference": image.frame_of_reference,
        "simulated": image.source.simulated,
        "warnings": list(image.warnings),
    }
    common["thumb"] = _thumb(image, folder, n)
    common["drawn"] = overlays.write(image, folder, n)
    if image.kind == "cine":
        return CineImage(**common, **_encode_cine(image, folder, n))
    view = view_of(image)
    flat = view.pixels.transpose(2, 1, 0)  # slices upward, rows to the back, columns to the patient's left
    low = float(flat.min())
    high = float(flat.max())
    exact = low >= -32768 and high <= 32767 and _whole(image.pixels)
    slope = 1.0 if exact else max(high - low, 1e-6) / 65535
    intercept = 0.0 if exact else low + 32768 * slope

    def stored(part: np.ndarray) -> bytes:
        values = part if exact else np.rint((part - intercept) / slope).clip(-32768, 32767)
        return np.ascontiguousarray(values, dtype="<i2").tobytes()

    affine = image.affine if image.affine is not None else image.plane
    unit = modality_of(image.modality).unit
    return VolumeImage(
        **common,
        kind="volume",
        shape=(flat.shape[2], flat.shape[1], flat.shape[0]),
        slope=slope,
        intercept=intercept,
        unit=unit.name if unit is not None else "",
        spacing=view.spacing,
        presets=windows_of(image),
        to_view=view.to_view.tolist(),
        affine=(affine @ np.linalg.inv(view.to_view)).tolist() if affine is not None else None,
        numbers=_numbers(image, view.to_view),
        exact=view.exact,
        **_chunks(flat, stored, folder, n),
    )


def _thumb(image: Image, folder: Path, n: int) -> tuple[int, int]:
    """Write the middle slice or frame as a small grey picture; its width and height."""
    array, (row_mm, column_mm) = slice_array(image, count(image) // 2)
    picture = Picture.fromarray(array).convert("L")
    height, width = array.shape[0] * row_mm, array.shape[1] * column_mm
    scale = THUMB / max(height, width)
    small = picture.resize((max(1, round(width * scale)), max(1, round(height * scale))))
    (folder / f"{n}.thumb.gz").write_bytes(igzip.compress(small.tobytes(), compresslevel=1))
    return small.size


def _numbers(image: Image, to_view: np.ndarray) -> list[int]:
    """The number under which a PACS shows each axial slice as displayed; empty where slices are no files of
    their own, or none of the axial ones."""
    files = image.source.files
    if image.pixels.ndim != 3 or len(files) != image.pixels.shape[2] or abs(to_view[2, 2]) < 0.5:
        return []
    said = [_instance_number(Path(f)) for f in files]
    out = [0] * len(said)
    for k, number in enumerate(said):
        at = round(float(to_view[2, 2] * k + to_view[2, 3]))
        if 0 <= at < len(out):
            out[at] = number
    return out if any(out) else []


def _files(image: Image) -> list[str]:
    """The names of its files in the store: one a slice or frame as displayed, or one for all."""
    names = [Path(f).name for f in image.source.files]
    if image.kind == "cine" or len(names) < 2:
        return names
    to_view = view_of(image).to_view
    if len(names) != image.pixels.shape[2] or abs(to_view[2, 2]) < 0.5:
        return names[len(names) // 2 :][:1]  # the slices lie across those shown
    return names if to_view[2, 2] > 0 else names[::-1]


def _instance_number(path: Path) -> int:
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["InstanceNumber"])
        return int(header.get("InstanceNumber") or 0)
    except (InvalidDicomError, OSError, ValueError):  # no DICOM file: it has no number
        return 0


def _encode_cine(image: Image, folder: Path, n: int) -> dict[str, Any]:
    t, h, w = image.pixels.shape[:3]
    regions = [
        UltrasoundRegion(box=r.box, mm=r.mm_per_pixel) for r in image.regions if r.kind in ("2d", "colour")
    ]
    return {
        "kind": "cine",
        "shape": [w, h, t],
        "rgb": image.pixels.ndim == 4,
        "frame_ms": image.frame_ms,
        "presets": windows_of(image),
        "pixel_mm": [float(v) for v in image.spacing] if image.spacing else None,
        "regions": regions,
        **_chunks(image.pixels, lambda part: np.ascontiguousarray(part, np.uint8).tobytes(), folder, n),
    }


def _whole(pixels: np.ndarray) -> bool:
    return all(
        np.array_equal(part, np.rint(part))
        for part in np.array_split(pixels, max(1, pixels.size // (4 << 20)))
    )


def _chunks(stack: np.ndarray, stored: Callable[[np.ndarray], bytes], folder: Path, n: int) -> dict[str, Any]:
    """Slices (or frames) in groups; the browser asks for the group that it shows first."""
    each = max(1, min(len(stack), CHUNK_VOXELS // max(1, stack[0].size)))

    def write(k: int) -> None:
        (folder / f"{n}.{k}.gz").write_bytes(
            igzip.compress(stored(stack[k * each : (k + 1) * each]), compresslevel=1)
        )

    chunks = -(-len(stack) // each)
    list(_pool.map(write, range(chunks)))
    return {"per_chunk": each, "chunks": chunks}


def _tidy(keep: Path) -> None:
    """Oldest cases go first when the cache outgrows its limit: it can always be made anew."""
    folders = [f for f in _folder().iterdir() if f.is_dir() and not f.name.startswith(".")]
    sizes = {f: sum(p.stat().st_size for p in f.iterdir()) for f in folders}
    left = cache_limit()
    for f in sorted(folders, key=lambda f: -f.stat().st_mtime):
        left -= sizes[f]
        if left < 0 and f != keep:
            shutil.rmtree(f, ignore_errors=True)


class Shelf:
    """Which folder a key opens, for which session, and until when. A key is 256 random bits and dies with its
    session, and with the sign-in that it was given to."""

    HOURS = 8

    def __init__(self, alive: Callable[[str], bool]) -> None:
        self._alive = alive
        self._rows: dict[str, tuple[str, Path, float, Callable[[], bool]]] = {}

    def lay(self, session: str, folder: Path, may: Callable[[], bool] = lambda: True) -> str:
        """A key for this session, as long as it ``may``; the same one again while it is good."""
        now = time.monotonic()
        self._rows = {k: r for k, r in self._rows.items() if r[2] > now and self._alive(r[0])}
        for key, (owner, where, until, _) in self._rows.items():
            if (owner, where) == (session, folder):
                self._rows[key] = (owner, where, until, may)
                return key
        key = secrets.token_urlsafe(32)
        self._rows[key] = (session, folder, now + 3600 * self.HOURS, may)
        return key

    def take(self, session: str) -> None:
        """Everything of a session goes, such as when its reader logs out."""
        self._rows = {k: r for k, r in self._rows.items() if r[0] != session}

    def find(self, key: str, name: str) -> Path | None:
        """The file of this name that a key opens, for a session that lives."""
        row = self._rows.get(key)
        if row is None or row[2] < time.monotonic() or not self._alive(row[0]) or not row[3]():
            return None
        path = row[1] / name
        return path if path.parent == row[1] and path.suffix == ".gz" and path.exists() else None


def _session_lives(session: str) -> bool:
    from streamlit.runtime import Runtime

    return Runtime.exists() and Runtime.instance().is_active_session(session)


shelf = Shelf(_session_lives)
