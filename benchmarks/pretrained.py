"""An own encoder against a frozen one from disk against both, with few labels, on real breast ultrasound
(BUSI); and what the tokens of an encoder from disk cost.

python benchmarks/pretrained.py --data ../shared/data/ultrasound2d/busi --minutes 2

The foreign encoder is the ultrasound encoder of the shipped bundle upper-abdomen-simulated, exported to
TorchScript and added by `medfuse encoder add`: its weights learned organs of SIMULATED abdomens and never saw
a breast. Images are in groups of near-duplicates as in benchmarks/busi.py; one fold; the labels that are left
out are left out of training alone. Intervals: bootstrap over the groups of the test images.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import yaml
from busi import CLASSES, groups_of, load, splits, write_manifest
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from medfuse.bundles.bundle import load_bundle
from medfuse.evaluation.evaluate import features_of
from medfuse.io.manifest import ManifestRow, read_manifest
from medfuse.io.read import open_case
from medfuse.models.feature_set import collect, predict_logits
from medfuse.models.pretrained.borrowed import Borrowed, of_task
from medfuse.task import Task, load_task
from medfuse.training.data.foreign import foreign_features
from medfuse.training.options import TrainOptions
from medfuse.training.run import train
from medfuse.workflows.encoders import add

ROWS = {"own": ["own"], "frozen": ["simulated-us"], "both": ["simulated-us", "own"]}
DRAWS = 1000


class Deep(nn.Module):
    """The deepest feature map of a dense encoder of frames."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(x, torch.ones(x.shape[0], 1, dtype=torch.bool))[2]


def exported(folder: Path) -> Path:
    """The foreign encoder: TorchScript and its contract."""
    bundle = load_bundle("upper-abdomen-simulated")
    how = bundle.task.modalities["US"].intensity
    low, high = (how.centre + how.width * v for v in how.clip)
    folder.mkdir(parents=True)
    size = bundle.task.modalities["US"].size
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(Deep(bundle.model.encoders["US"].eval()), torch.zeros(1, 1, size, size))
        traced.save(str(folder / "us.ts"))
    said = {
        "id": "simulated-us",
        "loader": "torchscript",
        "weights": {"file": "us.ts"},
        "takes": {"modality": "US"},
        "geometry": {"dims": 2, "orientation": None, "spacing_mm": None, "size": [size, size]},
        "intensity": {"kind": "byte", "windows": [[low, high]], "to": list(how.clip)},
        "gives": {"output": 0, "width": bundle.model.encoders["US"].deep_width, "tokens": "mean"},
        "compute": {"batch": 8},
        "licence": "Apache-2.0",
    }
    (folder / "encoder.yaml").write_text(yaml.safe_dump(said))
    return folder


def fewer(manifest: Path, share: float, seed: int, out: Path) -> Path:
    """The manifest with a share of its training cases, drawn class by class."""
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    rng = np.random.default_rng(seed)
    kept = []
    for name in CLASSES:
        mine = [r for r in rows if r["split"] == "train" and r["labels"][name] == 1]
        kept += [mine[i] for i in rng.permutation(len(mine))[: max(2, round(share * len(mine)))]]
    kept += [r for r in rows if r["split"] != "train"]
    out.write_text("\n".join(json.dumps(r) for r in kept) + "\n")
    return out


def auroc(y: np.ndarray, p: np.ndarray) -> float:
    """Mean over the classes, each against the rest."""
    return float(np.mean([roc_auc_score(y == k, p[:, k]) for k in range(len(CLASSES))]))


