"""Encoders: MONAI SegResNets with dense supervision, one a modality. Their features become tokens in
`regions`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ..errors import UserError
from ..modalities import is_cine
from ..task import Task
from .monai_nets import DenseNet, SegResNet, sliding_window_inference
from .scale_space import ScaleSpaceEncoder


class DenseEncoder(nn.Module):
    """SegResNet (Myronenko 2018, MONAI) whose first convolution has a learned embedding for every acquired
    role.

    Input (B, R, *spatial) with zeros for roles that were not acquired, and present (B, R) bool. Series of one
    frame of
    reference enter together: the first layer is a sum of one convolution a role, so any subset of roles is an
        input.
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
        self.dims = dims
        self.width = filters
        self.deep_width = filters * 8
        self.thrifty = False

    def save_memory(self, on: bool) -> None:
        """Gradient checkpointing (Chen 2016, 1604.06174): activations inside a level are computed again in
        the backward pass.

        That pass moves the running statistics a second time with the same batch, so each of the two moves
        them by half as much (in the geometric sense): training is the same.
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

    def forward(
        self, values: Float[Tensor, "b r *s"], present: Bool[Tensor, "b r"]
    ) -> tuple[Float[Tensor, "b k *s"], Float[Tensor, "b c *s"], Float[Tensor, "b deep *part"]]:
        """Return logits (B, K, *spatial), fine features (B, C, *spatial), deep features (B, 8C,
        *spatial/8)."""
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


def in_windows(
    encoder: nn.Module,
    window: tuple[int, int, int],
    values: Float[Tensor, "b r *s"],
    present: Bool[Tensor, "b r"],
) -> tuple[Float[Tensor, "b k *s"], Float[Tensor, "b c *s"], Float[Tensor, "b deep *part"]]:
    """What `DenseEncoder` gives of volumes (B, R, *S), seen through windows that overlap by half, their
    results blended with Gaussian weights (MONAI). A volume smaller than a window is continued by its
    mirror image."""
    batch = values.shape[0]

    def run(part: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return encoder(part, present.repeat_interleave(len(part) // batch, 0))

    pad = [max(0, w - s) for w, s in zip(window, values.shape[2:], strict=True)]
    wide = _mirrored(values, pad)
    found = sliding_window_inference(wide, window, batch, run, overlap=0.5, mode="gaussian", sigma_scale=0.25)
    logits, fine, deep = found
    x, y, z = values.shape[2:]
    return logits[..., :x, :y, :z], fine[..., :x, :y, :z], deep[..., : -(-x // 8), : -(-y // 8), : -(-z // 8)]


def _mirrored(values: Tensor, pad: list[int]) -> Tensor:
    """(B, R, *S) continued at the far end of each axis by ``pad`` voxels of its mirror image."""
    for axis, more in enumerate(pad, start=2):
        if more:
            size = values.shape[axis]
            index = torch.arange(size + more) % (2 * size)
            values = values.index_select(axis, torch.minimum(index, 2 * size - 1 - index).to(values.device))
    return values


VOLUME_GRID = 2  # tokens a side of a volume's feature map, beside the mean of all of it


class ImageEncoder(nn.Module):
    """DenseNet (Huang 2017, MONAI) of single frames or of volumes, for tasks without label maps.

    Input (B, R, *spatial) with zeros for roles that were not acquired, and present (B, R) bool; output tokens
    (B, 1 + N, C): the mean of the last feature map, and the means of its grid × grid parts (frames) or of its
    eighths (volumes).
    """

    def __init__(self, filters: int, dims: int = 2, roles: int = 1, grid: int = 2) -> None:
        super().__init__()
        self.dims = dims
        self.grid = grid
        # volumes pass one at a time, so that statistics of a batch would be those of one patient in training
        # alone
        norm = "batch" if dims == 2 else ("group", {"num_groups": 1})
        self.net = DenseNet(
            spatial_dims=dims,
            in_channels=roles,
            out_channels=1,
            init_features=2 * filters,
            growth_rate=filters,
            block_config=(4, 8, 12, 8),
            dropout_prob=0.1,
            norm=norm,
        )
        del self.net.class_layers  # the findings head stands behind fusion
        with torch.no_grad():
            self.width = int(self.net.eval().features(torch.zeros(1, roles, *[64] * dims)).shape[1])
        self.net.train()
        if dims == 3:
            self.role_embedding = nn.Parameter(torch.randn(roles, self.width) * 0.1)
        else:
            # a third faster on CPU
            self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(
        self, values: Float[Tensor, "b r *s"], present: Bool[Tensor, "b r"] | None = None
    ) -> Float[Tensor, "b n c"]:
        """Tokens of each frame, or of each volume, of which ``present`` says what roles it has."""
        if self.dims == 2:
            x = self.net.features(values.contiguous(memory_format=torch.channels_last))
            parts = F.adaptive_avg_pool2d(x, self.grid)
        else:
            assert present is not None
            gate = present.to(values.dtype)
            x = self.net.features(_grown(values * gate[..., None, None, None]))
            parts = F.adaptive_avg_pool3d(x, VOLUME_GRID)
        tokens = torch.cat([x.flatten(2).mean(2)[:, None], parts.flatten(2).transpose(1, 2)], 1)
        return tokens if self.dims == 2 else tokens + (gate @ self.role_embedding.to(gate.dtype))[:, None]


LEAST = 29  # voxels a side, of which the last pooling of a DenseNet still has two


def _grown(values: Float[Tensor, "b r i j k"]) -> Float[Tensor, "b r i2 j2 k2"]:
    """A small volume with its border repeated around it, so that each side has LEAST voxels."""
    lack = [max(0, LEAST - n) for n in values.shape[2:]]
    if not any(lack):
        return values
    around = [half for n in reversed(lack) for half in (n // 2, n - n // 2)]
    return F.pad(values, around, mode="replicate")


@dataclass(frozen=True, kw_only=True)
class EncoderRequest:
    """What an encoder is asked for: ``dims`` 2 (frames) or 3 (volumes), ``roles`` input channels, ``classes``
    of the label maps (0 where none are), ``filters`` its width, ``grid`` tokens a side of a whole frame."""

    dims: int
    roles: int
    classes: int
    filters: int
    grid: int = 2


def _segresnet(asked: EncoderRequest) -> nn.Module:
    """SegResNet that learns label maps densely; its features become tokens of organs and lesions."""
    return DenseEncoder(dims=asked.dims, roles=asked.roles, classes=asked.classes, filters=asked.filters)


def _scale_space(asked: EncoderRequest) -> nn.Module:
    """Scale space of volumes that were cut out around one thing, read voxel by voxel."""
    if asked.dims != 3:
        raise UserError("encoder scale-space: takes volumes; name another one for cines")
    return ScaleSpaceEncoder(roles=asked.roles, classes=asked.classes, filters=asked.filters)


def _densenet(asked: EncoderRequest) -> nn.Module:
    """DenseNet of single frames or whole volumes, for tasks without label maps."""
    return ImageEncoder(asked.filters, asked.dims, asked.roles, asked.grid)


EncoderMaker = Callable[[EncoderRequest], nn.Module]
# By the name that a task may give (`encoder:` of a modality). With label maps an encoder answers as
# DenseEncoder does, without as ImageEncoder does.
DENSE_ENCODERS: dict[str, EncoderMaker] = {"segresnet": _segresnet, "scale-space": _scale_space}
IMAGE_ENCODERS: dict[str, EncoderMaker] = {"densenet": _densenet}


def build_encoder(task: Task, modality: str, grid: int = 2) -> nn.Module:
    """The encoder that the task names for a modality: 3D for volumes, 2D a frame for cines. Raises
    UserError for one that is not in the registry."""
    spec = task.modalities[modality]
    known = IMAGE_ENCODERS if task.whole_images else DENSE_ENCODERS
    chosen = spec.encoder or next(iter(known))
    if chosen not in known:
        raise UserError(
            f"task {task.name}: no encoder {chosen} for {modality}; there are {', '.join(known)}, "
            "name one of them or register yours"
        )
    # whole frames enter one by one, so that they have one role
    cine = is_cine(modality)
    roles = 1 if task.whole_images and cine else spec.channels
    return known[chosen](
        EncoderRequest(
            dims=2 if cine else 3,
            roles=roles,
            classes=len(task.dense),
            filters=spec.filters,
            grid=grid,
        )
    )


def build_encoders(task: Task, grid: int = 2) -> nn.ModuleDict:
    """The own encoder of each modality of the task that has one, by modality."""
    return nn.ModuleDict({m: build_encoder(task, m, grid) for m in task.modalities if task.has_own(m)})
