"""Tuning on what three simulated readers signed: held-out F1 and sentences to change, and poisoned records.

    python benchmarks/tune.py [--reports 300] [--seeds 5]

Probabilities are put off by 1.5 to 2.0 in the logit for five of fourteen findings; one reader edits, one
rejects and adds, one hedges every sixth (tests/signers.py). Poisoned: 10 % of the statements turned around. A
third row has nothing to learn. Readers and probabilities are simulated: no image, no person.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from medfuse.training.tuning import tune

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.signers import BIAS, IDS, heard, signed, world

KINDS = {"signed": (BIAS, 0.0), "10 % wrong": (BIAS, 0.1), "nothing to learn": ({}, 0.0)}


def row(reports: int, seed: int, kind: str) -> dict[str, float]:
    """One set of records: whether it was accepted, and how much F1 and the sentences to change moved."""
    bias, wrong = KINDS[kind]
    cases = world(reports, seed=seed, bias=bias)
    found = tune(heard(signed(cases, wrong=wrong, seed=seed), cases), IDS)
    before, after = found.before, found.after
    return {
        "accepted": float(found.accepted),
        "F1 before": before.f1,
        "F1 after": after.f1,
        "F1 gain": after.f1 - before.f1,
        "fewer to change, %": 100 * (1 - after.to_change / before.to_change),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reports", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks/tune.json"))
    options = parser.parse_args()
    result = {k: [row(options.reports, seed, k) for seed in range(options.seeds)] for k in KINDS}
    keys = list(result["signed"][0])
    print(f"| records | {' | '.join(keys)} |\n|---|{'---|' * len(keys)}")
    for kind, rows in result.items():
        cells = [f"{int(sum(r['accepted'] for r in rows))} of {len(rows)}"]
        for k in keys[1:]:
            every = [r[k] for r in rows]
            cells.append(f"{np.mean(every):.3f} ({min(every):.3f} to {max(every):.3f})")
        print(f"| {kind} | {' | '.join(cells)} |")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
