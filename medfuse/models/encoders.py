"""Encoders: MONAI SegResNets with dense supervision, one a modality. Their features become tokens in `regions`."""

from __future__ import annotations

import torch
from monai.networks.nets import SegResNet
from torch import Tensor, nn


class DenseEncoder(nn.Module):
    """SegResNet (Myronenko 2018, MONAI) whose first convolution has a learned embedding for every acquired role.

    Input (B, R, *spatial) with zeros for roles that were not acquired, and present (B, R) bool. Series of one frame of
    reference enter together: the first layer is a sum of one convolution a role, so any subset of roles is an input.
    """

    def __init__(self, *, dims: int, roles: int, classes: int, filters: int) -> None:
        super().__init__()
        self.net = SegResNet(
            spatial_dims=dims,
            init_filters=filters,
            in_channels=roles,
            out_channels=classes,
            norm="BATCH",
            blocks_down=(1, 1, 1, 2),
            blocks_up=(1, 1, 1),
        )
        self.role_embedding = nn.Parameter(torch.randn(roles, filters) * 0.1)
        self.dims, self.width, self.deep_width = dims, filters, filters * 8

    def forward(self, values: Tensor, present: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits (B, K, *spatial), fine features (B, C, *spatial), deep features (B, 8C, *spatial/8)."""
        net = self.net
        gate = present.to(values.dtype)
        x = net.convInit(values * gate.reshape(*gate.shape, *[1] * self.dims))
        role = gate @ self.role_embedding.to(gate.dtype)
        x = x + role.reshape(*role.shape, *[1] * self.dims)
        skips = []
        for down in net.down_layers:
            x = down(x)
            skips.append(x)
        deep = x
        for up, layer, skip in zip(net.up_samples, net.up_layers, skips[-2::-1], strict=True):
            x = layer(up(x) + skip)
        fine = net.conv_final[1](net.conv_final[0](x))
        return net.conv_final[2](fine), fine, deep


def build_encoders(task) -> nn.ModuleDict:
    """One encoder a modality of the task: 3D for volumes, 2D a frame for ultrasound."""
    return nn.ModuleDict(
        {
            name: DenseEncoder(
                dims=2 if name == "US" else 3,
                roles=len(spec.roles),
                classes=len(task.dense),
                filters=spec.filters,
            )
            for name, spec in task.modalities.items()
        }
    )
