"""What laboratory values and the words of the indication add to the images, in simulation: the same encoders,
cases and steps.

python benchmarks/senses.py --train population/manifest.jsonl --test test/manifest.jsonl --work DIR [--steps
300] [--seeds 1 2 3]

Two additive co-attention models on cached region features: of the task upper-abdomen, and of
upper-abdomen-words with LABS and TEXT as further senses. Chosen on validation, scored once on the test set;
differences are paired by patient, seeds averaged.
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path

import numpy as np
import torch
from coordination import features

from medfuse import __version__
from medfuse.bundles.bundle import load_bundle
from medfuse.evaluation.findings import finding_auroc, paired_difference
from medfuse.models.feature_set import collect, predict_logits
from medfuse.models.model import FusionModel, ModelConfig
from medfuse.models.subsets import use_only
from medfuse.task import load_task
from medfuse.training.budget import Budget
from medfuse.training.stages.fusion import FusionTraining, train_fusion

IMAGES = ("US", "CT", "MR")
SHOWN = (
    IMAGES,
    (*IMAGES, "LABS"),
    (*IMAGES, "TEXT"),
    (*IMAGES, "LABS", "TEXT"),
    ("US",),
    ("US", "LABS"),
    ("LABS",),
    ("TEXT",),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="caches, in train/ and test/")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    bundle = load_bundle("upper-abdomen-simulated")
    scored: dict[tuple[str, str], list[np.ndarray]] = {}
    for name in ("upper-abdomen", "upper-abdomen-words"):
        task = load_task(name)
        both, is_train = features(
            task, bundle.model.encoders, options.train, options.work / "train", ("train", "val")
        )
        test, _ = features(task, bundle.model.encoders, options.test, options.work / "test", ("test",))
        for seed in options.seeds:
            torch.manual_seed(seed)
            model = FusionModel(task, ModelConfig(vocabulary=1, additive=True), encoders=False)
            data = [
                collect(task, model.sizes, s) for s in (both.subset(is_train), both.subset(~is_train), test)
            ]
            best = train_fusion(
                model, data[0], data[1], budget=Budget(steps=options.steps), how=FusionTraining(seed=seed)
            )
            print(f"{name} seed {seed}: validation {best:.4f}", flush=True)
            for s in SHOWN:
                if set(s) <= set(task.senses):
                    use = use_only(s, task.senses, len(test.labels))
                    scored.setdefault((name, "+".join(s)), []).append(
                        predict_logits(model, data[2].batch, use)
                    )
    labels = test.labels
    table = {}
    for key, runs in scored.items():
        auroc = np.stack([finding_auroc(labels, r) for r in runs])
        macro = np.nanmean(auroc, 1)
        table[" / ".join(key)] = {
            "macro_auroc": [round(float(macro.mean()), 4), round(float(macro.std()), 4)]
        }
    plain = np.mean(scored[("upper-abdomen", "+".join(IMAGES))], 0)
    words = np.mean(scored[("upper-abdomen-words", "+".join((*IMAGES, "LABS", "TEXT")))], 0)
    by_finding = {
        f.id: round(float(b - a), 4)
        for f, a, b in zip(
            task.findings, finding_auroc(labels, plain), finding_auroc(labels, words), strict=True
        )
    }
    result = {
        "n": len(labels),
        "steps": options.steps,
        "seeds": options.seeds,
        "rows": table,
        "with_labs_and_text_minus_images": paired_difference(labels, words, plain, seed=0).as_json(),
        "by_finding": by_finding,
        "machine": f"{platform.machine()}, one thread, torch {torch.__version__}, medfuse {__version__}",
    }
    print(json.dumps(result, indent=1))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "senses.json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
