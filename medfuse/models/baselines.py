"""The simple ways of combining that any fusion must be shown beside."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..task import Task
from .model import FusionModel, ModelConfig, pool


class LateConcat(FusionModel):
    """Each modality pooled on its own, vectors side by side (zeros where absent), one perceptron."""

    def __init__(self, task: Task, config: ModelConfig) -> None:
        super().__init__(task, config, encoders=False)
        del self.fusion, self.text, self.projection, self.log_scale, self.bias
        n = len(self.task_modalities)
        w = config.width
        self.head = nn.Sequential(
            nn.LayerNorm(2 * w * n + n),
            nn.Dropout(config.dropout),
            nn.Linear(2 * w * n + n, 2 * w),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(2 * w, len(task.findings)),
        )

    def logits(
        self, batch: dict[str, tuple[Tensor, Tensor, Tensor]], use: dict[str, Tensor] | None = None
    ) -> Float[Tensor, "b f"]:
        """Scores (B, F) of a batch; arguments as of `FusionModel.forward`."""
        tokens = self.tokens(batch, use)
        present = torch.stack([t.present for t in tokens.values()], 1).float()
        return self.head(torch.cat([*[pool(t) for t in tokens.values()], present], -1))


class LogitStack:
    """Logistic regression on the logits of separately trained single-modality models, one a subset and
    finding."""

    def __init__(self, coefficients: dict[str, np.ndarray] | None = None) -> None:
        self.coefficients = coefficients or {}

    def fit(
        self, subset: tuple[str, ...], logits: dict[str, np.ndarray], labels: Int[np.ndarray, "b f"]
    ) -> None:
        """logits: {modality: (B, findings)} of validation cases; labels (B, findings)."""
        from sklearn.linear_model import LogisticRegression  # only training fits; it takes long to import

        x = np.stack([logits[m] for m in subset], -1)
        rows = []
        for f in range(labels.shape[1]):
            y = labels[:, f]
            if len(np.unique(y)) < 2:
                rows.append(np.r_[np.full(len(subset), 1 / len(subset)), 0.0])
                continue
            fitted = LogisticRegression(C=1.0).fit(x[:, f], y)
            rows.append(np.r_[fitted.coef_[0], fitted.intercept_])
        self.coefficients["+".join(subset)] = np.stack(rows).astype(np.float32)

    def predict(self, subset: tuple[str, ...], logits: dict[str, np.ndarray]) -> Float[np.ndarray, "b f"]:
        """(B, findings) logits."""
        x = np.stack([logits[m] for m in subset], -1)
        c = self.coefficients["+".join(subset)]
        return (x * c[None, :, :-1]).sum(-1) + c[None, :, -1]
