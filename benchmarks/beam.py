"""Does an ultrasound encoder see more where it is given what lies along the beam? Two trainings of equal
steps on the same crops, scored on validation patients.

python benchmarks/beam.py --manifest population/manifest.jsonl --work DIR [--steps 700] [--start BUNDLE]

Ultrasound alone is read. A finding with a class of its own in the label maps is scored by the mean of the 10
pixels of a clip that are surest of the class; lesions as `medfuse evaluate` scores them. Intervals: 95 % of
500 resamples of patients, paired. DIR keeps tensors and checkpoints: a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from medfuse.bundles.bundle import load_bundle
from medfuse.evaluation.findings import finding_auroc, paired_difference
from medfuse.evaluation.lesions import LesionScores, score_case
from medfuse.evaluation.results import LesionRow
from medfuse.io.manifest import ManifestRow, read_manifest
from medfuse.models.encoders import build_encoder
from medfuse.models.feature_set import label_matrix
from medfuse.models.features import DenseOutput, network_input
from medfuse.preprocess.tensors import CineInput
from medfuse.task import Task, load_task
from medfuse.training.budget import Budget
from medfuse.training.data.tensors import Preprocessed, load_input, preprocess_manifest
from medfuse.training.stages.dense import CropSource, train_encoder

SUREST = 10  # pixels


@dataclass(frozen=True)
class Scored:
    """One encoder on the validation patients: scores (B, F) of the findings, and its lesions."""

    scores: np.ndarray
    lesions: LesionRow


def with_beam(task: Task, *, beam: bool) -> Task:
    """The task with or without the channels along the beam."""
    spec = task.modalities["US"].model_copy(update={"beam": beam})
    return task.model_copy(update={"modalities": task.modalities | {"US": spec}})


def classes_of(task: Task) -> dict[str, list[int]]:
    """Classes of the label maps by finding, for findings that have classes of their own."""
    found = {}
    for finding in task.findings:
        parts = [task.finding(p) for p in finding.derived_from] or [finding]
        named = [f.lesion_class or (task.shows_in(f.id) if f.group == "biliary" else "") for f in parts]
        if all(named):
            found[finding.id] = [task.dense.index(c) for c in named]
    return found


def first_weights(task: Task, bundle: str) -> dict[str, torch.Tensor]:
    """The ultrasound encoder of a bundle; channels along the beam, which it lacks, begin at zero, so that it
    says what it said."""
    theirs = load_bundle(bundle).model.encoders["US"].state_dict()
    ours = build_encoder(task, "US").state_dict()
    for name, weight in ours.items():
        if weight.shape != theirs[name].shape:
            wide = torch.zeros_like(weight)
            wide[tuple(slice(n) for n in theirs[name].shape)] = theirs[name]
            theirs[name] = wide
    return theirs


def trained(task: Task, folder: Path, names: list[str], options: argparse.Namespace) -> nn.Module:
    """The task's ultrasound encoder after the steps that were asked for; kept in the folder of work."""
    beam = task.modalities["US"].beam
    way = "beam" if beam else "plain"
    checkpoint = options.work / f"encoder_{way}_{options.seed}_{options.steps}.safetensors"
    source = CropSource(task=task, modality="US", folder=folder, names=names, seed=options.seed)
    if checkpoint.exists():
        encoder = build_encoder(task, "US")
        encoder.load_state_dict(load_file(checkpoint))
        return encoder.eval()
    started = time.monotonic()

    def log(step: int, loss: float, fraction: float) -> None:
        print(f"{checkpoint.stem} step {step} loss {loss:.3f} {time.monotonic() - started:.0f} s", flush=True)

    start = first_weights(task, options.start) if options.start else None
    budget = Budget(steps=options.steps)
    return train_encoder(source, budget=budget, log=log, checkpoint=checkpoint, start=start)


@torch.no_grad()
def scored(task: Task, encoder: nn.Module, folder: Path, entries: list[Preprocessed]) -> Scored:
    """An encoder on cases that it never saw."""
    spec = task.modalities["US"]
    wanted = classes_of(task)
    lesions: dict[str, LesionScores] = {}
    rows = []
    for entry in entries:
        (name,) = entry["files"]["US"]
        values, _, dense = load_input(folder, name, len(spec.roles))
        clip = tuple(range(len(values)))
        item = CineInput(values.astype(np.float32), 1.0, (0, 0), None, clip, 0, dense)
        p = encoder(*network_input(item, spec))[0].softmax(1).numpy()
        rows.append([np.sort(p[:, c].sum(1), axis=None)[-SUREST:].mean() for c in wanted.values()])
        lesion_p = p[:, task.lesion_indices].sum(1)
        none = np.zeros((0, len(task.dense)))
        outputs = [DenseOutput("US", item, t, p[t].argmax(0), lesion_p[t], [], none) for t in clip]
        score_case(lesions, outputs, task)
    return Scored(np.array(rows), lesions["US"].summary())


