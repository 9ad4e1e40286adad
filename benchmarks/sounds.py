"""Sounds and images that no training brought together: simulated Doppler sound bound to a bundle through
claims, then found from images and finding them.

medfuse simulate --cases 1200 --seed 250261 --format sounds --out train
medfuse simulate --cases 240 --seed 250260 --format nifti --sounds --split test --out test
python benchmarks/sounds.py --train train/manifest.jsonl --test test/manifest.jsonl --work DIR

Each pair: R@10 from the row to the column, with 95 % (Wilson) of the patients; by chance; with the sounds of
the test patients exchanged (mean of five orders); and from all true claims in place of the sound, which is
what a sound that told everything would give. Beside it: which findings the sound tells, as AUROC; and how
often the right one of three pictures is found, as `medfuse demo` looks for it. With --ship FOLDER the sense
is written as the one that comes with medfuse.
"""

from __future__ import annotations

import argparse
import json
from copy import copy
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from medfuse.bundles.beside import BesideFile, write_beside
from medfuse.bundles.bound import bound_temperatures, load_bound
from medfuse.bundles.bundle import Bundle, load_bundle
from medfuse.bundles.calibration import calibrated
from medfuse.cohort.audit import wilson
from medfuse.evaluation.evaluate import features_of
from medfuse.evaluation.results import Space
from medfuse.evaluation.space import CLAIMS, agreement, asked_findings, case_chances, space_of_bundle
from medfuse.io.manifest import ManifestRow, read_manifest
from medfuse.models.feature_set import FeatureSet, collect, label_matrix
from medfuse.workflows.bind import bind

SENSE = "AUDIO"
OTHERS = ("US", "CT", "MR", "case", "words", "claims", "unseen_words")
GOAL = 5  # times chance


def exchanged(data: FeatureSet, seed: int) -> FeatureSet:
    """The same cases, each with the sound of another."""
    order = np.random.default_rng(seed).permutation(len(data.features))
    cases = []
    for case, other in zip(data.features, (data.features[n] for n in order), strict=True):
        mixed = copy(case)
        for part in ("features", "mask", "kind"):
            setattr(mixed, part, {**getattr(case, part), SENSE: getattr(other, part)[SENSE]})
        cases.append(mixed)
    return FeatureSet(data.case_ids, cases, data.labels, data.reports, data.rephrased)


def rows_of(true: Space, shuffled: list[Space]) -> list[dict[str, object]]:
    """One row a pair with the sound."""
    rows: list[dict[str, object]] = []
    for other in OTHERS:
        for pair in (f"{SENSE}->{other}", f"{other}->{SENSE}"):
            found = true.matrix[pair]
            chance = true.chance[str(found.n)]["r10"]
            low, high = wilson(found.r10 * found.n, found.n) or (0.0, 1.0)
            oracle = true.matrix.get(pair.replace(SENSE, CLAIMS))
            rows.append(
                {
                    "pair": pair.replace("->", " → "),
                    "n": found.n,
                    "R@10": f"{found.r10:.3f} [{low:.3f}, {high:.3f}]",
                    "chance": f"{chance:.3f}",
                    "times": f"{found.r10 / chance:.1f}",
                    "shuffled": f"{np.mean([s.matrix[pair].r10 for s in shuffled]):.3f}",
                    "all claims": f"{oracle.r10:.3f}" if oracle else "",
                    "trained": "yes" if found.trained else "no",
                }
            )
    return rows


def of_three(bundle: Bundle, data: FeatureSet, rows: list[ManifestRow]) -> float:
    """How often the picture of the sound's patient comes first of three; 3,000 draws of three patients."""
    prior = prior_of(bundle, rows)[asked_findings(bundle.task)]
    fused = collect(bundle.task, bundle.model.sizes, data, bundle.tokenizer)
    by_image = case_chances(bundle, fused, data)[:, asked_findings(bundle.task)]
    logits = load_bound(bundle)[SENSE].logits(data.features).numpy()
    by_sound = calibrated(logits, bound_temperatures(bundle)[SENSE])[:, asked_findings(bundle.task)]
    score = agreement(by_sound, by_image, prior)
    rng = np.random.default_rng(0)
    drawn = np.stack([rng.choice(len(score), 3, replace=False) for _ in range(3000)])
    return float(np.mean([score[d[0], d].argmax() == 0 for d in drawn]))


def prior_of(bundle: Bundle, rows: list[ManifestRow]) -> np.ndarray:
    """(F,) how often the rows have each finding of the task."""
    labels = label_matrix(bundle.task, rows)
    return np.array([y[y >= 0].mean() for y in labels.T])


def ship(bundle: Bundle, rows: list[ManifestRow], name: str, seed: int, folder: Path) -> None:
    """Write what was bound without the bundle's own files."""
    prior = prior_of(bundle, rows)
    file = BesideFile(
        sense=SENSE,
        bundle=name,
        temperature=bound_temperatures(bundle)[SENSE],
        prior={f.id: round(float(p), 4) for f, p in zip(bundle.task.findings, prior, strict=True)},
        cases=len(rows),
        seed=seed,
        simulated=all(r.simulated for r in rows),
    )
    write_beside(folder, load_bound(bundle)[SENSE], file)


def told(bundle: Bundle, data: FeatureSet) -> dict[str, float]:
    """AUROC of each finding by the sound alone, of those that 10 cases have and 10 have not."""
    logits = load_bound(bundle)[SENSE].logits(data.features).numpy()
    out = {}
    for n in asked_findings(bundle.task):
        known = data.labels[:, n] >= 0
        y = data.labels[known, n]
        if min(y.sum(), len(y) - y.sum()) >= 10:
            out[bundle.task.findings[n].id] = round(float(roc_auc_score(y, logits[known, n])), 3)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", default="upper-abdomen-simulated")
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--ship", type=Path, help="new folder, such as medfuse/bundles/senses/BUNDLE-audio")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    out = options.work / f"with-sounds-{options.seed}"
    if not out.exists():
        bind(options.bundle, SENSE, options.train, out, seed=options.seed)
    bundle = load_bundle(out)
    learned = [r for r in read_manifest(options.train) if r.split == "train"]
    if options.ship:
        ship(bundle, learned, options.bundle, options.seed, options.ship)
    rows = [r for r in read_manifest(options.test) if r.split == "test" and r.images and r.sounds]
    data, refused = features_of(bundle, rows, "cpu", lambda done, total: None)
    shuffled = [space_of_bundle(bundle, exchanged(data, seed)) for seed in range(5)]
    table = rows_of(space_of_bundle(bundle, data), shuffled)
    print("| " + " | ".join(table[0]) + " |\n|" + "---|" * len(table[0]))
    for row in table:
        print("| " + " | ".join(str(v) for v in row.values()) + " |")
    emergent = [r for r in table if any(m in str(r["pair"]) for m in ("US", "CT", "MR", "case"))]
    reached = [str(r["pair"]) for r in emergent if float(str(r["times"])) >= GOAL]
    print(f"goal of {GOAL} times chance: {', '.join(reached) or 'reached by no pair of sound and image'}")
    heard = told(bundle, data)
    print("told by the sound (AUROC): " + ", ".join(f"{k} {v}" for k, v in heard.items()))
    three = of_three(bundle, data, learned)
    print(f"the right one of three pictures comes first: {three:.3f} (chance .333)")
    options.out.mkdir(parents=True, exist_ok=True)
    result = {"pairs": table, "auroc": heard, "refused": refused, "seed": options.seed, "three": three}
    (options.out / "sounds.json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
