"""Inputs → region features of a whole case, and the dense predictions that lesions and evidence come from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch import nn

from ..preprocess.beam import frame_channels
from ..preprocess.tensors import CineInput, VolumeInput
from ..task import ModalityTask, Task, modality_of_key
from .encoders import in_windows
from .regions import MAX_LESIONS, Component, Regions, extract


@dataclass
class DenseOutput:
    """Dense prediction of one input (volume, or one frame of a cine).

    label: (*S) uint8 most probable class; lesion_probability: (*S) float32; components: lesion masks in their
        boxes, with class_probability (L, K) of each; frame: network frame of a cine, 0 for a volume.
    """

    modality: str
    source: VolumeInput | CineInput
    frame: int
    label: np.ndarray
    lesion_probability: np.ndarray
    components: list[Component]
    class_probability: np.ndarray


@dataclass
class CaseFeatures:
    """Region features by modality: features (N, F), mask (N,), kind (N,), frame (N,). Absent modalities have
    no entry."""

    features: dict[str, np.ndarray] = field(default_factory=dict)
    mask: dict[str, np.ndarray] = field(default_factory=dict)
    kind: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, modality: str, regions: list[Regions]) -> None:
        """Set the regions of one modality, of all its inputs."""
        self.features[modality] = np.concatenate([r.features for r in regions]).astype(np.float32)
        self.mask[modality] = np.concatenate([r.valid for r in regions])
        self.kind[modality] = np.concatenate([r.kind for r in regions])

    def has(self, modality: str) -> bool:
        """Whether there are tokens of a modality, by whichever encoder."""
        return any(m.any() for key, m in self.mask.items() if modality_of_key(key) == modality)

    def add_all(self, other: CaseFeatures) -> None:
        """Take in the tokens of another record of the same case."""
        self.features |= other.features
        self.mask |= other.mask
        self.kind |= other.kind

    def add_whole(self, modality: str, tokens: list[np.ndarray]) -> None:
        """Set the tokens (N, F) of one modality, of all its inputs, where the task has no regions."""
        together = np.concatenate(tokens)
        self.features[modality] = together
        self.mask[modality] = np.ones(len(together), bool)
        self.kind[modality] = np.zeros(len(together), np.int64)


def regions_per_input(task: Task) -> int:
    """How many regions a volume or frame has: classes beside the lesions, and lesion candidates."""
    return len(task.dense) - 1 - len(task.lesion_classes) + MAX_LESIONS


Inputs = dict[str, list[VolumeInput | CineInput]]


def encode(
    encoders: nn.ModuleDict,
    inputs: Inputs,
    task: Task,
    device: torch.device,
    *,
    keep_dense: bool = True,
    bf16: bool = False,
) -> tuple[CaseFeatures, list[DenseOutput]]:
    """Run every input through its modality's encoder and pool it into regions."""
    return encode_many(encoders, [inputs], task, device, keep_dense=keep_dense, bf16=bf16)[0]


@torch.no_grad()
def encode_many(
    encoders: nn.ModuleDict,
    cases: list[Inputs],
    task: Task,
    device: torch.device,
    *,
    keep_dense: bool = True,
    bf16: bool = False,
) -> list[tuple[CaseFeatures, list[DenseOutput]]]:
    """As `encode`, of several cases: inputs of one shape pass an encoder together."""
    out: list[tuple[CaseFeatures, list[DenseOutput]]] = [(CaseFeatures(), []) for _ in cases]
    for modality in (m for m in task.modalities if any(m in c for c in cases)):
        encoder = encoders[modality]
        items = [(n, x) for n, c in enumerate(cases) for x in c.get(modality, [])]
        if task.whole_images:
            tokens: dict[int, list[np.ndarray]] = {}
            for n, item in items:
                tokens.setdefault(n, []).append(whole_tokens(encoder, item, device))
            for n, found in tokens.items():
                out[n][0].add_whole(modality, found)
            continue
        collected: dict[int, list[Regions]] = {}
        for together in _of_one_shape(items):
            maps = _encoded(encoder, [x for _, x in together], task.modalities[modality], device, bf16=bf16)
            for (n, item), one in zip(together, maps, strict=True):
                regions, dense = _pooled(modality, item, one, task, keep_dense=keep_dense)
                collected.setdefault(n, []).extend(regions)
                out[n][1].extend(dense)
        for n, regions in collected.items():
            out[n][0].add(modality, regions)
    return out


@dataclass(frozen=True, kw_only=True)
class _Maps:
    """One input as its encoder saw it, and what it gave: values (B, R, *S), present (B, R), logits
    (B, K, *S), fine (B, C, *S), deep (B, 8C, *S/8); B is 1, or the frames of a cine."""

    values: torch.Tensor
    present: torch.Tensor
    logits: torch.Tensor
    fine: torch.Tensor
    deep: torch.Tensor


def _encoded(
    encoder: nn.Module,
    items: list[VolumeInput | CineInput],
    spec: ModalityTask,
    device: torch.device,
    *,
    bf16: bool,
) -> Iterator[_Maps]:
    """Inputs of one shape through an encoder in one pass."""
    window = spec.window if isinstance(items[0], VolumeInput) else None
    run = encoder if window is None else partial(in_windows, encoder, window)
    pieces = [network_input(x, spec) for x in items]
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        logits, fine, deep = run(*(torch.cat(p).to(device) for p in zip(*pieces, strict=True)))
    start = 0
    for values, present in pieces:
        at = slice(start, start + len(values))
        start += len(values)
        yield _Maps(values=values, present=present, logits=logits[at], fine=fine[at], deep=deep[at])


def _of_one_shape(
    items: list[tuple[int, VolumeInput | CineInput]],
) -> list[list[tuple[int, VolumeInput | CineInput]]]:
    """Inputs of different cases whose shapes agree; those of one case stay in their order, one after the
    other."""
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


def network_input(item: VolumeInput | CineInput, spec: ModalityTask) -> tuple[torch.Tensor, torch.Tensor]:
    """values (B, R, *S) float32 and present (B, R): one volume, or the frames of a cine, with what lies along
    their beams where the task asks for it."""
    if isinstance(item, CineInput):
        values = torch.from_numpy(frame_channels(item.values, beam=spec.beam)).float()
        return values, torch.ones(values.shape[:2], dtype=torch.bool)
    return torch.from_numpy(item.values)[None].float(), torch.from_numpy(item.present)[None]


def _pooled(
    modality: str, item: VolumeInput | CineInput, maps: _Maps, task: Task, *, keep_dense: bool
) -> tuple[list[Regions], list[DenseOutput]]:
    """Regions of every frame (or of the volume), and the dense predictions that lesions and evidence come
    from."""
    lesions = task.lesion_indices
    collected = []
    dense = []
    for t in range(len(maps.values)):
        regions, p, components = extract(
            maps.values[t],
            maps.present[t],
            maps.logits[t],
            maps.fine[t],
            maps.deep[t],
            organ=task.organ_index,
            lesions=lesions,
        )
        regions.frame[:] = t
        collected.append(regions)
        if keep_dense:
            per_class = np.array(
                [
                    (p[(slice(None), *box)] * mask).reshape(len(p), -1).sum(1) / mask.sum()
                    for mask, box in components
                ]
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


def collate(
    cases: list[CaseFeatures], modalities: tuple[str, ...], sizes: dict[str, int]
) -> dict[str, tuple]:
    """Pad a batch: {modality: (features (B, N, F), mask (B, N), kind (B, N))}; absent modalities get
    all-False masks.

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
