"""What two modalities of the shipped bundle say alike, each alone, and only together, in bits a finding, in
simulation.

python benchmarks/interactions.py --test test/manifest.jsonl --work DIR

The table that `medfuse evaluate` prints too, here from cached region features (see
medfuse/evaluation/interaction.py).
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path

import torch
from coordination import features

from medfuse import __version__
from medfuse.bundles.bundle import load_bundle
from medfuse.evaluation.evaluate import tables
from medfuse.evaluation.markdown import interaction_rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="caches, in test/")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    options = parser.parse_args()
    bundle = load_bundle("upper-abdomen-simulated")
    data, _ = features(bundle.task, bundle.model.encoders, options.test, options.work / "test", ("test",))
    result = tables(bundle, data, seed=0).interactions
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "interactions.json").write_text(
        json.dumps({k: v.as_json() for k, v in result.items()}, indent=1)
    )
    print("\n".join(interaction_rows(result)))
    print(
        f"\nbundle {bundle.hash[:12]}, {platform.machine()}, torch {torch.__version__}, medfuse {__version__}"
    )


if __name__ == "__main__":
    main()
