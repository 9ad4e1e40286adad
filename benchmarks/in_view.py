"""What the frames of an ultrasound clip hold at all: a ceiling for any eye, however sharp.

medfuse simulate --cases 600 --seed 910077 --modality US --format nifti --out population
python benchmarks/in_view.py --manifest population/manifest.jsonl

Of each finding that has classes of its own in the label maps: how many of those who have it show one pixel of
it in any frame as acquired, how many show 20, and how many on the grid of the encoder. Who shows none cannot
be told from who has none but by chance, so a reader who misses nothing in view and invents nothing reaches an
AUROC of (1 + share in view) / 2. What lies outside of the planes may still betray itself (a stone's shadow, a
lesion's mass effect); the label maps do not say so. Intervals: 95 %, Wilson.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from beam import classes_of, only_ultrasound

from medfuse.cohort.audit import wilson
from medfuse.io.manifest import ManifestRow, read_manifest
from medfuse.io.rows import labelled
from medfuse.models.feature_set import label_matrix
from medfuse.preprocess.prepare import prepare
from medfuse.task import Task, load_task

FEW = 20  # pixels of a clip


def pixels(task: Task, row: ManifestRow) -> np.ndarray:
    """(2, classes) pixels of each class in a patient's clips: as acquired, and on the encoder's grid."""
    known = labelled(row)
    acquired = list(known.masks.values())
    seen = [x.dense for x in prepare(known.case, task, known.masks)["US"] if x.dense is not None]
    classes = len(task.dense)
    return np.array(
        [sum(np.bincount(m.ravel(), minlength=classes) for m in maps) for maps in (acquired, seen)]
    )


def line(name: str, counts: np.ndarray, has: np.ndarray) -> str:
    """A row of the table. counts (B, 2): pixels of the finding's classes; has (B,) bool."""
    n = int(has.sum())
    shown = counts > 0
    if not 0 < n < len(has):
        return f"| {name} | {n} |" + " – |" * 5
    share = shown[:, 0][has].mean()
    falsely = shown[:, 0][~has].mean()
    low, high = wilson(int(shown[:, 0][has].sum()), n) or (0.0, 1.0)
    cells = [
        int((counts[:, 0][has] > 0).sum()),
        int((counts[:, 0][has] >= FEW).sum()),
        int(shown[:, 1][has].sum()),
    ]
    best = (1 + share - falsely) / 2
    return (
        f"| {name} | {n} | {' | '.join(map(str, cells))} | {share:.2f} [{low:.2f}, {high:.2f}] | {best:.2f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--manifest", type=Path, required=True)
    options = parser.parse_args()
    task = load_task("upper-abdomen")
    rows = [r for r in only_ultrasound(read_manifest(options.manifest)) if r.images]
    counts = np.stack([pixels(task, r) for r in rows])  # (B, 2, classes)
    number = [f.id for f in task.findings]
    labels = label_matrix(task, rows)
    columns = [
        "Finding",
        "have it",
        "any pixel",
        f"{FEW} pixels",
        "on the encoder's grid",
        "share in view",
        "AUROC at best",
    ]
    print(f"| {' | '.join(columns)} |")
    print("|---" * 7 + "|")
    for finding, classes in classes_of(task).items():
        print(line(finding, counts[:, :, classes].sum(2), labels[:, number.index(finding)] == 1))
    print(f"\n{len(rows)} patients of {options.manifest}")


if __name__ == "__main__":
    main()
