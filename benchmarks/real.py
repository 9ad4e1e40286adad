"""Real patients with several senses, from a copy of a public set to a table.

python benchmarks/real.py --set sarcoma|covid|medpix|busi|hc18|alignment [--train DIR --test DIR]
    [--minutes M] [--json]

DIR is laid out as the set is published (docs/real.md says where to get it). The model is trained on --train
and scored once on --test; without the two, patient-disjoint folds over the copy under MEDFUSE_SHARED.
Training ends after --minutes where it goes in steps (sarcoma); the others fit in one pass and take what they
take. --steps in place of --minutes gives the same table on a busy machine too. Intervals: 95 % of bootstrap
samples of patients. Controls stand beside the rows: what a model scores that saw shuffled labels, headers,
shapes or sizes alone.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from dataclasses import asdict
from pathlib import Path

from real_results import RealSet, Results

from medfuse.training.budget import Budget

# each a file beside this
SETS = {name: f"real_{name}" for name in ("sarcoma", "covid", "medpix", "busi", "hc18", "alignment")}


def module_of(name: str) -> RealSet:
    """The module of a set."""
    return importlib.import_module(SETS[name])  # type: ignore[return-value]


def table(found: Results) -> str:
    """Rows and controls as one markdown table, each value with its interval."""
    every = {**found.rows, **{f"*{name}*": row for name, row in found.controls.items()}}
    metrics = list(dict.fromkeys(m for r in every.values() for m in r if not m.endswith("ci95")))
    lines = [f"| {found.set} | " + " | ".join(metrics) + " |", "|---" * (1 + len(metrics)) + "|"]
    for name, row in every.items():
        cells = []
        for m in metrics:
            value, ends = row.get(m), row.get(f"{m}_ci95")
            cell = "–" if not isinstance(value, int | float) else f"{value:.3f}".removesuffix(".000")
            cells.append(f"{cell} [{ends[0]:.3f}, {ends[1]:.3f}]" if isinstance(ends, list) else cell)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    how = f"{found.folds} folds" if found.folds else "a test set of its own"
    return "\n".join(
        [
            *lines,
            "",
            f"{found.n_train} patients to train on, {found.n_test} to test on ({how}), seed {found.seed}, "
            f"{found.minutes:.1f} minutes. Controls in italics.",
        ]
    )


def main() -> None:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--set", choices=sorted(SETS), required=True)
    parser.add_argument("--train", type=Path, help="a copy of the set to train on")
    parser.add_argument("--test", type=Path, help="a copy of the set to score, of other patients")
    parser.add_argument("--minutes", type=float, help="of training (sarcoma); the set's own default")
    parser.add_argument("--steps", type=int, help="exact steps of each encoder (sarcoma), not minutes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if (given.train is None) != (given.test is None):
        parser.error("--train and --test go together; without both, folds over the whole set")
    module = module_of(given.set)
    minutes = module.MINUTES if given.minutes is None else given.minutes
    budget = Budget(minutes=None if given.steps else minutes, steps=given.steps)
    found = module.run(given.train, given.test, budget, given.seed)
    print(json.dumps(asdict(found)) if given.json else table(found))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