def in_view(folder: Path, entries: list[Preprocessed], classes: list[int]) -> np.ndarray:
    """(B,) bool: whether a clip shows any pixel of the classes."""
    return np.array([np.isin(load_input(folder, e["files"]["US"][0], 1)[2], classes).any() for e in entries])


def only_ultrasound(rows: list[ManifestRow]) -> list[ManifestRow]:
    """The rows with their cines alone."""
    return [r.model_copy(update={"images": [i for i in r.images if i.modality == "US"]}) for r in rows]


def difference(labels: np.ndarray, after: np.ndarray, before: np.ndarray) -> str:
    """The gain in mean AUROC with its interval."""
    gap = paired_difference(labels, after, before)
    return "" if gap.ci95 is None else f"{gap.difference:+.3f} [{gap.ci95[0]:+.3f}, {gap.ci95[1]:+.3f}]"


def table_rows(
    labels: np.ndarray, shown: list[int], wanted: list[str], ways: dict[str, np.ndarray]
) -> list[str]:
    """The Markdown table: AUROC of each finding by each way, and each way's paired difference from the one
    before it; ``shown``: positives whose clip shows the finding."""
    names = list(ways)
    gaps = [f"{b} − {a} [95 %]" for a, b in pairwise(names)]
    columns = ["Finding", "positives (in view)", *names, *gaps]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for f, finding in enumerate([*wanted, "mean"]):
        at = slice(f, f + 1) if f < len(wanted) else slice(None)
        number = f"{int((labels[:, f] == 1).sum())} ({shown[f]})" if f < len(wanted) else ""
        scores = [f"{np.nanmean(finding_auroc(labels[:, at], x[:, at])):.3f}" for x in ways.values()]
        told = [difference(labels[:, at], ways[b][:, at], ways[a][:, at]) for a, b in pairwise(names)]
        lines.append(f"| {' | '.join([finding, number, *scores, *told])} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--rate", type=float, default=3e-3, help="peak learning rate")
    parser.add_argument("--start", help="a bundle whose ultrasound encoder both begin with")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    task = load_task("upper-abdomen")
    task = task.model_copy(update={"learning": task.learning.model_copy(update={"rate": options.rate})})
    rows = only_ultrasound([r for r in read_manifest(options.manifest) if r.split in ("train", "val")])
    folder, entries = preprocess_manifest(task, rows, options.work / "tensors", workers=options.workers)
    both = list(zip(entries, rows, strict=True))
    names = [n for e, r in both if r.split == "train" for n in e["files"]["US"]]
    val = [(e, r) for e, r in both if r.split == "val"]
    entries = [e for e, _ in val]
    found = {}
    if options.start:
        begun = load_bundle(options.start).model.encoders["US"]
        found["as begun"] = scored(task, begun, folder, entries)
    for name, beam in (("frame alone", False), ("with the beam", True)):
        way = with_beam(task, beam=beam)
        found[name] = scored(way, trained(way, folder, names, options), folder, entries)
    wanted = classes_of(task)
    number = [f.id for f in task.findings]
    labels = label_matrix(task, [r for _, r in val])[:, [number.index(f) for f in wanted]]
    shown = [
        int((in_view(folder, entries, c) & (labels[:, f] == 1)).sum()) for f, c in enumerate(wanted.values())
    ]
    print("\n".join(table_rows(labels, shown, list(wanted), {k: x.scores for k, x in found.items()})))
    told = ", ".join(
        f"{x.lesions.sensitivity_at_1fp} ({x.lesions.outlined_at_1fp} outlined) {k}" for k, x in found.items()
    )
    true = found["frame alone"].lesions.true_lesions
    print(
        f"\nLesions, sensitivity at 1 false positive a case: {told} ({true} true).\n"
        f"{len(names)} training and {len(val)} validation clips, {options.steps} steps each, seed "
        f"{options.seed}, {platform.machine()}, torch {torch.__version__}"
    )


if __name__ == "__main__":
    main()
