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


Inputs = dict[str, list[VolumeInput | CineInput]]


def encode(
    encoders: nn.ModuleDict, inputs: Inputs, task: Task, device: torch.device, *, keep_dense: bool = True, bf16: bool = False
) -> tuple[CaseFeatures, list[DenseOutput]]:  # fmt: skip
    """Run every input through its modality's encoder and pool it into regions."""
    return encode_many(encoders, [inputs], task, device, keep_dense=keep_dense, bf16=bf16)[0]


@torch.no_grad()
def encode_many(
    encoders: nn.ModuleDict, cases: list[Inputs], task: Task, device: torch.device, *, keep_dense: bool = True, bf16: bool = False
) -> list[tuple[CaseFeatures, list[DenseOutput]]]:  # fmt: skip
    """As `encode`, of several cases: inputs of one shape pass an encoder together."""
    out: list[tuple[CaseFeatures, list[DenseOutput]]] = [(CaseFeatures(), []) for _ in cases]
    for modality in (m for m in task.modalities if any(m in c for c in cases)):
        encoder = encoders[modality]
        items = [(n, x) for n, c in enumerate(cases) for x in c.get(modality, [])]
        if task.whole_images:
            for n in dict.fromkeys(n for n, _ in items):
                tokens = np.concatenate([whole_tokens(encoder, x, device) for k, x in items if k == n])
                features = out[n][0]
                features.features[modality], features.mask[modality] = tokens, np.ones(len(tokens), bool)
                features.kind[modality] = np.zeros(len(tokens), np.int64)
            continue
        collected: dict[int, list[Regions]] = {}
        for together in _of_one_shape(items):
            pieces = [_network_input(x) for _, x in together]
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                logits, fine, deep = encoder(*(torch.cat(p).to(device) for p in zip(*pieces, strict=True)))
            start = 0
            for (n, item), (values, present) in zip(together, pieces, strict=True):
                at = slice(start, start + len(values))
                start += len(values)
                regions, dense = _pooled(
                    modality, item, values, present, logits[at], fine[at], deep[at], task, keep_dense
                )
                collected.setdefault(n, []).extend(regions)
                out[n][1].extend(dense)
        for n, regions in collected.items():
            out[n][0].add(modality, regions)
    return out


def _of_one_shape(items: list[tuple[int, VolumeInput | CineInput]]) -> list[list[tuple[int, VolumeInput | CineInput]]]:
    """Inputs of different cases whose shapes agree; those of one case stay in their order, one after the other."""
    groups: list[list[tuple[int, VolumeInput | CineInput]]] = []
    for n, item in items:
        shape = item.values.shape[-3:] if isinstance(item, VolumeInput) else item.values.shape[-2:]
        for group in groups:
            first = group[0][1]
            same = first.values.shape[-len(shape) :] == shape and type(first) is type(item)
            if same and all(k != n for k, _ in group):
                group.append((n, item))
                break
        else:
            groups.append([(n, item)])
    return groups


def _network_input(item: VolumeInput | CineInput) -> tuple[torch.Tensor, torch.Tensor]:
    """values (B, R, *S) float32 and present (B, R): one volume, or the frames of a cine."""
    if isinstance(item, CineInput):
        return torch.from_numpy(item.values)[:, None].float(), torch.ones(len(item.values), 1, dtype=torch.bool)
    return torch.from_numpy(item.values)[None].float(), torch.from_numpy(item.present)[None]


def _pooled(
    modality: str, item: VolumeInput | CineInput, values, present, logits, fine, deep, task: Task, keep_dense: bool
) -> tuple[list[Regions], list[DenseOutput]]:
    """Regions of every frame (or of the volume), and the dense predictions that lesions and evidence come from."""
    organ, lesions = task.dense.index(task.organ), task.lesion_indices
    collected, dense = [], []
    for t in range(len(values)):
        regions, p, components = extract(
            values[t], present[t], logits[t], fine[t], deep[t], organ=organ, lesions=lesions
        )
        regions.frame[:] = t
        collected.append(regions)
        if keep_dense:
            per_class = np.array(
                [(p[(slice(None), *box)] * mask).reshape(len(p), -1).sum(1) / mask.sum() for mask, box in components]
            ).reshape(len(components), len(p))
            label = p.argmax(0).astype(np.uint8)
            dense.append(DenseOutput(modality, item, t, label, p[lesions].sum(0), components, per_class))
    return collected, dense


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
