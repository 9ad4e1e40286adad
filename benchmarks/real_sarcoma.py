"""Soft-tissue sarcoma, CT + MR + FDG-PET of the same patients: is the tumour outlined, how large, in every
subset. Started by `real.py --set sarcoma`; a folder is a copy of the set with nifti/STS_001_CT.nii.gz and so
on.

The encoders learn as `medfuse train soft-tissue-mass` lets them; sensors are joined by the mean of their log
odds. Controls: *shuffled*, encoders that learned other patients' outlines; *headers*, *shape* and *size*, an
ellipsoid in the middle from the voxel size, from the crop's sides by regression, and from the crop less the
30 mm that it was cut wider than the tumour; *mean mask*, what most training tumours cover.
"""

from __future__ import annotations

import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from real_controls import ellipsoid, half_axes, mean_mask, outline_share, regressed
from real_results import Results, Row, mean_row
from torch import nn

from medfuse.case import Case
from medfuse.inference.lesions import diameters, largest, volume_lesions
from medfuse.inference.matching import match_lesions
from medfuse.inference.together import joined, on_one_grid
from medfuse.io.manifest import ManifestRow, read_manifest
from medfuse.io.rows import labelled
from medfuse.models.encoders import build_encoder
from medfuse.models.features import DenseOutput, encode
from medfuse.models.subsets import name as subset_name
from medfuse.models.subsets import subsets
from medfuse.prediction import LesionRecord
from medfuse.preprocess.prepare import prepare
from medfuse.preprocess.tensors import VolumeInput
from medfuse.task import Task, load_task
from medfuse.training.budget import Budget
from medfuse.training.data.tensors import preprocess_manifest
from medfuse.training.stages.dense import CropSource, train_encoder
from medfuse.workflows.public_sets import lay_out_sarcoma

MINUTES = 15.0
FOLDS = 5
COPY = "data/cohorts/sts_ct_mr_pet"


@dataclass(frozen=True, kw_only=True)
class Job:
    """One encoder to train: on which patients' tensors, for how many minutes or steps."""

    key: tuple[str, str]  # of the split, and the modality
    source: CropSource
    minutes: float | None
    steps: int | None


@dataclass(frozen=True, kw_only=True)
class Patient:
    """A case with its outlines, by modality: volume, affine, outline."""

    row: ManifestRow
    case: Case
    images: dict[str, tuple[np.ndarray, np.ndarray]]
    masks: dict[str, np.ndarray]


def run(train: Path | None, test: Path | None, budget: Budget, seed: int) -> Results:
    """Train on the one folder, score on the other; or folds over the copy under MEDFUSE_SHARED."""
    started = time.monotonic()
    task = load_task("soft-tissue-mass")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        if train is None or test is None:
            rows = _rows(Path(os.environ.get("MEDFUSE_SHARED", "../shared")) / COPY, home / "all")
            order = np.random.default_rng(seed).permutation(len(rows))
            splits = [(np.sort(np.setdiff1d(order, f)), np.sort(f)) for f in np.array_split(order, FOLDS)]
        else:
            first, second = _rows(train, home / "train"), _rows(test, home / "test")
            both = {r.case_id for r in first} & {r.case_id for r in second}
            if both:
                raise SystemExit(f"patients in both folders: {', '.join(sorted(both))}")
            rows = [*first, *second]
            splits = [(np.arange(len(first)), np.arange(len(first), len(rows)))]
        return _scored(task, rows, splits, home, budget, seed, started)


def _rows(folder: Path, out: Path) -> list[ManifestRow]:
    return read_manifest(lay_out_sarcoma(folder, out, splits=False))


Split = tuple[np.ndarray, np.ndarray]


def _scored(
    task: Task,
    rows: list[ManifestRow],
    splits: list[Split],
    home: Path,
    budget: Budget,
    seed: int,
    began: float,
) -> Results:
    """Train the encoders of every split, and score what they outline on the patients left out."""
    patients = [_patient(r) for r in rows]
    states = _trained(task, rows, splits, home, budget, seed)
    scores: dict[str, dict[str, list[float]]] = {}
    controls: dict[str, dict[str, list[float]]] = {}
    groups: list[str] = []
    shuffled: list[str] = []
    for k, (learn, left) in enumerate(splits):
        known = {m: _known([patients[i] for i in learn], m) for m in task.image_senses}
        for i in left:
            groups.append(rows[i].case_id)
            _add(scores, _subset_rows(patients[i], _outlined(task, states, str(k), patients[i]), task))
            _add(controls, _simple_rows(known, patients[i]))
            if k == 0:
                shuffled.append(rows[i].case_id)
                found = _outlined(task, states, "shuffled", patients[i])
                every = _subset_rows(patients[i], found, task)[subset_name(task.image_senses)]
                _add(controls, {"shuffled": {m: v for m, v in every.items() if m.startswith("dice")}})
    of = {"shuffled": np.array(shuffled)}
    table = {n: _row(x, of.get(n, np.array(groups)), seed) for n, x in (scores | controls).items()}
    alone = max(task.image_senses, key=lambda m: float(np.nanmean(scores[m]["dice"])))
    whole = scores[subset_name(task.image_senses)]
    table["all - best alone"] = _difference(whole[f"dice_{alone}"], scores[alone]["dice"], groups, seed)
    for name in ("size", "shape"):
        table[f"all - {name}"] = _difference(whole["dice"], controls[name]["dice"], groups, seed)
    return Results(
        set="sarcoma",
        n_train=len(splits[0][0]),
        n_test=len(groups),
        rows={n: table[n] for n in scores},
        controls={n: r for n, r in table.items() if n not in scores},
        minutes=round((time.monotonic() - began) / 60, 1),
        seed=seed,
        folds=len(splits) if len(splits) > 1 else 0,
        notes={
            "best_alone": alone,
            "minutes_of_training": budget.minutes,
            "steps_of_each_encoder": budget.steps,
            "shuffled": "first fold alone",
        },
    )


