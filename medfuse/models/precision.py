"""bfloat16 where the hardware has it: on CUDA cards, and on CPUs with AVX-512 BF16 or AMX. Elsewhere it is
emulated and slower."""

from __future__ import annotations

import torch


def has_bf16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16 itself."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def autocast(device: torch.device) -> torch.autocast:
    """A context in bfloat16 where the device has it, else one that changes nothing. For inference alone, see
    `training_autocast`."""
    return torch.autocast(device.type, torch.bfloat16, enabled=has_bf16(device))


def training_autocast(device: torch.device) -> torch.autocast:
    """As `autocast` on CUDA cards; on CPUs one that changes nothing.

    There the gradient of a convolution's weights in bfloat16 is memory that nobody wrote, for some of the
    smallest grids: 3 × 3 × 3 over 2 × 2 × 2 voxels, or strided over one (torch 2.13 with AVX-512 BF16). Every
    single number is finite and their norm is not, or a weight becomes no number.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda" and has_bf16(device))