def interval(y: np.ndarray, p: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """95 % of a bootstrap over groups."""
    rng = np.random.default_rng(0)
    names = np.unique(groups)
    members = {g: np.flatnonzero(groups == g) for g in names}
    found = []
    for _ in range(DRAWS):
        at = np.concatenate([members[g] for g in rng.choice(names, len(names))])
        if len(np.unique(y[at])) == len(CLASSES):
            found.append(auroc(y[at], p[at]))
    low, high = np.percentile(found, (2.5, 97.5))
    return float(low), float(high)


def scored(task: Task, manifest: Path, out: Path, minutes: float, seed: int) -> dict[str, object]:
    """Train, and score the test images by the bundle."""
    started = time.monotonic()
    train(
        task,
        manifest,
        out,
        TrainOptions(minutes=minutes, seed=seed),
        command="benchmarks/pretrained.py",
        log=silent,
    )
    seconds = time.monotonic() - started
    bundle = load_bundle(out)
    rows = [r for r in read_manifest(manifest) if r.split == "test"]
    data, _ = features_of(bundle, rows, "cpu", lambda done, total: None)
    logits = predict_logits(bundle.model, collect(task, bundle.model.sizes, data).batch)
    order = [next(i for i, f in enumerate(task.findings) if f.id == c) for c in CLASSES]
    p = 1 / (1 + np.exp(-logits[:, order]))
    y = np.array([next(k for k, c in enumerate(CLASSES) if r.labels[c] == 1) for r in rows])
    low, high = interval(y, p, np.array([r.patient_id for r in rows]))
    return {
        "auroc": round(auroc(y, p), 3),
        "interval": [round(low, 3), round(high, 3)],
        "seconds": round(seconds),
        "test": len(rows),
    }


def silent(line: str) -> None:
    """Says nothing."""


def cost(task: Task, encoders: list[Borrowed], rows: list[ManifestRow], folder: Path) -> dict[str, float]:
    """Seconds of the first and second run over the same cases, and of the bare network on inputs that are
    laid out already."""
    started = time.perf_counter()
    foreign_features(task, encoders, rows, folder)
    first = time.perf_counter() - started
    started = time.perf_counter()
    foreign_features(task, encoders, rows, folder)
    second = time.perf_counter() - started
    (one,) = encoders
    laid = [one.laid(open_case(r).images, ("still",)) for r in rows]
    network = one.on("cpu")
    started = time.perf_counter()
    for case in laid:
        for _, inputs in case:
            for piece in inputs.pieces():
                network.run(piece.values[None])
    bare = time.perf_counter() - started
    return {
        "first_s": round(first, 2),
        "second_s": round(second, 3),
        "second_of_first": round(second / first, 4),
        "bare_s": round(bare, 2),
        "bare_of_first": round(bare / first, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=2.0, help="of each training")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.2, 0.5, 1.0])
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="also write the table as JSON here")
    options = parser.parse_args()
    table: dict[str, object] = {}
    with TemporaryDirectory() as name:
        work = Path(name)
        os.environ["MEDFUSE_HOME"] = str(work / "home")
        add(exported(work / "weights"), work / "home")
        paths, y = load(options.data)
        groups = groups_of(paths)
        write_manifest(work / "all.jsonl", paths, y, groups, splits(y, groups, 5)[0])
        breast = load_task("breast-ultrasound")
        task = breast.model_copy(update={"encoders": {"US": ("simulated-us",)}})
        rows = [r for r in read_manifest(work / "all.jsonl") if r.split == "test"]
        table["cost"] = cost(task, of_task(task, work / "home"), rows, work / "cost")
        print(f"tokens of {len(rows)} images: {table['cost']}", flush=True)
        for share in options.shares:
            manifest = fewer(work / "all.jsonl", share, options.seed, work / f"{share}.jsonl")
            for row in options.rows:
                encoders = {"US": tuple(ROWS[row])}
                found = scored(
                    breast.model_copy(update={"encoders": encoders}),
                    manifest,
                    work / f"{row}-{share}",
                    options.minutes,
                    options.seed,
                )
                table[f"{row} {share:g}"] = found
                print(f"{row:<7} {share:>4.0%} of the labels: {found}", flush=True)
    if options.out is not None:
        options.out.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