def _patient(row: ManifestRow) -> Patient:
    known = labelled(row)
    images, masks = {}, {}
    for n, image in enumerate(known.case.images):
        assert image.affine is not None
        images[image.modality] = (image.pixels, image.affine)
        masks[image.modality] = known.masks[n] > 0
    return Patient(row=row, case=known.case, images=images, masks=masks)


def _trained(
    task: Task, rows: list[ManifestRow], splits: list[Split], home: Path, budget: Budget, seed: int
) -> dict[tuple[str, str], dict[str, torch.Tensor]]:
    """Weights by split and modality; the split "shuffled" is the first with other patients' outlines."""
    workers = min(len(os.sched_getaffinity(0)), 4)  # of the cores that this process may use
    folder, entries = preprocess_manifest(task, rows, home / "tensors", workers=workers)
    wrong = _shuffled(folder, [entries[i]["files"] for i in splits[0][0]], home / "shuffled", seed)
    named = [(str(k), folder, learn) for k, (learn, _) in enumerate(splits)]
    jobs = [
        (split, m, where, [n for i in learn for n in entries[i]["files"].get(m, [])])
        for split, where, learn in [("shuffled", wrong, splits[0][0]), *named]
        for m in task.image_senses
    ]
    each = None if budget.minutes is None else budget.minutes / -(-len(jobs) // workers)
    made = [
        Job(
            key=(split, m),
            source=CropSource(task=task, modality=m, folder=where, names=names, seed=seed),
            minutes=each,
            steps=budget.steps,
        )
        for split, m, where, names in jobs
    ]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return dict(pool.map(_train_one, made))


def _train_one(job: Job) -> tuple[tuple[str, str], dict[str, torch.Tensor]]:
    torch.set_num_threads(1)
    encoder = train_encoder(job.source, budget=Budget(minutes=job.minutes, steps=job.steps))
    return job.key, encoder.state_dict()


def _shuffled(folder: Path, files: list[dict[str, list[str]]], out: Path, seed: int) -> Path:
    """The tensors of these patients with the outline of another patient in the middle of each."""
    out.mkdir()
    order = np.random.default_rng(seed).permutation(len(files))
    for n, own in enumerate(files):
        for m, names in own.items():
            theirs = files[order[n - 1]] if order[n] == n else files[order[n]]
            for name, other in zip(names, theirs.get(m, names), strict=False):
                with np.load(folder / name) as mine, np.load(folder / other) as z:
                    dense = _recentred(z["dense"], mine["dense"].shape)
                    np.savez(out / name, dense=dense, values=mine["values"], present=mine["present"])
    return out


def _recentred(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A map cut or filled up evenly at both sides to another shape."""
    for axis, size in enumerate(shape):
        more = max(0, size - mask.shape[axis])
        pad = [(0, 0)] * mask.ndim
        pad[axis] = (more // 2, more - more // 2)
        mask = np.pad(mask, pad)
        start = (mask.shape[axis] - size) // 2
        mask = np.take(mask, np.arange(start, start + size), axis)
    return mask


def _outlined(
    task: Task, states: dict[tuple[str, str], dict[str, torch.Tensor]], split: str, patient: Patient
) -> dict[str, DenseOutput]:
    """What the encoders of a split outline in a patient, by modality."""
    encoders = nn.ModuleDict({m: build_encoder(task, m).eval() for m in task.image_senses})
    for m in task.image_senses:
        encoders[m].load_state_dict(states[split, m])
    _, dense = encode(encoders, prepare(patient.case, task), task, torch.device("cpu"))
    return {d.modality: d for d in dense}


def _dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / max(1, a.sum() + b.sum()))


Scores = dict[str, dict[str, float]]


def _subset_rows(patient: Patient, found: dict[str, DenseOutput], task: Task) -> Scores:
    """Every subset of the sensors that the patient has: Dice on each one's own grid, size, matches."""
    rows: Scores = {}
    alone = {m: _measured([d], patient, task) for m, d in found.items()}
    for senses in subsets(tuple(m for m in task.image_senses if m in found)):
        group = [found[m] for m in senses]
        row = _with_mean({m: _dice(_joined(group, patient, m), patient.masks[m]) for m in senses})
        whole = _measured(group, patient, task)
        row |= {"long_axis_error_mm": float("nan"), "within_10_mm": 0.0}  # of a mass that was not outlined
        if whole is not None:
            on = patient.case.images[whole.place.image].modality
            truth = long_axis(patient.masks[on], patient.images[on][1])
            row["long_axis_error_mm"] = abs((whole.long_axis_mm or 0) - truth)
            row["within_10_mm"] = float(row["long_axis_error_mm"] <= 10)
        if len(senses) > 1:
            row["matched"] = _matched([alone[m] for m in senses], task)
        rows[subset_name(senses)] = row
    return rows


def _joined(group: list[DenseOutput], patient: Patient, modality: str) -> np.ndarray:
    pixels, affine = patient.images[modality]
    return joined(group, affine, pixels.shape) > 0.5


def _measured(group: list[DenseOutput], patient: Patient, task: Task) -> LesionRecord | None:
    """The mass as its record has it; None where nothing was outlined."""
    one = on_one_grid(group, task)
    assert isinstance(one.source, VolumeInput)
    found = largest(volume_lesions(one, one.source, patient.case, task, lambda f, m: True, 0.5))
    return found[0].record if found else None


def _matched(lesions: list[LesionRecord | None], task: Task) -> float:
    """Share of the pairs of sensors whose outlines are called one lesion."""
    there = [x.model_copy(update={"id": x.modality}) for x in lesions if x is not None]
    pairs = len(list(combinations(lesions, 2)))
    return len(match_lesions(there, {}, task)) / pairs


def long_axis(mask: np.ndarray, affine: np.ndarray) -> float:
    """Longest diameter in mm of an outline in the axial slice where it is widest."""
    widest = int(mask.sum((0, 1)).argmax())
    mm = np.linalg.norm(affine[:3, :3], axis=0)[:2]
    return diameters(np.argwhere(mask[:, :, widest]) * mm, float(mm[0]))[0]


@dataclass(frozen=True, kw_only=True)
class Known:
    """The training outlines of one modality: half axes, voxel sizes and sides of the crops in mm (N, 3), and
    the share of the outlines at each place around the middle."""

    axes: np.ndarray
    spacing: np.ndarray
    sides: np.ndarray
    share: np.ndarray


def _known(patients: list[Patient], modality: str) -> Known:
    there = [p for p in patients if modality in p.masks]
    pairs = [(p.masks[modality], np.linalg.norm(p.images[modality][1][:3, :3], axis=0)) for p in there]
    return Known(
        axes=np.array([half_axes(a, s) for a, s in pairs]),
        spacing=np.array([s for _, s in pairs]),
        sides=np.array([s * a.shape for a, s in pairs]),
        share=outline_share(pairs),
    )


def _simple_rows(known: dict[str, Known], patient: Patient) -> Scores:
    """What needs no image: Dice of outlines drawn from headers, shape, size, and of the mean mask."""
    rows: dict[str, dict[str, float]] = {n: {} for n in ("headers", "shape", "size", "mean mask")}
    for m, truth in patient.masks.items():
        mm = np.linalg.norm(patient.images[m][1][:3, :3], axis=0)
        side = mm * truth.shape
        of = known[m]
        drawn = {
            "headers": ellipsoid(truth.shape, mm, regressed(of.spacing, of.axes, mm)),
            "shape": ellipsoid(truth.shape, mm, regressed(of.sides, of.axes, side)),
            "size": ellipsoid(truth.shape, mm, np.maximum(side / 2 - 30, 6)),
            "mean mask": mean_mask(of.share, truth.shape, mm),
        }
        for name, outline in drawn.items():
            rows[name][m] = _dice(outline, truth)
    return {name: _with_mean(row) for name, row in rows.items()}


def _with_mean(by_modality: dict[str, float]) -> dict[str, float]:
    """dice, the mean, and dice_MODALITY."""
    mean = float(np.mean(list(by_modality.values())))
    return {"dice": mean, **{f"dice_{m}": v for m, v in by_modality.items()}}


def _add(into: dict[str, dict[str, list[float]]], rows: Scores) -> None:
    for name, row in rows.items():
        for metric, value in row.items():
            into.setdefault(name, {}).setdefault(metric, []).append(value)


def _row(metrics: dict[str, list[float]], groups: np.ndarray, seed: int) -> Row:
    """Means with intervals, of the metrics that every patient has (NaN: not measurable in one)."""
    known = {m: np.array(v) for m, v in metrics.items() if len(v) == len(groups)}
    return mean_row(known, groups, seed)


def _difference(a: list[float], b: list[float], groups: list[str], seed: int) -> Row:
    return mean_row({"dice": np.array(a) - np.array(b)}, np.array(groups), seed)
