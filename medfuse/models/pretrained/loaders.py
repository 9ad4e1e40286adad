"""Loaders: from encoder.yaml and a folder to a network with its weights. One record each in LOADERS."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from ...errors import UserError, WrongUse
from ..monai_nets import SegResEncoder, SwinTransformer, ViT, nets, resnet
from . import foreign
from .contract import NAME, EncoderFile
from .networks import InflatedResNet, Taken
from .weights import Matching, kind_of_weights, match, read_weights

BUNDLE_CONFIG = "configs/inference.json"
BUNDLE_WEIGHTS = "models/model.pt"
RESNETS = ("resnet10", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnet200")


@dataclass(frozen=True, kw_only=True)
class Built:
    """A network in evaluation mode, without gradients, and how its tensors fit."""

    module: nn.Module
    matching: Matching


Builder = Callable[[EncoderFile, Path], tuple[nn.Module, Matching]]


@dataclass(frozen=True, kw_only=True)
class Loader:
    """One way from a folder to a network. about: what it is for, in a sentence. build: network and
    matching."""

    name: str
    about: str
    build: Builder


def _own_weights(network: Callable[[EncoderFile, Path], nn.Module]) -> Builder:
    """A builder whose network is made from arguments and whose tensors come from the file of weights."""

    def build(file: EncoderFile, folder: Path) -> tuple[nn.Module, Matching]:
        weights = file.weights
        if not weights.file:
            inside = folder / BUNDLE_WEIGHTS
            if not inside.is_file():
                raise UserError(f"{folder / NAME}: names no file of weights; state weights: {{file: …}}")
            weights = weights.model_copy(update={"file": BUNDLE_WEIGHTS})
        found = read_weights(folder / weights.file, weights)
        module = network(file, folder)
        return module, match(module, found, weights)

    return build


def _segres(file: EncoderFile, folder: Path) -> nn.Module:
    arguments: dict[str, Any] = {"in_channels": file.intensity.channels, **file.arguments}
    return SegResEncoder(**arguments)


def _inflated(file: EncoderFile, folder: Path) -> nn.Module:
    layers = file.arguments.get("layers", [3, 8, 36, 3])
    return InflatedResNet(tuple(cast(list[int], layers)), cast(int, file.arguments.get("width", 64)))


def _monai(file: EncoderFile, folder: Path) -> nn.Module:
    arguments = dict(file.arguments)
    name = str(arguments.pop("network", ""))
    channels = file.intensity.channels
    if name == "swin_unetr":
        standard = {
            "in_chans": channels,
            "embed_dim": 48,
            "window_size": (7, 7, 7),
            "patch_size": (2, 2, 2),
            "depths": (2, 2, 2, 2),
            "num_heads": (3, 6, 12, 24),
        }
        return SwinTransformer(**{**standard, **arguments})  # type: ignore[arg-type]
    if name in RESNETS:
        standard = {"spatial_dims": 3, "n_input_channels": channels, "feed_forward": False}
        return getattr(resnet, name)(**{**standard, **arguments})
    if name == "vit":
        given: dict[str, Any] = {"in_channels": channels, "img_size": file.geometry.size, **arguments}
        return ViT(**given)
    if name == "bundle" or (not name and (folder / BUNDLE_CONFIG).is_file()):
        return _bundle_network(folder / BUNDLE_CONFIG)
    raise WrongUse(
        f"{folder / NAME}: no network {name}; arguments need network: swin_unetr, resnet50, vit or bundle"
    )


def _bundle_network(path: Path) -> nn.Module:
    """The network of a MONAI bundle: a class of monai.networks.nets with plain arguments. Expressions are
    code, and are refused."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise UserError(f"{path}: cannot be read ({e}); copy the bundle again") from e
    found = config.get("network_def", config.get("network"))
    if not isinstance(found, dict) or "_target_" not in found:
        raise UserError(f"{path}: names no network; it needs network_def with a _target_")
    values = {k: _plain(path, v, config) for k, v in found.items() if k != "_target_"}
    kind = getattr(nets, str(found["_target_"]).rpartition(".")[2], None)
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise UserError(f"{path}: {found['_target_']} is no network of MONAI, and other code is not run")
    return kind(**values)


