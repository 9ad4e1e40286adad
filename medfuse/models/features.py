"""Inputs → region features of a whole case, and the dense predictions that lesions and evidence come from."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from ..preprocess.tensors import CineInput, VolumeInput
from ..task import Task
from .regions import MAX_LESIONS, Regions, extract


@dataclass
class DenseOutput:
    """Dense prediction of one input (volume, or one frame of a cine).

    label: (*S) uint8 most probable class; lesion_probability: (*S) float32; components: lesion masks in their boxes,
    with class_probability (L, K) of each; frame: network frame of a cine, 0 for a volume.
    """

    modality: str
    source: VolumeInput | CineInput
    frame: int
    label: np.ndarray
    lesion_probability: np.ndarray
    components: list[tuple[np.ndarray, tuple[slice, ...]]]
    class_probability: np.ndarray


@dataclass
class CaseFeatures:
    """Region features by modality: features (N, F), mask (N,), kind (N,), frame (N,). Absent modalities have no entry."""

    features: dict[str, np.ndarray] = field(default_factory=dict)
    mask: dict[str, np.ndarray] = field(default_factory=dict)
    kind: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, modality: str, regions: list[Regions]) -> None:
        self.features[modality] = np.concatenate([r.features for r in regions]).astype(np.float32)
        self.mask[modality] = np.concatenate([r.valid for r in regions])
        self.kind[modality] = np.concatenate([r.kind for r in regions])


def regions_per_input(task: Task) -> int:
    return len(task.dense) - 1 - len(task.lesion_classes) + MAX_LESIONS


@torch.no_grad()
def encode(
    encoders: nn.ModuleDict,
    inputs: dict[str, list[VolumeInput | CineInput]],
    task: Task,
    device: torch.device,
    *,
    keep_dense: bool = True,
    bf16: bool = False,
) -> tuple[CaseFeatures, list[DenseOutput]]:
    """Run every input through its modality's encoder and pool it into regions."""
    out = CaseFeatures()
    dense: list[DenseOutput] = []
    if task.whole_images:
        for modality, items in inputs.items():
            tokens = np.concatenate([whole_tokens(encoders[modality], i, device) for i in items])
            out.features[modality] = tokens
            out.mask[modality] = np.ones(len(tokens), bool)
            out.kind[modality] = np.zeros(len(tokens), np.int64)
        return out, dense
    organ, lesions = task.dense.index(task.organ), task.lesion_indices
    for modality, items in inputs.items():
        encoder, collected = encoders[modality], []
        for item in items:
            if isinstance(item, CineInput):
                values = torch.from_numpy(item.values)[:, None].float()
                present = torch.ones(len(values), 1, dtype=torch.bool)
            else:
                values = torch.from_numpy(item.values)[None].float()
                present = torch.from_numpy(item.present)[None]
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                logits, fine, deep = encoder(values.to(device), present.to(device))
            for t in range(len(values)):
                regions, p, components = extract(
                    values[t], present[t], logits[t], fine[t], deep[t], organ=organ, lesions=lesions
                )
                regions.frame[:] = t
                collected.append(regions)
                if keep_dense:
                    lesion_p = p[lesions].sum(0)
                    per_class = np.array(
                        [
                            (p[(slice(None), *box)] * mask).reshape(len(p), -1).sum(1) / mask.sum()
                            for mask, box in components
                        ]
                    ).reshape(len(components), len(p))
                    dense.append(
                        DenseOutput(modality, item, t, p.argmax(0).astype(np.uint8), lesion_p, components, per_class)
                    )
        out.add(modality, collected)
    return out, dense


def whole_tokens(encoder: nn.Module, item: VolumeInput | CineInput, device: torch.device) -> np.ndarray:
    """(N, C) tokens of a volume, or of all frames of a cine one after the other."""
    values = torch.from_numpy(item.values).float()
    if isinstance(item, CineInput):
        return encoder(values[:, None].to(device)).float().cpu().flatten(0, 1).numpy()
    present = torch.from_numpy(item.present)[None]
    return encoder(values[None].to(device), present.to(device)).float().cpu()[0].numpy()


def collate(cases: list[CaseFeatures], modalities: tuple[str, ...], sizes: dict[str, int]) -> dict[str, tuple]:
    """Pad a batch: {modality: (features (B, N, F), mask (B, N), kind (B, N))}; absent modalities get all-False masks.

    Only regions that exist are kept, so N is the largest number of them in the batch (at least 1).
    """
    batch = {}
    for m in modalities:
        n = max([int(c.mask[m].sum()) for c in cases if m in c.mask] + [1])
        features = np.zeros((len(cases), n, sizes[m]), np.float32)
        mask = np.zeros((len(cases), n), bool)
        kind = np.zeros((len(cases), n), np.int64)
        for b, c in enumerate(cases):
            if m in c.mask:
                k = int(c.mask[m].sum())
                features[b, :k] = c.features[m][c.mask[m]]
                kind[b, :k] = c.kind[m][c.mask[m]]
                mask[b, :k] = True
        batch[m] = (torch.from_numpy(features), torch.from_numpy(mask), torch.from_numpy(kind))
    return batch
