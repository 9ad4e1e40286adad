"""Sound as a sense on real heart sounds: abnormal or not, within each source, from the tokens of
medfuse/models/senses/audio.py.

python benchmarks/heart_sounds.py --data ../shared/data/audio/heart_sounds_ab [--repeats 5] [--out
runs/benchmarks]

A logistic regression on the mean and standard deviation of a recording's tokens; five folds of blocks of 25
neighbouring numbers, as one person may have several recordings; repeated with other folds. Recordings that
are listed and not here are kept aside by others. Interval: 95 % of bootstrap samples of blocks. Beside it:
shuffled labels, and the floor that came with the data (spectral statistics and a logistic regression).
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medfuse.io.sound import read_sound
from medfuse.models.senses.audio import tokens

FLOOR = {"a": 0.763, "b": 0.594}
BLOCK = 25
FOLDS = 5


def out_of_fold(x: np.ndarray, y: np.ndarray, block: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(N,) probabilities, each by a model that saw no recording of its block."""
    blocks = rng.permutation(np.unique(block))
    fold_of = {b: n % FOLDS for n, b in enumerate(blocks.tolist())}
    fold = np.array([fold_of[b] for b in block.tolist()])
    out = np.zeros(len(y))
    for k in range(FOLDS):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
        model.fit(x[fold != k], y[fold != k])
        out[fold == k] = model.predict_proba(x[fold == k])[:, 1]
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    options = parser.parse_args()
    with (options.data / "labels.csv").open(newline="") as f:
        lines = [r for r in csv.DictReader(f) if (options.data / "wav" / r["file"]).exists()]
    rows = []
    for source in ("a", "b"):
        mine = [r for r in lines if r["source_set"] == source]
        heard = [tokens(read_sound(options.data / "wav" / r["file"])) for r in mine]
        x = np.stack([np.concatenate([t.mean(0), t.std(0)]) for t in heard])
        y = np.array([int(r["abnormal"]) for r in mine])
        block = np.array([int(r["recording"][1:]) // BLOCK for r in mine])
        rng = np.random.default_rng(0)
        chance = np.mean([out_of_fold(x, y, block, rng) for _ in range(options.repeats)], 0)
        shuffled = [
            roc_auc_score(z, out_of_fold(x, z, block, rng))
            for z in (rng.permutation(y) for _ in range(options.repeats))
        ]
        drawn = []
        for _ in range(1000):
            of = [np.flatnonzero(block == b) for b in rng.choice(np.unique(block), len(np.unique(block)))]
            at = np.concatenate(of)
            if 0 < y[at].sum() < len(at):
                drawn.append(roc_auc_score(y[at], chance[at]))
        low, high = np.percentile(drawn, [2.5, 97.5])
        rows.append(
            {
                "source": source,
                "n": len(y),
                "auroc": round(float(roc_auc_score(y, chance)), 3),
                "low": round(float(low), 3),
                "high": round(float(high), 3),
                "floor": FLOOR[source],
                "shuffled": round(float(np.mean(shuffled)), 3),
            }
        )
    print("| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(str(v) for v in row.values()) + " |")
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "heart_sounds.json").write_text(json.dumps({"rows": rows}, indent=1))


if __name__ == "__main__":
    main()
