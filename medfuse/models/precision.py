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
    """A context in bfloat16 where the device has it, else one that changes nothing."""
    return torch.autocast(device.type, torch.bfloat16, enabled=has_bf16(device))
