"""Encoders from disk that a task has tuned: low-rank changes of their last blocks, or those blocks' own
weights. Everything else stays as it lies on disk."""

from __future__ import annotations

import hashlib
import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ...errors import UserError
from ...learning import Tuning

CHANGED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class LowRank(nn.Module):
    """A weight and a learned change of it of low rank (LoRA, 2106.09685): W + up · down, up zero at first."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        out = len(weight)
        inside = weight[0].numel()
        r = min(rank, out, inside)
        self.down = nn.Parameter(torch.randn(r, inside, device=weight.device) / math.sqrt(inside))
        self.up = nn.Parameter(torch.zeros(out, r, device=weight.device))

    def forward(self, weight: Float[Tensor, " out *rest"]) -> Float[Tensor, " out *rest"]:
        """The changed weight, in its shape."""
        return weight + (self.up @ self.down).reshape(weight.shape)


def blocks_of(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """The repeated blocks of a network (layers of a transformer, stages or bottlenecks of a convolutional
    one), outermost, in order."""
    found: list[tuple[str, nn.Module]] = []
    for name, module in network.named_modules():
        children = list(module.named_children())
        alike = len(children) > 1 and len({type(c) for _, c in children}) == 1
        if not isinstance(module, nn.ModuleList | nn.Sequential) or not alike:
            continue
        if not any(True for _ in children[0][1].children()):
            continue  # layers, not blocks
        under = f"{name}." if name else ""
        if not any(under.startswith(f"{b}.") for b, _ in found):
            found += [(f"{under}{child}", block) for child, block in children]
    return found


def adapt(network: nn.Module, how: Tuning, who: str) -> dict[str, nn.Parameter]:
    """Make what ``how`` names learn, and nothing else; the learned weights by name. Raises UserError for a
    network without blocks that can be changed. ``who``: named there."""
    if isinstance(network, torch.jit.ScriptModule) or not any(True for _ in network.parameters()):
        raise UserError(f"{who} is one exported file, whose layers cannot be tuned; leave it out of tune")
    blocks = blocks_of(network)
    if len(blocks) < how.blocks:
        raise UserError(
            f"{who} has {len(blocks)} repeated block(s), and tune asks for {how.blocks}; ask for fewer, or "
            "leave it out"
        )
    network.requires_grad_(False)
    out: dict[str, nn.Parameter] = {}
    for name, block in blocks[-how.blocks :]:
        if how.how == "last_blocks":
            block.requires_grad_(True)
            out |= {f"{name}.{key}": p for key, p in block.named_parameters()}
            continue
        for key, layer in list(block.named_modules()):
            if isinstance(layer, CHANGED):
                change = LowRank(layer.weight, how.rank)
                parametrize.register_parametrization(layer, "weight", change)
                place = f"{name}.{key}" if key else name
                out |= {f"{place}.down": change.down, f"{place}.up": change.up}
    if not out:
        raise UserError(f"{who}: its last blocks have no layer that lora can change; give how: last_blocks")
    return out


def put_adapter(network: nn.Module, how: Tuning, tensors: dict[str, Tensor], who: str) -> None:
    """Change a network as a training has: for good, so that it costs nothing more. tensors: of lora its
    factors, of last_blocks what is added to the weights. Raises UserError where they are of another
    network."""
    learned = adapt(network, how, who)
    same = learned.keys() == tensors.keys() and all(learned[k].shape == tensors[k].shape for k in learned)
    if not same:
        raise UserError(f"{who}: what the training learned of it does not fit its layers; train again")
    with torch.no_grad():
        for name, parameter in learned.items():
            old = parameter if how.how == "last_blocks" else torch.zeros_like(parameter)
            parameter.copy_(old + tensors[name].to(parameter.device))
        for module in list(network.modules()):
            if parametrize.is_parametrized(module, "weight"):
                parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
    network.requires_grad_(False)


def adapter_hash(tensors: dict[str, Tensor]) -> str:
    """SHA-256 over names and values; "" of none."""
    if not tensors:
        return ""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
