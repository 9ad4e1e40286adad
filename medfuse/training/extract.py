"""Region features of a whole manifest, extracted once with frozen encoders and cached: fusion then trains in minutes."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..evaluation.feature_set import FeatureSet, label_matrix
from ..io.manifest import ManifestRow
from ..models.features import encode
from ..preprocess.tensors import CineInput, VolumeInput
from ..task import Task
from .data import load_input


def _inputs(task: Task, folder: Path, files: dict[str, list[str]]) -> dict[str, list[VolumeInput | CineInput]]:
    inputs: dict[str, list[VolumeInput | CineInput]] = {}
    for modality, names in files.items():
        for name in names:
            values, present, _ = load_input(folder, name, len(task.modalities[modality].roles))
            item: VolumeInput | CineInput
            if modality == "US":
                item = CineInput(values.astype(np.float32), 1.0, (0, 0), None, tuple(range(len(values))), 0)
            else:
                item = VolumeInput(modality, values.astype(np.float32), present, np.eye(4), "", ())
            inputs.setdefault(modality, []).append(item)
    return inputs


def extract_features(
    task: Task,
    encoders: nn.ModuleDict,
    folder: Path,
    entries: list[dict],
    rows: list[ManifestRow],
    *,
    device: torch.device,
    cache: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> FeatureSet:
    """Run the frozen encoders over preprocessed cases. Reading overlaps the network."""
    if cache is not None and cache.exists():
        with cache.open("rb") as f:
            return pickle.load(f)
    features = []
    with ThreadPoolExecutor(1) as pool:
        ahead = [pool.submit(_inputs, task, folder, e["files"]) for e in entries[:2]]
        for i in range(len(entries)):
            if i + 2 < len(entries):
                ahead.append(pool.submit(_inputs, task, folder, entries[i + 2]["files"]))
            one, _ = encode(encoders, ahead[i].result(), task, device, keep_dense=False)
            ahead[i] = None  # type: ignore[call-overload]
            features.append(one)
            progress(i + 1, len(entries))
    out = FeatureSet([r.case_id for r in rows], features, label_matrix(task, rows), [r.report for r in rows])
    if cache is not None:
        with cache.open("wb") as f:
            pickle.dump(out, f)
    return out
