"""Encoders: MONAI SegResNets with dense supervision, one a modality. Their features become tokens in `regions`."""

from __future__ import annotations

import torch
from monai.networks.nets import DenseNet, SegResNet
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


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
        self.thrifty = False

    def save_memory(self, on: bool) -> None:
        """Gradient checkpointing (Chen 2016, 1604.06174): activations inside a level are computed again in the backward pass.

        That pass moves the running statistics a second time with the same batch, so each of the two moves them by half as much
        (in the geometric sense): training is the same.
        """
        if on == self.thrifty:
            return
        self.thrifty = on
        for level in (*self.net.down_layers, *self.net.up_layers):
            for module in level.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.momentum is not None:
                    m = module.momentum
                    module.momentum = 1 - (1 - m) ** 0.5 if on else 1 - (1 - m) ** 2

    def _level(self, level: nn.Module, x: Tensor) -> Tensor:
        if self.thrifty and self.training and torch.is_grad_enabled():
            return checkpoint(level, x, use_reentrant=False)
        return level(x)

    def forward(self, values: Tensor, present: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits (B, K, *spatial), fine features (B, C, *spatial), deep features (B, 8C, *spatial/8)."""
        net = self.net
        gate = present.to(values.dtype)
        x = net.convInit(values * gate.reshape(*gate.shape, *[1] * self.dims))
        role = gate @ self.role_embedding.to(gate.dtype)
        x = x + role.reshape(*role.shape, *[1] * self.dims)
        skips = []
        for down in net.down_layers:
            x = self._level(down, x)
            skips.append(x)
        deep = x
        for up, layer, skip in zip(net.up_samples, net.up_layers, skips[-2::-1], strict=True):
            x = self._level(layer, up(x) + skip)
        fine = net.conv_final[1](net.conv_final[0](x))
        return net.conv_final[2](fine), fine, deep


VOLUME_GRID = 2  # tokens a side of a volume's feature map, beside the mean of all of it


class ImageEncoder(nn.Module):
    """DenseNet (Huang 2017, MONAI) of single frames or of volumes, for tasks without label maps.

    Input (B, R, *spatial) with zeros for roles that were not acquired, and present (B, R) bool; output tokens (B, 1 + N, C): the mean of
    the last feature map, and the means of its grid × grid parts (frames) or of its eighths (volumes).
    """

    def __init__(self, filters: int, dims: int = 2, roles: int = 1, grid: int = 2) -> None:
        super().__init__()
        self.dims, self.grid = dims, grid
        # volumes pass one at a time, so that statistics of a batch would be those of one patient in training alone
        norm = "batch" if dims == 2 else ("group", {"num_groups": 1})
        self.net = DenseNet(
            spatial_dims=dims, in_channels=roles, out_channels=1, init_features=2 * filters, growth_rate=filters,
            block_config=(4, 8, 12, 8), dropout_prob=0.1, norm=norm,
        )  # fmt: skip
        del self.net.class_layers  # the findings head stands behind fusion
        with torch.no_grad():
            self.width = int(self.net.eval().features(torch.zeros(1, roles, *[64] * dims)).shape[1])
        self.net.train()
        if dims == 3:
            self.role_embedding = nn.Parameter(torch.randn(roles, self.width) * 0.1)
        else:
            self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a third faster on CPU

    def forward(self, values: Tensor, present: Tensor | None = None) -> Tensor:
        if self.dims == 2:
            x = self.net.features(values.contiguous(memory_format=torch.channels_last))
            parts = F.adaptive_avg_pool2d(x, self.grid)
        else:
            assert present is not None
            gate = present.to(values.dtype)
            x = self.net.features(values * gate[..., None, None, None])
            parts = F.adaptive_avg_pool3d(x, VOLUME_GRID)
        tokens = torch.cat([x.flatten(2).mean(2)[:, None], parts.flatten(2).transpose(1, 2)], 1)
        return tokens if self.dims == 2 else tokens + (gate @ self.role_embedding.to(gate.dtype))[:, None]


def build_encoders(task, grid: int = 2) -> nn.ModuleDict:
    """One encoder a modality of the task: 3D for volumes, 2D a frame for ultrasound; whole images where none is labelled inside."""
    out = nn.ModuleDict()
    for name, spec in task.modalities.items():
        dims, roles = (2, 1) if name == "US" else (3, len(spec.roles))
        if task.whole_images:
            out[name] = ImageEncoder(spec.filters, dims, roles, grid)
        else:
            out[name] = DenseEncoder(dims=dims, roles=len(spec.roles), classes=len(task.dense), filters=spec.filters)
    return out
