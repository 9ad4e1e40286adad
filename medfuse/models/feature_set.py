"""Region features of many cases with their labels: what fusion trains on and what evaluation scores."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from tokenizers import Tokenizer
from torch import Tensor

from ..io.manifest import ManifestRow
from ..task import Task
from .baselines import LateConcat
from .features import CaseFeatures, collate
from .model import FusionModel
from .text import tokenize


@dataclass
class FeatureSet:
    """Features, labels (B, F) with -1 for unknown, report texts and ids of many cases, on the CPU. rephrased:
    the reports in phrasings that no training saw, where there are any."""

    case_ids: list[str]
    features: list[CaseFeatures]
    labels: np.ndarray
    reports: list[str]
    rephrased: list[str] = field(default_factory=list)

    def batch(self, sizes: dict[str, int]) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
        """All cases as one padded batch (see `collate`); sizes: features by modality."""
        return collate(self.features, tuple(sizes), sizes)

    def has(self, modality: str) -> Bool[np.ndarray, " b"]:
        """(B,) bool: which cases have a modality, by whichever encoder."""
        return np.array([f.has(modality) for f in self.features])

    def subset(self, keep: Bool[np.ndarray, " b"]) -> FeatureSet:
        """The cases where ``keep`` (B,) is true."""
        at = np.flatnonzero(keep)
        return FeatureSet(
            [self.case_ids[i] for i in at],
            [self.features[i] for i in at],
            self.labels[at],
            [self.reports[i] for i in at],
            [self.rephrased[i] for i in at] if self.rephrased else [],
        )


def label_matrix(task: Task, rows: list[ManifestRow]) -> Int64[np.ndarray, "b f"]:
    """(B, F) of 0, 1, -1 (unknown). A derived finding is 1 when any of its parts is, where the manifest is
    silent."""
    out = np.full((len(rows), len(task.findings)), -1, np.int64)
    for b, row in enumerate(rows):
        for f, finding in enumerate(task.findings):
            value = row.labels.get(finding.id)
            if value is None and finding.derived_from:
                parts = [row.labels.get(p) for p in finding.derived_from]
                value = 1 if any(p == 1 for p in parts) else 0 if all(p == 0 for p in parts) else None
            if value in (0, 1):  # what is only likely counts as unknown
                out[b, f] = int(value)
    return out


@dataclass
class FusionData:
    """One collated set with its labels and (optional) report tokens; everything indexes by case."""

    batch: dict[str, tuple[Tensor, Tensor, Tensor]]
    labels: Tensor
    ids: Tensor | None
    ids_mask: Tensor | None

    def pick(self, index: Int64[Tensor, " n"]) -> FusionData:
        """The cases of these numbers (N,)."""
        return FusionData(
            {m: tuple(t[index] for t in parts) for m, parts in self.batch.items()},  # type: ignore[misc]
            self.labels[index],
            None if self.ids is None else self.ids[index],
            None if self.ids_mask is None else self.ids_mask[index],
        )


def collect(
    task: Task, sizes: dict[str, int], features: FeatureSet, tokenizer: Tokenizer | None = None
) -> FusionData:
    """A feature set as one batch; with a tokenizer, its reports as tokens too."""
    ids = mask = None
    if tokenizer is not None and any(features.reports):
        ids, mask = tokenize(tokenizer, features.reports)
    return FusionData(features.batch(sizes), torch.from_numpy(features.labels), ids, mask)


@torch.no_grad()
def predict_logits(
    model: FusionModel | LateConcat,
    batch: dict[str, tuple[Tensor, Tensor, Tensor]],
    use: dict[str, Tensor] | None = None,
) -> Float[np.ndarray, "b f"]:
    """(B, F) logits in evaluation mode, in pieces."""
    model.eval()
    n = next(iter(batch.values()))[1].shape[0]
    out = []
    for at in torch.arange(n).split(256):
        piece = {m: (x[at], mask[at], kind[at]) for m, (x, mask, kind) in batch.items()}
        some = None if use is None else {m: u[at] for m, u in use.items()}
        out.append(model.logits(piece, some) if isinstance(model, LateConcat) else model(piece, some).logits)
    return torch.cat(out).numpy()
