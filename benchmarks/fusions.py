"""Fusions beside each other on frozen encoders: merge, cross, co and their baselines, over seeds, for every
subset.

python benchmarks/fusions.py --train population/manifest.jsonl --test test/manifest.jsonl [--shifted M]
[--control M] --work DIR

Features of each manifest are extracted once by the encoders of --bundle and cached under --work/NAME. Every
fusion is trained on the split "train" with the same steps, chosen on "val", scored once on the test
manifests; mean ± standard deviation over --seeds. Specialists are co-attention models trained for one subset
alone. No report text is used here: what is compared is fusion.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path

import numpy as np
import torch

from medfuse import __version__
from medfuse.bundles.bundle import load_bundle
from medfuse.evaluation.findings import finding_auroc, macro, paired_difference
from medfuse.io.manifest import read_manifest
from medfuse.models.baselines import LateConcat, LogitStack
from medfuse.models.feature_set import FeatureSet, collect, predict_logits
from medfuse.models.model import FusionModel, ModelConfig
from medfuse.models.subsets import name as subset_name
from medfuse.models.subsets import subsets, use_only
from medfuse.training.budget import Budget
from medfuse.training.data.features import extract_features
from medfuse.training.data.tensors import PreparedCases, preprocess_manifest
from medfuse.training.stages.fusion import FusionTraining, train_fusion

KINDS = ("logit_stack", "late_concat", "merge", "cross", "co", "co_additive", "specialist")


def features(bundle, manifest: Path, work: Path, workers: int) -> tuple[FeatureSet, np.ndarray]:
    rows = read_manifest(manifest)
    work.mkdir(parents=True, exist_ok=True)
    folder, entries = preprocess_manifest(bundle.task, rows, work / "tensors", workers=workers)
    found = extract_features(
        bundle.task,
        bundle.model.encoders,
        PreparedCases(rows=rows, folder=folder, entries=entries),
        device=torch.device("cpu"),
        cache=work,
        workers=workers,
    )
    return found, np.array([r.split for r in rows])


def config_of(kind: str) -> ModelConfig:
    base = {"vocabulary": 1}
    return ModelConfig(fusion=kind.split("_")[0], additive=kind == "co_additive", **base)


class Scores:
    """Logits of one seed's models on one test set: (kind, subset) → (cases there, logits)."""

    def __init__(self, task, data: FeatureSet) -> None:
        self.task = task
        self.data = data
        self.logits: dict[tuple[str, str], np.ndarray] = {}

    def there(self, subset: tuple[str, ...]) -> np.ndarray:
        return np.all([self.data.has(m) for m in subset], axis=0)

    def add(self, kind: str, subset: tuple[str, ...], logits: np.ndarray) -> None:
        self.logits[kind, subset_name(subset)] = logits[self.there(subset)]

    def row(self, kind: str, subset: tuple[str, ...]) -> dict[str, float]:
        auroc = finding_auroc(self.data.labels[self.there(subset)], self.logits[kind, subset_name(subset)])
        groups = {
            g: [i for i, f in enumerate(self.task.findings) if f.group == g] for g in ("focal", "diffuse")
        }
        every = list(range(len(auroc)))
        return {
            "macro": macro(auroc, every),
            "focal": macro(auroc, groups["focal"]),
            "diffuse": macro(auroc, groups["diffuse"]),
            "findings": auroc.tolist(),
        }


def one_seed(
    task,
    train: FeatureSet,
    val: FeatureSet,
    tests: dict[str, FeatureSet],
    steps: int,
    seed: int,
    kinds: list[str],
    log,
) -> dict[str, Scores]:
    scored = {name: Scores(task, data) for name, data in tests.items()}

    def fit(model, kind: str, whole: bool = False) -> float:
        started = time.monotonic()
        data = [collect(task, model.sizes, s) for s in (train, val)]
        best = train_fusion(
            model,
            *data,
            budget=Budget(steps=steps),
            how=FusionTraining(seed=seed, max_epochs=10_000, whole=whole),
        )
        parameters = sum(
            p.numel()
            for n, p in model.named_parameters()
            if not n.startswith(("encoders.", "text.", "projection."))
        )
        log(
            f"seed {seed} {kind}: validation {best:.4f}, {parameters} parameters, "
            f"{time.monotonic() - started:.0f} s"
        )
        return best

    def build(kind: str, modalities: tuple[str, ...] | None = None):
        torch.manual_seed(seed)
        if kind == "late_concat":
            return LateConcat(task, ModelConfig(width=64, layers=1, vocabulary=1))
        return FusionModel(task, config_of(kind), modalities=modalities, encoders=False)

    for kind in [k for k in kinds if k not in ("logit_stack", "specialist")]:
        model = build(kind)
        fit(model, kind)
        for name, data in tests.items():
            batch = collect(task, model.sizes, data)
            for s in subsets(task.senses):
                scored[name].add(
                    kind, s, predict_logits(model, batch.batch, use_only(s, task.senses, len(data.labels)))
                )
    single: dict[str, dict[str, np.ndarray]] = {}
    for s in subsets(task.senses):
        if len(s) > 1 and "specialist" not in kinds:
            continue
        model = build("co", s)
        kept = [d.subset(np.all([d.has(m) for m in s], axis=0)) for d in (train, val)]
        started = time.monotonic()
        best = train_fusion(
            model,
            *[collect(task, model.sizes, d) for d in kept],
            budget=Budget(steps=steps),
            how=FusionTraining(seed=seed, max_epochs=10_000, whole=True),
        )
        log(
            f"seed {seed} specialist {subset_name(s)}: validation {best:.4f}, "
            f"{time.monotonic() - started:.0f} s"
        )
        for name, data in {"val": val, **tests}.items():
            logits = predict_logits(model, collect(task, model.sizes, data).batch)
            if name != "val":
                scored[name].add("specialist", s, logits)
            if len(s) == 1:
                single.setdefault(name, {})[s[0]] = logits
    for s in subsets(task.senses):
        stack = LogitStack()
        there = np.all([val.has(m) for m in s], axis=0)
        stack.fit(s, {m: single["val"][m][there] for m in s}, np.maximum(val.labels[there], 0))
        for name in tests:
            scored[name].add("logit_stack", s, stack.predict(s, {m: single[name][m] for m in s}))
    return scored


