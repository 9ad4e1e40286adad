"""Manifest → preprocessed tensors on disk, once; training reads crops of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import RootModel, ValidationError
from typing_extensions import TypedDict

from ...errors import UserError, fault_of
from ...io.manifest import ManifestRow
from ...io.names import plain_name
from ...io.rows import labelled
from ...preprocess.prepare import prepare
from ...preprocess.tensors import CineInput
from ...task import Task
from ..identity import Identity, files_of
from ..pool import spawned

VERSION = 2  # of what this file writes: another one is preprocessed anew

# cases that are prepared in the time a further process takes to start; fewer are prepared here
FEW = 8


class Preprocessed(TypedDict):
    """One case of a preprocessed manifest: names of its tensors by modality, and what was refused."""

    case_id: str
    files: dict[str, list[str]]
    refused: list[str]


@dataclass(frozen=True, kw_only=True)
class PreparedCases:
    """Rows of a manifest whose tensors lie in ``folder`` under the names that ``entries`` say, one a row."""

    rows: list[ManifestRow]
    folder: Path
    entries: list[Preprocessed]


class TensorIndex(RootModel[list[Preprocessed]]):
    """index.json beside the tensors: every case of the manifest, in its order."""


def _read_index(path: Path) -> list[Preprocessed]:
    try:
        return TensorIndex.model_validate_json(path.read_bytes()).root
    except ValidationError as e:
        raise UserError(f"{path}: is damaged ({fault_of(e)}); remove it to preprocess anew") from e


def cache_key(task: Task, rows: list[ManifestRow]) -> str:
    """Of what preprocessing depends on: the network grids, the images with their roles and label maps, and
    size and time of change of their files."""
    specs = {
        m: s.model_dump(exclude={"filters", "mirror", "encoder", "crop", "beam"})
        for m, s in task.modalities.items()
        if task.has_own(m)
    }
    images = [[i.model_dump() for i in r.images] for r in rows]
    made_from = Identity.of(
        {
            "the task": specs,
            "the images": images,
            "the folder": str(rows[0].root),
            "their files": files_of(rows),
            "the version": VERSION,
        }
    )
    return made_from.digest[:16]


def _one(args: tuple[Task, ManifestRow, str]) -> Preprocessed:
    task, row, folder = args
    known = labelled(row)
    for place, mask in known.masks.items():
        if task.dense and int(mask.max(initial=0)) >= len(task.dense):
            raise UserError(
                f"{row.at}: the label map of {known.case.images[place].source.path} holds class "
                f"{int(mask.max())}, and dense of the task ends at {len(task.dense) - 1}; map its "
                "classes onto those"
            )
    files: dict[str, list[str]] = {}
    for modality, inputs in prepare(known.case, task, known.masks).items():
        for n, x in enumerate(inputs):
            path = Path(folder) / f"{plain_name(row.case_id)}_{modality}_{n}.npz"
            dense = x.dense if x.dense is not None else np.zeros(0, np.uint8)
            if isinstance(x, CineInput):
                arrays = {"values": x.values.astype(np.float16), "present": np.ones(1, bool)}
            else:  # only the acquired roles are kept on disk
                arrays = {"values": x.values[x.present].astype(np.float16), "present": x.present}
            np.savez(path, dense=dense, values=arrays["values"], present=arrays["present"])
            files.setdefault(modality, []).append(path.name)
    refused = [f"{r.path}: {r.reason}" for r in known.case.refused]
    return Preprocessed(case_id=row.case_id, files=files, refused=refused)


def preprocess_manifest(
    task: Task,
    rows: list[ManifestRow],
    cache: Path,
    *,
    workers: int = 2,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Path, list[Preprocessed]]:
    """Preprocess every row into ``cache``/KEY (reused when complete) and return the folder and its index."""
    folder = cache / cache_key(task, rows)
    index = folder / "index.json"
    if index.exists():
        return folder, _read_index(index)
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [(task, row, str(folder)) for row in rows]
    entries = []
    if workers <= 1 or len(jobs) <= FEW:
        for job in jobs:
            entries.append(_one(job))
            progress(len(entries), len(rows))
    else:
        with spawned(workers) as pool:
            for entry in pool.map(_one, jobs, chunksize=4):
                entries.append(entry)
                progress(len(entries), len(rows))
    index.write_text(json.dumps(entries), encoding="utf-8")
    return folder, entries


def has_labels(folder: Path, name: str) -> bool:
    """Whether a tensor has a label map."""
    with np.load(folder / name) as z:
        return bool(z["dense"].size)


def load_input(folder: Path, name: str, roles: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """values (R, X, Y, Z) or (T, S, S) float16, present (R,), dense uint8 (empty where unknown)."""
    with np.load(folder / name) as z:
        values = z["values"]
        present = z["present"]
        dense = z["dense"]
    if len(present) == roles and values.ndim == 4:
        full = np.zeros((roles, *values.shape[1:]), np.float16)
        full[present] = values
        values = full
    return values, present, dense
