"""Region features of a whole manifest, extracted once with frozen encoders and cached: fusion then trains in minutes."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..evaluation.feature_set import FeatureSet, label_matrix
from ..io.manifest import ManifestRow
from ..models.features import CaseFeatures, encode
from ..models.precision import has_bf16
from ..models.senses import add_senses
from ..preprocess.tensors import CineInput, VolumeInput
from ..task import Task
from .data import load_input

Progress = Callable[[int, int], None]


def _inputs(task: Task, folder: Path, modality: str, names: list[str]) -> list[VolumeInput | CineInput]:
    items: list[VolumeInput | CineInput] = []
    for name in names:
        values, present, _ = load_input(folder, name, len(task.modalities[modality].roles))
        wide = values.astype(np.float32)
        if modality == "US":
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
    task: Task, encoders: nn.ModuleDict, folder: Path, modality: str, files: list[list[str]], device: torch.device, workers: int, progress: Progress
) -> list[CaseFeatures]:  # fmt: skip
    out: list[CaseFeatures] = []
    if device.type == "cpu":
        size = 16
        jobs = [(task, encoders[modality], folder, modality, files[i : i + size]) for i in range(0, len(files), size)]
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
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
    folder: Path,
    entries: list[dict],
    rows: list[ManifestRow],
    *,
    device: torch.device,
    cache: Path | None,
    workers: int = 1,
    progress: Callable[[str, int, int], None] = lambda modality, done, total: None,
    modalities: tuple[str, ...] | None = None,
) -> FeatureSet:
    """Run the frozen encoders over preprocessed cases, one modality after the other, each cached in ``cache`` where one is given."""
    merged = [CaseFeatures() for _ in entries]
    for modality in modalities or task.image_senses:
        path = None if cache is None else cache / f"features_{modality}.pkl"
        if path is not None and path.exists():
            found = pickle.loads(path.read_bytes())
        else:
            files = [e["files"].get(modality, []) for e in entries]

            def show(done: int, total: int, m: str = modality) -> None:
                progress(m, done, total)

            found = _one_modality(task, encoders, folder, modality, files, device, workers, show)
            if path is not None:
                path.write_bytes(pickle.dumps(found))
        for case, one in zip(merged, found, strict=True):
            case.features |= one.features
            case.mask |= one.mask
            case.kind |= one.kind
    for case, row in zip(merged, rows, strict=True):
        add_senses(case, task.further, row)
    return FeatureSet([r.case_id for r in rows], merged, label_matrix(task, rows), [r.report for r in rows])
