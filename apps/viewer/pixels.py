"""Pixels for the browser: a case's images in display order, as compressed chunks under MEDFUSE_HOME/cache, sent once.

Original values stay readable: integers that fit 16 bits are exact, others are one linear scale over 65,536 steps.
A URL holds a random key that only a living session of the viewer was given (`Shelf`).
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from isal import igzip

from medfuse.case import Case, Image
from medfuse.library import store
from medfuse.reporting.display import WINDOWS, view_of, window_of
from medfuse.settings import settings

CHUNK_VOXELS = 4 << 20  # 8 MiB of CT: the first slices arrive while the others are on their way
FORM = "3"  # of the files here: another number makes them anew
_pool = ThreadPoolExecutor(2, thread_name_prefix="encode")


def _folder() -> Path:
    return settings().home / "cache" / "viewer"


def case_pixels(case_id: str) -> Path:
    """The folder of a case's encoded images (`case.json` names them), made on first use. Raises what `store.load_case` does."""
    key = hashlib.sha256("\n".join([FORM, case_id, *store.files_of(case_id)]).encode()).hexdigest()
    folder = _folder() / key
    if not (folder / "case.json").exists():
        write_case(store.load_case(case_id), folder)
        _tidy(keep=folder)
    os.utime(folder)
    return folder


def write_case(case: Case, folder: Path) -> None:
    """Encode every image of a case; the folder appears whole or not at all."""
    part = folder.with_name(f".{folder.name}.{os.getpid()}.{secrets.token_hex(4)}")
    part.mkdir(parents=True)
    try:
        images = [encode(image, part, n) for n, image in enumerate(case.images)]
        refused = [{"path": r.path, "reason": r.reason, "modality": r.modality} for r in case.refused]
        data = {"case_id": case.case_id, "patient_id": case.patient_id, "images": images, "refused": refused,
                "states": {m: case.state(m) for m in ("US", "CT", "MR")}}  # fmt: skip
        (part / "case.json").write_text(json.dumps(data))
        if not folder.exists():  # another session may have been faster
            part.rename(folder)
    except FileExistsError:
        pass
    finally:
        shutil.rmtree(part, ignore_errors=True)


def encode(image: Image, folder: Path, n: int) -> dict:
    """Write ``n.CHUNK.gz`` files of one image into ``folder`` and return what the browser must know of it."""
    common = {
        "index": n, "modality": image.modality, "role": image.role, "title": image.source.description or image.role.replace("_", " "),
        "series_uid": image.source.series_uid, "frame_of_reference": image.frame_of_reference,
        "simulated": image.source.simulated, "warnings": list(image.warnings),
    }  # fmt: skip
    if image.modality == "US":
        return common | _encode_cine(image, folder, n)
    view = view_of(image)
    flat = view.pixels.transpose(2, 1, 0)  # slices upward, rows to the back, columns to the patient's left
    low, high = float(flat.min()), float(flat.max())
    exact = low >= -32768 and high <= 32767 and _whole(image.pixels)
    slope = 1.0 if exact else max(high - low, 1e-6) / 65535
    intercept = 0.0 if exact else low + 32768 * slope

    def stored(part: np.ndarray) -> bytes:
        values = part if exact else np.rint((part - intercept) / slope).clip(-32768, 32767)
        return np.ascontiguousarray(values, dtype="<i2").tobytes()

    affine = image.affine if image.affine is not None else image.plane
    presets = WINDOWS["CT"] if image.modality == "CT" else {name: window_of(image, name) for name in WINDOWS["MR"]}
    return common | {
        "kind": "volume", "shape": list(flat.shape[::-1]), "slope": slope, "intercept": intercept, "unit": "HU" if image.modality == "CT" else "",
        "spacing": list(view.spacing), "presets": presets, "to_view": view.to_view.tolist(),
        "affine": (affine @ np.linalg.inv(view.to_view)).tolist() if affine is not None else None, "exact": view.exact,
        **_chunks(flat, stored, folder, n),
    }  # fmt: skip


def _encode_cine(image: Image, folder: Path, n: int) -> dict:
    t, h, w = image.pixels.shape[:3]
    regions = [{"box": list(r.box), "mm": list(r.mm_per_pixel)} for r in image.regions if r.kind in ("2d", "colour")]
    return {
        "kind": "cine", "shape": [w, h, t], "rgb": image.pixels.ndim == 4, "frame_ms": image.frame_ms, "presets": WINDOWS["US"],
        "pixel_mm": [float(v) for v in image.spacing] if image.spacing else None, "regions": regions,
        **_chunks(image.pixels, lambda part: np.ascontiguousarray(part, np.uint8).tobytes(), folder, n),
    }  # fmt: skip


def _whole(pixels: np.ndarray) -> bool:
    return all(np.array_equal(part, np.rint(part)) for part in np.array_split(pixels, max(1, pixels.size // (4 << 20))))


def _chunks(stack: np.ndarray, stored: Callable[[np.ndarray], bytes], folder: Path, n: int) -> dict:
    """Slices (or frames) in groups; the browser asks for the group that it shows first."""
    each = max(1, min(len(stack), CHUNK_VOXELS // max(1, stack[0].size)))

    def write(k: int) -> None:
        (folder / f"{n}.{k}.gz").write_bytes(igzip.compress(stored(stack[k * each : (k + 1) * each]), compresslevel=1))

    count = -(-len(stack) // each)
    list(_pool.map(write, range(count)))
    return {"per_chunk": each, "chunks": count}


def _tidy(keep: Path) -> None:
    """Oldest cases go first when the cache outgrows its limit: it can always be made anew."""
    folders = [f for f in _folder().iterdir() if f.is_dir() and not f.name.startswith(".")]
    sizes = {f: sum(p.stat().st_size for p in f.iterdir()) for f in folders}
    left = settings().viewer_cache_gib * 2**30
    for f in sorted(folders, key=lambda f: -f.stat().st_mtime):
        left -= sizes[f]
        if left < 0 and f != keep:
            shutil.rmtree(f, ignore_errors=True)


class Shelf:
    """Which folder a key opens, for which session, and until when. A key is 256 random bits and dies with its session."""

    HOURS = 8

    def __init__(self, alive: Callable[[str], bool]) -> None:
        self._alive = alive
        self._rows: dict[str, tuple[str, Path, float]] = {}

    def lay(self, session: str, folder: Path) -> str:
        """A key for this session; the same one again while it is good."""
        now = time.monotonic()
        self._rows = {k: r for k, r in self._rows.items() if r[2] > now and self._alive(r[0])}
        for key, (owner, where, _) in self._rows.items():
            if (owner, where) == (session, folder):
                return key
        key = secrets.token_urlsafe(32)
        self._rows[key] = (session, folder, now + 3600 * self.HOURS)
        return key

    def take(self, session: str) -> None:
        """Everything of a session goes, such as when its reader logs out."""
        self._rows = {k: r for k, r in self._rows.items() if r[0] != session}

    def find(self, key: str, name: str) -> Path | None:
        row = self._rows.get(key)
        if row is None or row[2] < time.monotonic() or not self._alive(row[0]):
            return None
        path = row[1] / name
        return path if path.parent == row[1] and path.suffix == ".gz" and path.exists() else None


def _session_lives(session: str) -> bool:
    from streamlit.runtime import Runtime

    return Runtime.exists() and Runtime.instance().is_active_session(session)


shelf = Shelf(_session_lives)
