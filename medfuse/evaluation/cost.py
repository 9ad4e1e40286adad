"""What fusion costs as modalities are added: co-attention against merge-attention, equal width, one run."""

from __future__ import annotations

import time

import torch

from ..models.fusion import FUSIONS
from ..models.tokens import Tokens
from .results import Cost

COUNTS = (2, 3, 4, 6, 8)


@torch.inference_mode()
def fusion_cost(
    *, width: int = 96, layers: int = 2, tokens: int = 256, repeats: int = 5, counts: tuple[int, ...] = COUNTS
) -> Cost:
    """Milliseconds of one forward pass at batch 1 with ``tokens`` tokens a modality; the best of
    ``repeats``."""
    out: dict = {
        "tokens_per_modality": tokens,
        "width": width,
        "threads": torch.get_num_threads(),
        "co_ms": {},
        "merge_ms": {},
    }
    for m in counts:
        names = tuple(f"m{i}" for i in range(m))
        generator = torch.Generator().manual_seed(m)
        batch = {
            n: Tokens(
                torch.randn(1, tokens, width, generator=generator), torch.ones(1, tokens, dtype=torch.bool)
            )
            for n in names
        }
        for kind in ("co", "merge"):
            fusion = FUSIONS[kind](names, width, layers, 4, 0.0).eval()
            fusion(batch)
            times = []
            for _ in range(repeats):
                started = time.perf_counter()
                fusion(batch)
                times.append(time.perf_counter() - started)
            out[f"{kind}_ms"][str(m)] = round(1000 * min(times), 2)
    ratio = {m: round(out["co_ms"][m] / out["merge_ms"][m], 3) for m in out["co_ms"]}
    return Cost(**out, co_over_merge=ratio)