def _plain(path: Path, value: object, config: dict[str, object]) -> object:
    """A value of a bundle's configuration, ``@name`` looked up."""
    if isinstance(value, list):
        return [_plain(path, v, config) for v in value]
    if isinstance(value, str) and value.startswith("@") and value[1:] in config:
        return _plain(path, config[value[1:]], {k: v for k, v in config.items() if k != value[1:]})
    if isinstance(value, dict) or (isinstance(value, str) and value.startswith(("$", "@", "%"))):
        raise UserError(f"{path}: holds the expression {value}, which is code and not run; write its value")
    return value


def _torchscript(file: EncoderFile, folder: Path) -> tuple[nn.Module, Matching]:
    path = folder / file.weights.file
    if kind_of_weights(path) != "script":
        raise UserError(f"{path}: is not TorchScript; choose the loader of its network")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # what exists on disk is still to be read
            module = torch.jit.load(str(path), map_location="cpu")
    except (RuntimeError, OSError, ValueError) as e:
        raise UserError(
            f"{path}: is cut off or damaged ({str(e).splitlines()[0][:120]}); copy it again"
        ) from e
    return module, Matching(tensors=len(module.state_dict()))


LOADERS: dict[str, Loader] = {
    loader.name: loader
    for loader in (
        Loader(
            name="monai_segresnet_ds",
            about="MONAI's SegResEncoder: CT-FM, the encoder of VISTA3D",
            build=_own_weights(_segres),
        ),
        Loader(
            name="i3resnet152",
            about="ResNet-152 inflated along z: Merlin, Astra_CTRG and relatives",
            build=_own_weights(_inflated),
        ),
        Loader(
            name="monai",
            about="A network of MONAI (swin_unetr, resnet10 to resnet200, vit) or a MONAI bundle's folder",
            build=_own_weights(_monai),
        ),
        Loader(
            name="transformers_vision",
            about="A Hugging Face folder of 2D images or clips: RAD-DINO, DINOv2, ViT, VideoMAE, the vision "
            "tower of CLIP and SigLIP; needs the extra llm",
            build=foreign.transformers_vision,
        ),
        Loader(
            name="timm",
            about="A network of timm by name: USFM, TinyUSFM; needs timm and torchvision",
            build=_own_weights(foreign.timm_network),
        ),
        Loader(
            name="torchvision_video",
            about="A video network of torchvision by name: EchoPrime; needs torchvision",
            build=_own_weights(foreign.video_network),
        ),
        Loader(
            name="open_clip",
            about="A folder with open_clip_config.json: BiomedCLIP and relatives; needs open_clip_torch and "
            "torchvision",
            build=foreign.open_clip_tower,
        ),
        Loader(name="torchscript", about="One file of TorchScript, as exported", build=_torchscript),
        Loader(
            name="onnx",
            about="One ONNX or OpenVINO file, run by OpenVINO; needs the extra openvino",
            build=foreign.onnx_network,
        ),
    )
}


def build(file: EncoderFile, folder: Path) -> Built:
    """The network that encoder.yaml describes, with its weights. Raises WrongUse for an unknown loader,
    UserError for weights or arguments that do not fit."""
    if file.loader not in LOADERS:
        raise WrongUse(f"{folder / NAME}: no loader {file.loader}; there are {', '.join(LOADERS)}")
    try:
        module, matching = LOADERS[file.loader].build(file, folder)
    except (TypeError, ValueError, AssertionError, KeyError, RuntimeError, MemoryError, OverflowError) as e:
        first = (str(e).splitlines() or [type(e).__name__])[0][:160]
        raise UserError(f"{folder / NAME}: the network cannot be made ({first}); correct arguments") from e
    taken = Taken(module, file.gives.output)
    return Built(module=taken.eval().requires_grad_(False), matching=matching)
