"""Manifest → preprocessed tensors on disk, once; training reads crops of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from ..io.manifest import ManifestRow, load_row
from ..preprocess.prepare import prepare
from ..preprocess.tensors import CineInput
from ..task import Task


def cache_key(task: Task, rows: list[ManifestRow]) -> str:
    """Of what preprocessing depends on: the network grids, and the images with their roles and label maps."""
    specs = {m: s.model_dump(exclude={"filters", "mirror"}) for m, s in task.modalities.items()}
    images = [[i.model_dump() for i in r.images] for r in rows]
    text = json.dumps([specs, images, rows[0].root])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _one(args: tuple[Task, ManifestRow, str]) -> dict:
    task, row, folder = args
    case, masks = load_row(row, with_masks=True)
    files: dict[str, list[str]] = {}
    for modality, inputs in prepare(case, task, masks).items():
        for n, x in enumerate(inputs):
            path = Path(folder) / f"{row.case_id}_{modality}_{n}.npz"
            dense = x.dense if x.dense is not None else np.zeros(0, np.uint8)
            if isinstance(x, CineInput):
                arrays = {"values": x.values.astype(np.float16), "present": np.ones(1, bool)}
            else:  # only the acquired roles are kept on disk
                arrays = {"values": x.values[x.present].astype(np.float16), "present": x.present}
            np.savez(path, dense=dense, values=arrays["values"], present=arrays["present"])
            files.setdefault(modality, []).append(path.name)
    refused = [f"{r.path}: {r.reason}" for r in case.refused]
    return {"case_id": row.case_id, "files": files, "refused": refused}


def preprocess_manifest(
    task: Task,
    rows: list[ManifestRow],
    cache: Path,
    *,
    workers: int = 2,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Path, list[dict]]:
    """Preprocess every row into ``cache``/KEY (reused when complete) and return the folder and its index."""
    folder = cache / cache_key(task, rows)
    index = folder / "index.json"
    if index.exists():
        return folder, json.loads(index.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [(task, row, str(folder)) for row in rows]
    entries = []
    if workers <= 1:
        for job in jobs:
            entries.append(_one(job))
            progress(len(entries), len(rows))
    else:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            for entry in pool.map(_one, jobs, chunksize=4):
                entries.append(entry)
                progress(len(entries), len(rows))
    index.write_text(json.dumps(entries))
    return folder, entries


def load_input(folder: Path, name: str, roles: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """values (R, X, Y, Z) or (T, S, S) float16, present (R,), dense uint8 (empty where unknown)."""
    with np.load(folder / name) as z:
        values, present, dense = z["values"], z["present"], z["dense"]
    if len(present) == roles and values.ndim == 4:
        full = np.zeros((roles, *values.shape[1:]), np.float16)
        full[present] = values
        values = full
    return values, present, dense
