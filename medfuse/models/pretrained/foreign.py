"""Networks that other libraries build. Each library is imported late; one that is not there is named in a
sentence."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...errors import UserError
from .contract import NAME, EncoderFile
from .weights import Matching, refuse_unmatched


def transformers_vision(file: EncoderFile, folder: Path) -> tuple[nn.Module, Matching]:
    """The vision network of a Hugging Face folder, of images or clips. Code of its authors is never run."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        from transformers import AutoModel
    except ImportError as e:
        raise UserError("loader transformers_vision needs transformers: pip install 'medfuse[llm]'") from e
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: holds no config.json; give the folder of a model in Hugging Face format")
    _same_normalisation(file, folder)
    try:
        model, said = AutoModel.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, KeyError) as e:
        first = (str(e).splitlines() or ["unknown"])[0][:160]
        raise UserError(
            f"{folder}: cannot be loaded as a vision model ({first}); copy the folder again"
        ) from e
    missing = tuple(n for n in sorted(said["missing_keys"]) if not n.startswith(file.weights.drop or ("\0",)))
    left = tuple(n for n in sorted(said["unexpected_keys"]) if not n.startswith(file.weights.drop or ("\0",)))
    tensors = len(model.state_dict())
    refuse_unmatched(str(folder), Matching(tensors=tensors, missing=missing, left_over=left))
    inner = getattr(model, "vision_model", None) or getattr(model, "vision_tower", None) or model
    return Clips(inner) if file.geometry.dims == "2+t" else inner, Matching(tensors=tensors)


class Clips(nn.Module):
    """A video transformer of Hugging Face, which takes clips frame by frame: (B, C, T, H, W) becomes
    (B, T, C, H, W)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Float[Tensor, "b c t h w"]) -> dict[str, Tensor]:
        """What the network gives for a clip, by name."""
        return cast(dict[str, Tensor], self.network(pixel_values=x.transpose(1, 2)))


def _same_normalisation(file: EncoderFile, folder: Path) -> None:
    """Raise UserError where encoder.yaml and preprocessor_config.json say different means or deviations."""
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        return
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as e:
        raise UserError(f"{path}: is no JSON ({e}); copy the folder again") from e
    for ours, theirs in (("mean", "image_mean"), ("std", "image_std")):
        own: tuple[float, ...] | None = getattr(file.intensity, ours)
        stated = said.get(theirs)
        if not said.get("do_normalize", True) or not isinstance(stated, list):
            continue
        wide = None if own is None else own * (len(stated) if len(own) == 1 else 1)
        if (
            wide is None
            or len(wide) != len(stated)
            or max(abs(a - b) for a, b in zip(wide, stated, strict=True)) > 1e-3
        ):
            raise UserError(
                f"{folder / NAME}: intensity.{ours} is {None if own is None else list(own)} and "
                f"preprocessor_config.json says {stated}; write the same"
            )


def timm_network(file: EncoderFile, folder: Path) -> nn.Module:
    """timm's network of the name in arguments, without its classifier."""
    try:
        import timm
    except (ImportError, RuntimeError) as e:
        raise UserError(_lacking("timm", "timm and a torchvision that fits this torch", e)) from e
    arguments = dict(file.arguments)
    name = str(arguments.pop("name", ""))
    return timm.create_model(name, pretrained=False, **{"num_classes": 0, **arguments})


def video_network(file: EncoderFile, folder: Path) -> nn.Module:
    """torchvision's video network of the name in arguments."""
    try:
        from torchvision.models import get_model
    except (ImportError, RuntimeError) as e:
        raise UserError(_lacking("torchvision_video", "a torchvision that fits this torch", e)) from e
    arguments = dict(file.arguments)
    return get_model(str(arguments.pop("name", "")), weights=None, **arguments)


def open_clip_tower(file: EncoderFile, folder: Path) -> tuple[nn.Module, Matching]:
    """The image tower of an open_clip folder; its configuration lies beside the weights."""
    if not (folder / "open_clip_config.json").is_file():
        raise UserError(f"{folder}: holds no open_clip_config.json; weights alone do not say their network")
    try:
        import open_clip
    except (ImportError, RuntimeError) as e:
        raise UserError(
            _lacking("open_clip", "open_clip_torch and a torchvision that fits this torch", e)
        ) from e
    model = open_clip.create_model(f"local-dir:{folder}")
    return model.visual, Matching(tensors=len(model.state_dict()))


def _lacking(loader: str, what: str, error: Exception) -> str:
    first = (str(error).splitlines() or [type(error).__name__])[0][:100]
    return f"loader {loader} needs {what} ({first}); install them, or export the encoder and use loader: onnx"


class Compiled(nn.Module):
    """A network that OpenVINO runs on the CPU: (B, C, *s) in, its outputs by name."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        import openvino

        core = openvino.Core()
        self._run = [core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})]

    def forward(self, x: Tensor) -> list[Tensor]:
        """Every output, in the file's order."""
        found = self._run[0](x.detach().cpu().float().numpy())
        return [torch.from_numpy(found[o].copy()) for o in self._run[0].outputs]


def onnx_network(file: EncoderFile, folder: Path) -> tuple[nn.Module, Matching]:
    """An ONNX file, or OpenVINO's own, compiled."""
    try:
        import openvino  # noqa: F401
    except ImportError as e:
        raise UserError("loader onnx needs OpenVINO: pip install 'medfuse[openvino]'") from e
    path = folder / file.weights.file
    if not path.is_file() or not file.weights.file:
        raise UserError(f"{path}: no such file; name the ONNX file as weights: {{file: …}}")
    try:
        return cast(nn.Module, Compiled(path)), Matching(tensors=0)
    except RuntimeError as e:
        first = next((line.strip() for line in str(e).splitlines() if line.strip()), "unknown")[:120]
        raise UserError(f"{path}: is cut off or no ONNX file ({first}); export it again") from e
