"""Weights of other people, read safely: a file's kind is told by its first bytes, and nothing in it is
run."""

from __future__ import annotations

import hashlib
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ...errors import UserError
from .contract import WeightsFile

WeightsKind = Literal["safetensors", "torch", "script", "pickle"]
WRAPPERS = ("state_dict", "model", "model_state_dict", "network_weights", "teacher", "params")
SHOWN = 3  # names in a sentence
PIECE = 1 << 22


def kind_of_weights(path: Path) -> WeightsKind:
    """What a file of weights is, by its first bytes. Raises UserError where it is missing or something
    else."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; put the weights there, or name them in encoder.yaml")
    with path.open("rb") as file:
        head = file.read(64)
    named_safe = path.suffix == ".safetensors"
    if head.startswith(b"PK\x03\x04"):
        if named_safe:
            raise UserError(
                f"{path}: is a zip and no safetensors file; rename it after what it is, such as .pt"
            )
        return _kind_of_zip(path)
    if head.startswith(b"version https://git-lfs"):
        raise UserError(f"{path}: is a Git LFS pointer, not the weights; fetch the file itself")
    if len(head) > 8 and head[8:9] == b"{":
        length = int.from_bytes(head[:8], "little")
        if length + 8 > path.stat().st_size:
            raise UserError(f"{path}: is cut off; copy the whole file again")
        return "safetensors"
    if head.startswith(b"\x80") and not named_safe:
        return "pickle"
    raise UserError(f"{path}: is neither safetensors nor weights of torch; give one of these")


def _kind_of_zip(path: Path) -> WeightsKind:
    try:
        with zipfile.ZipFile(path) as inside:
            names = inside.namelist()
    except (zipfile.BadZipFile, OSError) as e:
        raise UserError(f"{path}: is cut off or damaged ({e}); copy the whole file again") from e
    if any(n.endswith("/constants.pkl") for n in names):
        return "script"
    if not any(n.endswith("data.pkl") for n in names):
        raise UserError(f"{path}: is a zip without tensors; give the file of weights itself")
    return "torch"


def read_weights(path: Path, wanted: WeightsFile) -> dict[str, Tensor]:
    """Every tensor of a file by its name, on the CPU. Raises UserError for what is damaged, cut off,
    another kind, or holds code."""
    kind = kind_of_weights(path)
    if wanted.sha256 and file_hash(path) != wanted.sha256.lower():
        raise UserError(f"{path}: is not the file that encoder.yaml names (sha256 differs); copy it again")
    if kind == "script":
        raise UserError(f"{path}: is TorchScript and no set of tensors; use loader: torchscript")
    try:
        if kind == "safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old formats, which are read or refused
            loaded: object = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as e:
        raise UserError(
            f"{path}: holds code or objects beside tensors and is refused; save its state_dict alone"
        ) from e
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError, KeyError) as e:
        raise UserError(f"{path}: is cut off or damaged ({_first_line(e)}); copy the whole file again") from e
    return _tensors_in(path, loaded, wanted.key)


def _tensors_in(path: Path, loaded: object, key: str) -> dict[str, Tensor]:
    """The tensors of what a file of torch holds: itself, or the one entry that is a set of tensors."""
    if isinstance(loaded, Mapping) and key:
        if key not in loaded:
            raise UserError(f"{path}: has no entry {key}; there are {_named([str(k) for k in loaded])}")
        loaded = loaded[key]
    if isinstance(loaded, Mapping) and not any(isinstance(v, Tensor) for v in loaded.values()):
        inner = [loaded[k] for k in WRAPPERS if isinstance(loaded.get(k), Mapping)]
        if len(inner) == 1:
            loaded = inner[0]
    found = (
        {str(k): v for k, v in loaded.items() if isinstance(v, Tensor)} if isinstance(loaded, Mapping) else {}
    )
    if not found:
        raise UserError(f"{path}: holds no named tensors; state the entry that does as weights: {{key: …}}")
    return found


@dataclass(frozen=True, kw_only=True)
class Matching:
    """How a file's tensors and a network's fit: how many were loaded, and names without a partner."""

    tensors: int
    missing: tuple[str, ...] = ()
    left_over: tuple[str, ...] = ()


def match(module: nn.Module, found: Mapping[str, Tensor], wanted: WeightsFile) -> Matching:
    """Load every tensor into the network. Raises UserError that names what is missing, left over or of
    another shape."""
    own = {
        k.removeprefix(wanted.prefix): v
        for k, v in found.items()
        if k.startswith(wanted.prefix)
        and not k.removeprefix(wanted.prefix).startswith(wanted.drop or ("\0",))
    }
    needed = module.state_dict()
    missing = tuple(sorted(needed.keys() - own.keys()))
    left_over = tuple(sorted(own.keys() - needed.keys()))
    refuse_unmatched(
        wanted.file, Matching(tensors=len(own), missing=missing, left_over=left_over), wanted.prefix
    )
    for name, tensor in own.items():
        if tensor.shape != needed[name].shape:
            raise UserError(
                f"{wanted.file}: tensor {name} is {tuple(tensor.shape)} and the network needs "
                f"{tuple(needed[name].shape)}; correct arguments in encoder.yaml"
            )
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise UserError(f"{wanted.file}: tensor {name} holds NaN or infinite values; copy the file again")
    module.load_state_dict(
        {k: v.to(needed[k].dtype) if v.is_floating_point() else v for k, v in own.items()}, strict=True
    )
    return Matching(tensors=len(own))


def refuse_unmatched(file: str, matching: Matching, prefix: str = "") -> None:
    """Raise UserError that names tensors without a partner, where there are any."""
    if not matching.missing and not matching.left_over:
        return
    faults = [
        f"{len(names)} tensors {what} ({_named(names)})"
        for what, names in (("missing", matching.missing), ("left over", matching.left_over))
        if names
    ]
    raise UserError(
        f"{file or 'the weights'}: {' and '.join(faults)}; correct "
        f"prefix{f' {prefix}' if prefix else ''}, drop or "
        "arguments in encoder.yaml"
    )


def _named(names: list[str] | tuple[str, ...]) -> str:
    shown = ", ".join(names[:SHOWN])
    return shown + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


def file_hash(path: Path) -> str:
    """SHA-256 of a file, read piece by piece."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()
