"""Baselines reported next to every fusion result: single modalities, logistic stack, late concatenation."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ...bundles.bundle import round_to_half
from ...models.baselines import LateConcat, LogitStack
from ...models.feature_set import FeatureSet, collect, predict_logits
from ...models.model import FusionModel, ModelConfig
from ...models.subsets import subsets
from ...task import Task
from ..options import TrainOptions
from .fusion import FusionTraining, train_fusion


@dataclass
class Baselines:
    """Single-modality models by modality, the logistic stack on their logits, and late concatenation; none
    where there is one sense."""

    config: ModelConfig
    singles: dict[str, FusionModel] = field(default_factory=dict)
    stack: LogitStack = field(default_factory=LogitStack)
    late: LateConcat | None = None


def train_baselines(
    task: Task, train: FeatureSet, val: FeatureSet, config: ModelConfig, options: TrainOptions, minutes: float
) -> Baselines:
    """Single-modality models, the logistic stack on their validation logits, and late concatenation.
    ``minutes`` for all of them together, where ``options`` gives no exact steps of each."""
    singles = {}
    val_logits = {}
    share = minutes / (len(task.senses) + 1)
    how = FusionTraining(seed=options.seed, max_epochs=40)
    for m in task.senses:
        model = FusionModel(task, config, modalities=(m,), encoders=False)
        sets = [s.subset(s.has(m)) if s.has(m).any() else s for s in (train, val)]
        data = [collect(task, model.sizes, s) for s in sets]
        train_fusion(model, *data, budget=options.fusion_budget(share), how=how)
        round_to_half(model)
        singles[m] = model
        val_logits[m] = predict_logits(model, collect(task, model.sizes, val).batch)
    stack = LogitStack()
    for s in subsets(task.senses):
        there = np.all([val.has(m) for m in s], axis=0)
        if there.sum() >= 4:
            stack.fit(s, {m: val_logits[m][there] for m in s}, np.maximum(val.labels[there], 0))
    late = LateConcat(task, config)
    train_fusion(
        late,
        collect(task, late.sizes, train),
        collect(task, late.sizes, val),
        budget=options.fusion_budget(share),
        how=how,
    )
    round_to_half(late)
    return Baselines(config, singles, stack, late)
