"""Region features of a whole manifest, extracted once with frozen encoders and cached: fusion then trains in
minutes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import nn

from ...modalities import is_cine
from ...models.feature_set import FeatureSet, label_matrix
from ...models.features import CaseFeatures, encode
from ...models.precision import has_bf16
from ...models.senses import add_senses
from ...preprocess.tensors import CineInput, VolumeInput
from ...task import Task
from ..identity import Identity, opened, weights_digest, written_whole
from ..pool import spawned
from .tensors import PreparedCases, load_input

Progress = Callable[[int, int], None]

# cases that a process is handed at a time
CHUNK = 16


def _inputs(task: Task, folder: Path, modality: str, names: list[str]) -> list[VolumeInput | CineInput]:
    items: list[VolumeInput | CineInput] = []
    for name in names:
        values, present, _ = load_input(folder, name, len(task.modalities[modality].roles))
        wide = values.astype(np.float32)
        if is_cine(modality):
            items.append(CineInput(wide, 1.0, (0, 0), None, tuple(range(len(wide))), 0))
        else:
            items.append(VolumeInput(modality, wide, present, np.eye(4), "", ()))
    return items


def _one(
    task: Task, encoders: nn.ModuleDict, folder: Path, modality: str, names: list[str], device: torch.device
) -> CaseFeatures:
    inputs = {modality: _inputs(task, folder, modality, names)} if names else {}
    # bfloat16 rounds features by less than the noise that fusion training adds to them
    return encode(encoders, inputs, task, device, keep_dense=False, bf16=has_bf16(device))[0]


def _chunk(job: tuple) -> list[CaseFeatures]:
    task, encoder, folder, modality, files = job
    torch.set_num_threads(1)
    encoders = nn.ModuleDict({modality: encoder})
    return [_one(task, encoders, folder, modality, names, torch.device("cpu")) for names in files]


def _one_modality(
    task: Task,
    encoders: nn.ModuleDict,
    folder: Path,
    modality: str,
    files: list[list[str]],
    device: torch.device,
    workers: int,
    progress: Progress,
) -> list[CaseFeatures]:
    out: list[CaseFeatures] = []
    if device.type == "cpu" and (workers <= 1 or len(files) <= CHUNK):  # one chunk keeps one process busy
        for names in files:
            out.append(_one(task, encoders, folder, modality, names, device))
            progress(len(out), len(files))
        return out
    if device.type == "cpu":
        jobs = [
            (task, encoders[modality], folder, modality, files[i : i + CHUNK])
            for i in range(0, len(files), CHUNK)
        ]
        with spawned(workers) as pool:
            for part in pool.map(_chunk, jobs):
                out += part
                progress(len(out), len(files))
        return out
    with ThreadPoolExecutor(8) as pool:  # reading and pooling overlap the GPU
        for one in pool.map(
            _one, repeat(task), repeat(encoders), repeat(folder), repeat(modality), files, repeat(device)
        ):
            out.append(one)
            progress(len(out), len(files))
    return out


def extract_features(
    task: Task,
    encoders: nn.ModuleDict,
    cases: PreparedCases,
    *,
    device: torch.device,
    cache: Path | None,
    workers: int = 1,
    progress: Callable[[str, int, int], None] = lambda modality, done, total: None,
    modalities: tuple[str, ...] | None = None,
) -> FeatureSet:
    """Run the frozen encoders over preprocessed cases, one modality after the other, each cached in ``cache``
    where one is given. A cache of other cases, images or weights is made anew."""
    rows = cases.rows
    merged = [CaseFeatures() for _ in rows]
    for modality in modalities or task.own_senses:
        files = [e["files"].get(modality, []) for e in cases.entries]
        made_from = Identity.of(
            {
                "the cases": [e["case_id"] for e in cases.entries],
                "the images": [cases.folder.name, files],
                "the task's settings of the modality": task.modalities[modality].model_dump(mode="json"),
                "the task's classes": [task.dense, task.lesion_classes, task.organ],
                "the encoder's weights": weights_digest(encoders[modality].state_dict()),
            }
        )
        path = None if cache is None else cache / f"features_{modality}.safetensors"
        found = None if path is None else read_features(path, modality, len(files), made_from)
        if found is None:

            def show(done: int, total: int, m: str = modality) -> None:
                progress(m, done, total)

            found = _one_modality(task, encoders, cases.folder, modality, files, device, workers, show)
            if path is not None:
                write_features(path, modality, found, made_from)
        for case, one in zip(merged, found, strict=True):
            case.add_all(one)
    for case, row in zip(merged, rows, strict=True):
        add_senses(case, task.further, row)
    return FeatureSet([r.case_id for r in rows], merged, label_matrix(task, rows), [r.report for r in rows])


def write_features(path: Path, modality: str, cases: list[CaseFeatures], made_from: Identity) -> None:
    """Tokens of all cases one after the other, and how many each has; -1 where it lacks the modality."""
    there = [c for c in cases if modality in c.mask]
    counts = [len(c.mask[modality]) if modality in c.mask else -1 for c in cases]
    tensors = {"counts": np.array(counts, np.int64)}
    if there:
        tensors["features"] = np.concatenate([c.features[modality] for c in there])
        tensors["mask"] = np.concatenate([c.mask[modality] for c in there])
        tensors["kind"] = np.concatenate([c.kind[modality] for c in there])
    written_whole(path, lambda part: save_file(tensors, part, made_from.metadata))


def read_features(path: Path, modality: str, cases: int, made_from: Identity) -> list[CaseFeatures] | None:
    """What `write_features` wrote; None where there is no such file or it was made from something else."""
    if not path.exists():
        return None
    with opened(path, "np") as file:
        if made_from.differences(file.metadata()):
            return None
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    counts = tensors["counts"].tolist()
    ends = np.cumsum(np.maximum(counts, 0)).tolist()
    out = [CaseFeatures() for _ in range(cases)]
    for case, count, end in zip(out, counts, ends, strict=True):
        if count >= 0:
            part = slice(end - count, end)
            case.features[modality] = tensors["features"][part]
            case.mask[modality] = tensors["mask"][part]
            case.kind[modality] = tensors["kind"][part]
    return out
