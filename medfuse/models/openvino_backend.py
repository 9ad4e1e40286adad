"""Encoders compiled by OpenVINO behind the same interface as the torch modules (extra: openvino). Full
precision, any size of input."""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..modalities import is_cine
from ..task import Task


class Compiled(nn.Module):
    """What one encoder computes, by a compiled OpenVINO model."""

    def __init__(self, module: nn.Module, example: tuple[Tensor, ...], threads: int) -> None:
        super().__init__()
        try:
            import openvino as ov
        except ModuleNotFoundError as e:
            raise UserError("--backend openvino needs the extra; run pip install 'medfuse[openvino]'") from e
        with torch.no_grad():  # sizes stay open: they differ from case to case
            converted = ov.convert_model(module.eval(), example_input=example)
        properties = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
        }
        self._model = ov.Core().compile_model(converted, "CPU", properties)

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """What the encoder gives for these inputs: one tensor, or several."""
        found = self._model([x.cpu().numpy() for x in inputs])
        out = tuple(torch.from_numpy(found[i].copy()) for i in range(len(self._model.outputs)))
        return out if len(out) > 1 else out[0]


def compiled(encoders: nn.ModuleDict, task: Task) -> nn.ModuleDict:
    """Each encoder traced on an input of its kind."""
    threads = torch.get_num_threads() if torch.get_num_threads() < (os.cpu_count() or 1) else 0
    out = nn.ModuleDict()
    for modality, encoder in encoders.items():
        spec = task.modalities[modality]
        if task.whole_images:
            example: tuple[Tensor, ...] = (torch.zeros(1, 1, spec.size, spec.size),)
        elif is_cine(modality):
            present = torch.ones(2, spec.channels, dtype=torch.bool)
            example = (torch.zeros(2, spec.channels, spec.size, spec.size), present)
        else:
            present = torch.ones(1, len(spec.roles), dtype=torch.bool)
            example = (torch.zeros(1, len(spec.roles), 48, 40, 32), present)
        out[modality] = Compiled(encoder, example, threads)
    return out