def summary(task, every: list[dict[str, Scores]], name: str, kinds: list[str], reference: str) -> dict:
    """Mean and spread over seeds by subset and kind; paired differences of ``reference`` on the averaged
    logits."""
    out: dict = {"n": len(every[0][name].data.case_ids), "subsets": {}, "reference": reference, "minus": {}}
    for s in subsets(task.senses):
        key = subset_name(s)
        out["subsets"][key] = {}
        for kind in kinds:
            rows = [run[name].row(kind, s) for run in every]
            out["subsets"][key][kind] = {
                g: [
                    round(float(np.mean([r[g] for r in rows])), 4),
                    round(float(np.std([r[g] for r in rows], ddof=1)) if len(rows) > 1 else 0.0, 4),
                ]
                for g in ("macro", "focal", "diffuse")
            } | {"findings": [round(float(v), 4) for v in np.mean([r["findings"] for r in rows], axis=0)]}
        labels = every[0][name].data.labels[every[0][name].there(s)]
        mean = {k: np.mean([run[name].logits[k, key] for run in every], axis=0) for k in kinds}
        out["minus"][key] = {
            k: paired_difference(labels, mean[reference], mean[k]).as_json() for k in kinds if k != reference
        }
    full = subset_name(task.senses)
    singles = [subset_name((m,)) for m in task.senses]
    best = max(singles, key=lambda m: out["subsets"][m][reference]["macro"][0])
    there = every[0][name].there(task.senses)
    alone = np.mean([run[name].logits[reference, best] for run in every], axis=0)
    rows_of_best = every[0][name].there((best,))
    out["gain"] = {
        "best_single": best,
        **paired_difference(
            every[0][name].data.labels[there],
            np.mean([run[name].logits[reference, full] for run in every], axis=0),
            alone[there[rows_of_best]],
        ).as_json(),
    }
    return out


def table(name: str, result: dict, kinds: list[str]) -> str:
    reference = result["reference"]
    cell = lambda v: f"{v[0]:.3f} ± {v[1]:.3f}"  # noqa: E731
    lines = [f"**{name}**, n = {result['n']}", ""]
    for group in ("macro", "focal", "diffuse"):
        lines += [
            f"| {group} AUROC | " + " | ".join(k.replace("_", " ") for k in kinds) + " |",
            "|---" * (len(kinds) + 1) + "|",
        ]
        lines += [
            f"| {s} | " + " | ".join(cell(row[k][group]) for k in kinds) + " |"
            for s, row in result["subsets"].items()
        ] + [""]
    lines += [
        f"| {reference} minus (paired by patient, seeds averaged) | "
        + " | ".join(k for k in kinds if k != reference)
        + " |",
        "|---" * len(kinds) + "|",
    ]
    show = lambda d: f"{d['difference']:+.3f} [{d['ci95'][0]:+.3f}, {d['ci95'][1]:+.3f}]"  # noqa: E731
    lines += [
        f"| {s} | " + " | ".join(show(row[k]) for k in kinds if k != reference) + " |"
        for s, row in result["minus"].items()
    ]
    g = result["gain"]
    return "\n".join([*lines, "", f"{reference}, all three minus {g['best_single']} alone: {show(g)}"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("train", "test"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    for name in ("shifted", "control"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--bundle", default=None)
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--reference", default="co_additive", help="What the paired differences are of.")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    options = parser.parse_args()
    bundle = load_bundle(options.bundle)
    population, split = features(bundle, options.train, options.work / "train", options.workers)
    train = population.subset(split == "train")
    val = population.subset(split == "val")
    tests = {
        name: features(bundle, m, options.work / name, options.workers)[0]
        for name in ("test", "shifted", "control")
        if (m := getattr(options, name)) is not None
    }
    every = []
    for seed in options.seeds:
        every.append(
            one_seed(
                bundle.task,
                train,
                val,
                tests,
                options.steps,
                seed,
                options.kinds,
                lambda line: print(line, flush=True),
            )
        )
    result = {name: summary(bundle.task, every, name, options.kinds, options.reference) for name in tests}
    machine = (
        f"{platform.machine()}, {torch.get_num_threads()} thread(s), torch {torch.__version__}, medfuse "
        f"{__version__}"
    )
    result |= {
        "bundle": bundle.hash,
        "steps": options.steps,
        "seeds": options.seeds,
        "machine": machine,
        "findings": [f.id for f in bundle.task.findings],
        "train": len(train.case_ids),
        "val": len(val.case_ids),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "fusions.json").write_text(json.dumps(result, indent=1))
    print(
        f"\nEncoders of bundle {bundle.hash[:12]}, {len(train.case_ids)} training and "
        f"{len(val.case_ids)} validation cases, {options.steps} steps, seeds {options.seeds}; "
        f"{machine}\n"
    )
    print("\n\n".join(table(name, result[name], options.kinds) for name in tests))


if __name__ == "__main__":
    main()
