"""Gradients in the precision that trainings compute in are those of float32."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medfuse.models.precision import training_autocast


@pytest.mark.parametrize(
    ("dims", "size", "kernel", "stride"), [(3, 2, 3, 1), (3, 4, 3, 1), (2, 1, 3, 2), (2, 1, 7, 2)]
)
def test_weights_of_the_smallest_grids_have_true_gradients(dims, size, kernel, stride):
    torch.manual_seed(0)
    kind = nn.Conv3d if dims == 3 else nn.Conv2d
    conv = kind(16, 32, kernel, stride=stride, padding=kernel // 2, bias=False)
    x = torch.randn(1, 16, *[size] * dims)
    gradients = []
    for context in (torch.autocast("cpu", enabled=False), training_autocast(torch.device("cpu"))):
        conv.weight.grad = None
        memory = torch.full((200_000,), 1e30)  # what lies in memory that is used again
        del memory
        with context:
            y = conv(x)
        y.float().pow(2).sum().backward()
        gradients.append(conv.weight.grad)
    assert torch.allclose(*gradients, rtol=0.1, atol=0.1 * float(gradients[0].abs().max()))
