"""Encoders on a GPU: cases a second in f32, bf16 autocast and channels_last, and what share of the card's
measured peak that is.

python benchmarks/gpu.py [--json]       says so, and ends, where there is no GPU
"""

from __future__ import annotations

import argparse
import json
import time

import torch
from torch.utils.flop_counter import FlopCounterMode

from medfuse.bundles.bundle import load_bundle


def seconds_of(work, repeats: int = 10) -> float:
    work()
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(repeats):
        work()
    torch.cuda.synchronize()
    return (time.perf_counter() - started) / repeats


def peak(dtype: torch.dtype) -> float:
    """FLOP/s of a large matrix product, the most that this card gives in this run."""
    a = torch.randn(8192, 8192, device="cuda", dtype=dtype)
    return 2 * 8192**3 / seconds_of(lambda: a @ a)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true")
    a = parser.parse_args()
    if not torch.cuda.is_available():
        print(json.dumps({"gpu": None}) if a.json else "no GPU found")
        return
    bundle = load_bundle()
    encoders = bundle.model.encoders.cuda().eval()
    task = bundle.task
    inputs = {
        m: (torch.randn(20, 1, 128, 128, device="cuda"), torch.ones(20, 1, dtype=torch.bool, device="cuda"))
        if m == "US"
        else (
            torch.randn(1, len(task.modalities[m].roles), 96, 80, 48, device="cuda"),
            torch.ones(1, len(task.modalities[m].roles), dtype=torch.bool, device="cuda"),
        )
        for m in task.senses
    }
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        for m, x in inputs.items():
            encoders[m](*x)
    flops = counter.get_total_flops()
    result: dict = {"gpu": torch.cuda.get_device_name(0), "gflop_a_case": round(flops / 1e9, 1), "ways": {}}
    for name, dtype, last in (
        ("f32", torch.float32, False),
        ("bf16", torch.bfloat16, False),
        ("bf16, channels_last", torch.bfloat16, True),
    ):
        for m in task.senses:
            layout = torch.channels_last_3d if m != "US" else torch.channels_last
            encoders[m].to(memory_format=layout if last else torch.contiguous_format)

        def work(dtype: torch.dtype = dtype) -> None:
            with torch.inference_mode(), torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
                for m, x in inputs.items():
                    encoders[m](*x)

        took = seconds_of(work)
        result["ways"][name] = {
            "cases_per_s": round(1 / took, 1),
            "share_of_peak": round(flops / took / peak(dtype), 4),
        }
    print(json.dumps(result) if a.json else json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
