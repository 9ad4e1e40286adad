"""Do images find words, words images, and one modality another? Objectives beside each other, in simulation.

python benchmarks/coordination.py --train population/manifest.jsonl --test test/manifest.jsonl --work DIR
[--steps 500] [--seed 1]

All on the cached region features of the shipped encoders: SigLIP and InfoNCE trained alike, SigLIP on a
    training set in which ultrasound and CT never occur in one patient (each case keeps one of them), so that
    only text binds them; and linear CCA as the yardstick, fitted on pooled features and on the words of the
    reports. Reports of the test set in phrasings that training saw, and in held-out ones.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import TfidfVectorizer

from medfuse import __version__
from medfuse.bundles.bundle import load_bundle
from medfuse.evaluation.evaluate import retrieve
from medfuse.evaluation.retrieval import chance, label_oracle, recall
from medfuse.io.manifest import read_manifest
from medfuse.models.coordination import LinearCCA
from medfuse.models.feature_set import FeatureSet, collect
from medfuse.models.features import CaseFeatures
from medfuse.models.model import FusionModel, ModelConfig
from medfuse.models.text import train_tokenizer
from medfuse.simulation.patient import report_of
from medfuse.task import Task
from medfuse.training.budget import Budget
from medfuse.training.data.features import extract_features
from medfuse.training.data.tensors import PreparedCases, preprocess_manifest
from medfuse.training.stages.fusion import FusionTraining, train_fusion

WORDS_DROPPED = 0.4  # share of a report's tokens hidden from a training step
PAIRS = ("case->text", "text->case", "US->CT", "CT->US", "US->MR", "MR->US", "CT->MR", "MR->CT")


def features(
    task: Task, encoders, manifest: Path, work: Path, splits: tuple[str, ...]
) -> tuple[FeatureSet, np.ndarray]:
    """Cached region features of the rows of some splits, and which of them train."""
    rows = [r for r in read_manifest(manifest) if r.split in splits]
    work.mkdir(parents=True, exist_ok=True)
    workers = os.cpu_count() or 1
    folder, entries = preprocess_manifest(task, rows, work / "tensors", workers=workers)
    data = extract_features(
        task,
        encoders,
        PreparedCases(rows=rows, folder=folder, entries=entries),
        device=torch.device("cpu"),
        cache=work,
        workers=workers,
    )
    return data, np.array([r.split == "train" for r in rows])


def never_together(data: FeatureSet, a: str, b: str) -> FeatureSet:
    """Every case keeps one of two modalities, in turn."""
    out = []
    for n, case in enumerate(data.features):
        gone = a if n % 2 else b
        parts = ({m: v for m, v in d.items() if m != gone} for d in (case.features, case.mask, case.kind))
        out.append(CaseFeatures(*parts))
    return FeatureSet(data.case_ids, out, data.labels, data.reports)


def held_out(data: FeatureSet) -> FeatureSet:
    """The same simulated patients, reported in phrasings that no training saw."""
    numbers = [c.split("-")[1:3] for c in data.case_ids]
    return FeatureSet(
        data.case_ids,
        data.features,
        data.labels,
        [report_of(int(s), int(i), held_out=True) for s, i in numbers],
    )


def pooled(data: FeatureSet, modality: str, width: int) -> np.ndarray:
    """(B, width) mean and maximum of the regions; zeros where there are none."""
    rows = []
    for c in data.features:
        x = c.features[modality][c.mask[modality]] if modality in c.mask else np.zeros((0, 0))
        rows.append(np.r_[x.mean(0), x.max(0)] if len(x) else np.zeros(width))
    return np.stack(rows)


def cca(train: FeatureSet, test: FeatureSet, late: FeatureSet, sizes: dict[str, int]) -> dict:
    """Linear CCA of the pooled features of two modalities, and of all modalities with the words of the
    report."""
    parts = {}
    for m, n in sizes.items():
        both = [pooled(s, m, 2 * n) for s in (train, test)]
        mean = both[0].mean(0)
        sd = both[0].std(0) + 1e-6
        fit = PCA(40, random_state=0).fit((both[0] - mean) / sd)
        parts[m] = [fit.transform((x - mean) / sd) for x in both]
    words = TfidfVectorizer(min_df=5).fit(train.reports)
    fit = PCA(60, random_state=0).fit(words.transform(train.reports).toarray())
    text = [fit.transform(words.transform(s.reports).toarray()) for s in (train, test, late)]
    every = [np.concatenate([parts[m][k] for m in sizes], 1) for k in (0, 1)]

    def fitted(a: np.ndarray, b: np.ndarray) -> LinearCCA:
        return LinearCCA.fit(torch.tensor(a).float(), torch.tensor(b).float(), 24, ridge=0.05)

    out = {}
    to_text = fitted(every[0], text[0])
    a = to_text.embed_a(torch.tensor(every[1]).float()).numpy()
    for k, suffix in ((1, ""), (2, ", held-out phrasing")):
        b = to_text.embed_b(torch.tensor(text[k]).float()).numpy()
        out[f"case->text{suffix}"] = recall(a, b)
        out[f"text->case{suffix}"] = recall(b, a)
    for m, n in (("US", "CT"), ("US", "MR"), ("CT", "MR")):
        there = test.has(m) & test.has(n)
        both_there = train.has(m) & train.has(n)
        maps = fitted(parts[m][0][both_there], parts[n][0][both_there])
        a = maps.embed_a(torch.tensor(parts[m][1][there]).float()).numpy()
        b = maps.embed_b(torch.tensor(parts[n][1][there]).float()).numpy()
        out[f"{m}->{n}"] = recall(a, b)
        out[f"{n}->{m}"] = recall(b, a)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="caches, in train/ and test/")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rows", nargs="+", help="only these of the trained rows")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    bundle = load_bundle("upper-abdomen-simulated")
    both, is_train = features(
        bundle.task, bundle.model.encoders, options.train, options.work / "train", ("train", "val")
    )
    test, _ = features(bundle.task, bundle.model.encoders, options.test, options.work / "test", ("test",))
    train = both.subset(is_train)
    val = both.subset(~is_train)
    late = held_out(test)
    tokenizer = train_tokenizer(train.reports)
    rows: dict[str, dict] = {}
    for name, objective, seen, dropped in (
        ("SigLIP", "siglip", train, 0.0),
        ("InfoNCE", "infonce", train, 0.0),
        ("SigLIP, US and CT never together", "siglip", never_together(train, "US", "CT"), 0.0),
        ("SigLIP, words dropped", "siglip", train, WORDS_DROPPED),
    ):
        if options.rows and name not in options.rows:
            continue
        torch.manual_seed(options.seed)
        config = ModelConfig(vocabulary=tokenizer.get_vocab_size(), additive=True, coordination=objective)
        model = FusionModel(bundle.task, config, encoders=False)
        sets = [collect(bundle.task, model.sizes, s, tokenizer) for s in (seen, val, test, late)]
        best = train_fusion(
            model,
            sets[0],
            sets[1],
            budget=Budget(steps=options.steps),
            how=FusionTraining(seed=options.seed, word_dropout=dropped),
        )
        print(f"{name}: validation macro AUROC over subsets {best:.4f}", flush=True)
        rows[name] = {k: v for k, v in retrieve(model, sets[2], test).items() if k in PAIRS}
        unseen = retrieve(model, sets[3], late)
        rows[name] |= {f"{k}, held-out phrasing": unseen[k] for k in ("case->text", "text->case")}
    rows["linear CCA"] = cca(train, test, late, model.sizes)
    result = {
        "n": len(test.case_ids),
        "steps": options.steps,
        "seed": options.seed,
        "rows": rows,
        "chance": chance(len(test.case_ids)),
        "labels_alone": label_oracle(test.labels),
        "machine": f"{platform.machine()}, one thread, torch {torch.__version__}, medfuse {__version__}",
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "coordination.json").write_text(json.dumps(result, indent=1))
    shown = [*PAIRS, "case->text, held-out phrasing", "text->case, held-out phrasing"]
    print("| R@1 / R@5 / R@10 | " + " | ".join(rows) + " |\n|---|" + "---|" * len(rows))
    for pair in shown:
        cells = [
            " / ".join(f"{r[pair][k]:.3f}" for k in ("r1", "r5", "r10")) if pair in r else "–"
            for r in rows.values()
        ]
        print(f"| {pair} | " + " | ".join(cells) + " |")
    print(
        f"labels alone {result['labels_alone']}, chance {result['chance']}; n = {result['n']}, "
        f"{result['machine']}"
    )


if __name__ == "__main__":
    main()
