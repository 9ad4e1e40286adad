"""Search by words in simulated patients: along the knowledge graph, by the labeller's findings without a
graph, and in the shared space of images and words.

python benchmarks/knowledge.py [--cases 60] [--seed 900005] [--out runs/benchmarks]

Precision among the first ten, and average precision, for queries that name something wider than a finding; a
case is right where the simulator put any of the findings that a radiologist would mean (listed here by
hand, not taken from the graph). Chance is the share of cases that are right.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import average_precision_score

from medfuse.bundles.bundle import load_bundle
from medfuse.drafting.asked import asked
from medfuse.drafting.held import Outlined, holds
from medfuse.drafting.labeller import label, task_lexicon
from medfuse.inference.predictor import Predictor
from medfuse.io.read import open_case
from medfuse.knowledge import task_graph
from medfuse.simulation.dicom_writer import write
from medfuse.simulation.patient import simulate
from medfuse.workflows.search import embed_words

QUERIES = {
    "benign cystic lesion": ("simple_cyst", "septated_cyst"),
    "cystic lesion": ("simple_cyst", "septated_cyst"),
    "malignant lesion": ("hcc_like", "metastasis_like"),
    "benign lesion": ("simple_cyst", "septated_cyst", "haemangioma", "fnh_like", "calcified_granuloma"),
    "hypervascular lesion": ("hcc_like", "fnh_like"),
    "diffuse liver disease": ("steatosis", "cirrhosis", "iron"),
    "biliary abnormality": ("gallstone", "dilated_ducts"),
    "hepatic infection": ("abscess",),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=60)
    parser.add_argument("--seed", type=int, default=900005)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    bundle = load_bundle("upper-abdomen-simulated")
    predictor = Predictor(bundle)
    graph = task_graph(bundle.task)
    lexicon = task_lexicon(bundle.task)
    truth, made = [], []
    for i in range(options.cases):
        patient = simulate(options.seed, i)
        with tempfile.TemporaryDirectory() as folder:
            write(patient, Path(folder) / "case")
            prediction = predictor(open_case(Path(folder) / "case"))
        truth.append(patient.labels)
        made.append(prediction)
    rows = []
    for words, meant in QUERIES.items():
        right = np.array([any(t[f] for f in meant) for t in truth])
        if not right.any():
            continue
        said = [f for f, s in label(words, lexicon).items() if s]
        chances = [{f.id: f.probability for f in p.findings if f.probability is not None} for p in made]
        lesions = [
            [Outlined(finding=x.finding, probability=x.probability, side=x.side) for x in p.lesions]
            for p in made
        ]
        query = embed_words(bundle, words)
        space = np.array([max(float(np.dot(query, v)) for v in p.embedding.values()) for p in made])
        demands = asked(words, graph)
        by = {
            "graph": np.array(
                [holds(demands, c, x, bundle.task).probability for c, x in zip(chances, lesions, strict=True)]
            )
            + 1e-6 * space,
            "labeller": np.array([max((c.get(f, 0.0) for f in said), default=0.0) for c in chances])
            + 1e-6 * space,
            "space": space,
        }
        row = {"query": words, "n": int(right.sum()), "chance": round(float(right.mean()), 3)}
        for way, score in by.items():
            row[f"{way} P@10"] = round(float(right[np.argsort(-score)[:10]].mean()), 2)
            row[f"{way} AP"] = round(float(average_precision_score(right, score)), 3)
        rows.append(row)
    means = {k: round(float(np.mean([r[k] for r in rows])), 3) for k in rows[0] if k not in ("query", "n")}
    rows.append({"query": "mean", "n": len(truth), **means})
    print("| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(str(v) for v in row.values()) + " |")
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "knowledge.json").write_text(json.dumps({"cases": len(truth), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
