"""Negative controls in simulation: what must not be known is not known, and what is taken away is missed.

python benchmarks/controls.py --train population/manifest.jsonl --test test/manifest.jsonl [--cases 60]
[--seed 900006]

protocol: header facts alone (which series there are, their matrix, spacing and field of view, frames of the
    clip) by a random forest
a finding: near .5, or labels leak into how patients are scanned. erased: the same patients acquired in the
    same way with and without
their focal lesions, by the shipped bundle: probabilities of focal findings must fall, of the others stay.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
from sklearn.ensemble import RandomForestClassifier

from medfuse import __version__
from medfuse.bundles.bundle import load_bundle
from medfuse.bundles.calibration import calibrated
from medfuse.evaluation.evaluate import features_of
from medfuse.evaluation.findings import finding_auroc
from medfuse.io.manifest import ManifestRow, read_manifest
from medfuse.models.feature_set import collect, label_matrix, predict_logits
from medfuse.models.subsets import name as subset_name
from medfuse.models.subsets import use_only
from medfuse.simulation.nifti_writer import write
from medfuse.simulation.patient import Variant, simulate
from medfuse.task import load_task


def headers(row: ManifestRow, kinds: list[tuple[str, str]]) -> np.ndarray:
    """Of each kind of series: whether it is there, its matrix, voxel size and field of view; of MR and CT its
    tilt."""
    out = np.zeros((len(kinds), 13), np.float32)
    for image in row.images:
        header = nib.load(Path(row.root) / image.path)
        shape = np.array([*header.shape, 1, 1][:4], float)
        zooms = np.array([*header.header.get_zooms(), 1, 1][:4], float)
        tilt = header.affine[:3, :3] / np.maximum(zooms[:3], 1e-6) if image.modality != "US" else np.eye(3)
        out[kinds.index((image.modality, image.role))] = [
            1,
            *shape,
            *zooms,
            *(shape[:3] * zooms[:3]),
            tilt[2, 2],
        ]
    return out.ravel()


def protocol(train: Path, test: Path) -> dict:
    task = load_task("upper-abdomen")
    rows = [
        [r for r in read_manifest(p) if r.split in splits]
        for p, splits in ((train, ("train", "val")), (test, ("test",)))
    ]
    kinds = sorted({(i.modality, i.role) for r in rows[0] for i in r.images})
    x = [np.stack([headers(r, kinds) for r in some]) for some in rows]
    y = [label_matrix(task, some) for some in rows]
    p = np.full(y[1].shape, np.nan)
    for f in range(y[0].shape[1]):
        forest = RandomForestClassifier(300, min_samples_leaf=5, random_state=0, n_jobs=1).fit(
            x[0], y[0][:, f]
        )
        p[:, f] = forest.predict_proba(x[1])[:, 1]
    auroc = finding_auroc(y[1], p)
    worst = int(np.argmax(np.abs(auroc - 0.5)))
    rng = np.random.default_rng(0)
    chance = [float(np.nanmean(finding_auroc(y[1][rng.permutation(len(p))], p))) for _ in range(200)]
    return {
        "macro_auroc": round(float(np.nanmean(auroc)), 4),
        "by_chance_95": [round(float(v), 4) for v in np.quantile(chance, [0.025, 0.975])],
        "furthest_from_half": {task.findings[worst].id: round(float(auroc[worst]), 4)},
        "n": len(p),
    }


def erased(cases: int, seed: int) -> dict:
    """Mean calibrated probability of each focal finding in patients who have it, with and without their
    lesions."""
    bundle = load_bundle("upper-abdomen-simulated")
    task = bundle.task
    probability = []
    labels = None
    with tempfile.TemporaryDirectory(prefix="medfuse-erased-") as folder:
        for erase in (False, True):
            rows = []
            for index in range(cases):
                patient = simulate(seed, index, Variant(erase=erase))
                images = write(patient, Path(folder) / str(erase) / patient.case_id)
                row = ManifestRow(
                    case_id=patient.case_id, simulated=True, images=images, labels=patient.labels
                )  # type: ignore[arg-type]
                row.root = str(Path(folder) / str(erase))
                rows.append(row)
            labels = label_matrix(task, rows) if not erase else labels
            data, _ = features_of(bundle, rows, "cpu", lambda done, n: None)
            every = task.senses
            logits = predict_logits(
                bundle.model, collect(task, bundle.model.sizes, data).batch, use_only(every, every, len(rows))
            )
            probability.append(calibrated(logits, bundle.temperature(subset_name(every))))
    assert labels is not None
    with_, without = probability
    out: dict = {"cases": cases, "seed": seed, "findings": {}}
    fell = []
    for f, finding in enumerate(task.findings):
        there = labels[:, f] == 1
        if there.sum() < 3:
            continue
        row = {
            "n": int(there.sum()),
            "with": round(float(with_[there, f].mean()), 3),
            "erased": round(float(without[there, f].mean()), 3),
        }
        if finding.group == "focal":
            fell.append(without[there, f] < with_[there, f])
        out["findings"][finding.id] = {"group": finding.group, **row}
    out["focal_probabilities_that_fell"] = round(float(np.concatenate(fell).mean()), 4)
    others = [f for f, x in enumerate(task.findings) if x.group != "focal"]
    out["others_moved_by"] = round(float(np.abs(with_[:, others] - without[:, others]).mean()), 4)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--cases", type=int, default=60)
    parser.add_argument("--seed", type=int, default=900006)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    options = parser.parse_args()
    result = {
        "protocol": protocol(options.train, options.test),
        "erased": erased(options.cases, options.seed),
        "machine": f"{platform.machine()}, medfuse {__version__}",
    }
    print(json.dumps(result, indent=1))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "controls.json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
