"""Decoding speed of the writer: tokens a second with its cache, against transformers' generate on a model of
the same size, in one run.

python benchmarks/writer.py [--tokens 160] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time

import torch

from medfuse.models.tokens import Tokens
from medfuse.models.writer import Writer, WriterConfig
from medfuse.task import load_task


def best(work, repeats: int) -> float:
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokens", type=int, default=160)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    a = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    from transformers import BartConfig, BartForConditionalGeneration

    torch.manual_seed(0)
    task = load_task("upper-abdomen")
    config = WriterConfig(1400, 96, len(task.findings), task.senses)
    writer = Writer(config).eval()
    fused = {m: Tokens(torch.randn(1, 16, 96), torch.ones(1, 16, dtype=torch.bool)) for m in task.senses}
    with torch.inference_mode():
        memory = writer.memory(fused, torch.zeros(1, len(task.findings)))
    prefix = torch.tensor([[1, 6]])
    # a decoder of the same width, layers, heads and vocabulary that reads as many vectors
    peer = BartForConditionalGeneration(
        BartConfig(
            vocab_size=1400,
            d_model=config.width,
            encoder_layers=1,
            decoder_layers=config.layers,
            encoder_attention_heads=config.heads,
            decoder_attention_heads=config.heads,
            encoder_ffn_dim=4,
            decoder_ffn_dim=4 * config.width,
            max_position_embeddings=512,
            forced_eos_token_id=None,
            eos_token_id=1399,
            pad_token_id=0,
            bos_token_id=1,
            decoder_start_token_id=1,
        )
    ).eval()
    read = torch.randint(5, 1300, (1, memory.x.shape[1]))
    n = a.tokens

    def ours() -> None:
        writer.generate(prefix, memory, end=-1, length=n)

    def without_cache() -> None:
        ids = prefix
        with torch.inference_mode():
            for _ in range(n):
                ids = torch.cat([ids, writer(ids, memory)[0][:, -1].argmax(-1, keepdim=True)], 1)

    def theirs() -> None:
        with torch.inference_mode():
            peer.generate(
                read, max_new_tokens=n, min_new_tokens=n, do_sample=False, num_beams=1, use_cache=True
            )

    for work in (ours, theirs):
        work()
    seconds = {
        "writer": best(ours, a.repeats),
        "writer without cache": best(without_cache, 1),
        "transformers generate": best(theirs, a.repeats),
    }
    result = {
        "tokens_per_s": {k: round(n / s, 1) for k, s in seconds.items()},
        "writer_over_transformers": round(seconds["transformers generate"] / seconds["writer"], 2),
        "parameters": {
            "writer": sum(p.numel() for p in writer.parameters()),
            "transformers": sum(p.numel() for p in peer.parameters()),
        },
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}",
    }
    if a.json:
        print(json.dumps(result))
        return
    for k, v in result["tokens_per_s"].items():
        print(f"{k:<24} {v:8.1f} tokens/s")
    print(f"ratio {result['writer_over_transformers']}, {result['machine']}")


if __name__ == "__main__":
    main()
