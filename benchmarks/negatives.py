"""Which patients are no negatives of each other in the shared space: none, those with the same findings, or
those near in the knowledge graph. In simulation.

    python benchmarks/negatives.py --train TRAIN/manifest.jsonl --test TEST/manifest.jsonl --work DIR
        [--steps 300] [--seeds 2]

On cached region features of the shipped encoders, fusion and shared space are trained anew three ways on
four fifths of TRAIN, alike but for that (the other fifth chooses the weights). Mean average precision, in the
shared space alone, of the queries of benchmarks/knowledge.py that name something wider than a finding, and
R@10 from a case to its report and back. Beside them what the same queries find by words: the findings that
the labeller reads from a query, ranked by the trained model's own probabilities. Means over seeds, least and
most.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from coordination import features
from knowledge import QUERIES
from sklearn.metrics import average_precision_score
from torch import Tensor

from medfuse.bundles.bundle import load_bundle
from medfuse.drafting.labeller import label, task_lexicon
from medfuse.evaluation.evaluate import retrieve
from medfuse.knowledge import task_graph
from medfuse.models.coordination import near_findings, same_findings
from medfuse.models.feature_set import FeatureSet, FusionData, collect, predict_logits
from medfuse.models.model import FusionModel, ModelConfig
from medfuse.models.text import tokenize, train_tokenizer
from medfuse.task import Task
from medfuse.training.budget import Budget
from medfuse.training.stages.fusion import FusionTraining, train_fusion


def ways(task: Task) -> dict[str, Callable[[Tensor], Tensor]]:
    """Labels (B, F) to pairs (B, B) that are no negatives, by name."""
    graph = task_graph(task)
    assert graph is not None
    up = torch.tensor(graph.one_up())
    return {
        "every other patient": lambda labels: torch.eye(len(labels), dtype=torch.bool),
        "but the same findings": same_findings,
        "but those near in the graph": lambda labels: near_findings(labels, up),
    }


@torch.no_grad()
def found(model: FusionModel, tokenizer, data: FusionData, test: FeatureSet, task: Task) -> dict[str, float]:
    """Mean average precision of the queries in the space and by words, chance, and recall of reports."""
    cases = model.eval()(data.batch).embedding["joint"].numpy()
    logits = predict_logits(model, data.batch)
    place = {f.id: n for n, f in enumerate(task.findings)}
    lexicon = task_lexicon(task)
    rows: dict[str, list[float]] = {"space": [], "words": [], "chance": []}
    for words, meant in QUERIES.items():
        right = (test.labels[:, [place[f] for f in meant]] == 1).any(1)
        if not right.any():
            continue
        ids, mask = tokenize(tokenizer, [words])
        said = [place[f] for f, s in label(words, lexicon).items() if s and f in place]
        by_words = logits[:, said].max(1) if said else np.zeros(len(right))
        rows["space"].append(average_precision_score(right, cases @ model.embed_text(ids, mask)[0].numpy()))
        rows["words"].append(average_precision_score(right, by_words))
        rows["chance"].append(float(right.mean()))
    recalls = retrieve(model, data, test)
    out = {k: float(np.mean(v)) for k, v in rows.items()}
    return out | {k: recalls[k]["r10"] for k in ("case->text", "text->case")}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="caches, in train/ and test/")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks/negatives.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    bundle = load_bundle("upper-abdomen-simulated")
    task = bundle.task
    every, _ = features(task, bundle.model.encoders, options.train, options.work / "train", ("train",))
    test, _ = features(task, bundle.model.encoders, options.test, options.work / "test", ("test",))
    last = np.arange(len(every.labels)) >= 4 * len(every.labels) // 5
    train, val = every.subset(~last), every.subset(last)
    tokenizer = train_tokenizer(train.reports)
    result: dict[str, list[dict[str, float]]] = {}
    for name, near in ways(task).items():
        for seed in range(1, options.seeds + 1):
            torch.manual_seed(seed)
            config = ModelConfig(vocabulary=tokenizer.get_vocab_size(), additive=True)
            model = FusionModel(task, config, encoders=False)
            sets = [collect(task, model.sizes, s, tokenizer) for s in (train, val, test)]
            how = FusionTraining(seed=seed, near=near)
            train_fusion(model, sets[0], sets[1], budget=Budget(steps=options.steps), how=how)
            result.setdefault(name, []).append(found(model, tokenizer, sets[2], test, task))
            print(name, seed, json.dumps(result[name][-1]), flush=True)
    labels = torch.from_numpy(train.labels)
    keys = list(next(iter(result.values()))[0])
    print(f"| negatives | pairs left out | {' | '.join(keys)} |\n|---|---|{'---|' * len(keys)}")
    for name, runs in result.items():
        every_run = [[r[k] for r in runs] for k in keys]
        cells = [f"{np.mean(v):.3f} ({min(v):.3f} to {max(v):.3f})" for v in every_run]
        share = float(ways(task)[name](labels).float().mean())
        print(f"| {name} | {share:.3f} | {' | '.join(cells)} |")
    print(f"{len(test.labels)} patients, {len(labels)} to learn from, {options.steps} steps")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
