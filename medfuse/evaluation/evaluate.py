"""`medfuse evaluate`: a bundle against a manifest, for every subset of the modalities, beside the simple
baselines."""

from __future__ import annotations

import json
import platform
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from .. import __version__
from ..bundles.bound import bound_temperatures
from ..bundles.bundle import Bundle
from ..bundles.calibration import calibrated, expected_calibration_error
from ..bundles.conformal import coverage_of
from ..errors import UserError
from ..inference.lesions import FoundLesion, find_lesions
from ..io.manifest import ManifestRow, acquired_alone, read_manifest
from ..io.read import open_case
from ..io.rows import LabelledCase, labelled
from ..models.baselines import LateConcat, LogitStack
from ..models.feature_set import FeatureSet, FusionData, collect, label_matrix, predict_logits
from ..models.features import CaseFeatures, DenseOutput, Inputs, encode
from ..models.model import FusionModel
from ..models.pretrained.borrowed import add_borrowed
from ..models.senses import add_senses
from ..models.subsets import name as subset_name
from ..models.subsets import subsets, use_only
from ..preprocess.prepare import prepare
from ..task import Task
from .cost import fusion_cost
from .findings import accuracy, finding_auroc, paired_difference, table_row
from .interaction import interactions
from .lesions import LesionScores, score_case
from .markdown import markdown
from .matching import MatchScores, score_matches
from .plots import write_plots
from .results import Evaluation, EvaluationRun, Gain, OtherSet, ScoredBundle, TableRow, Tables
from .retrieval import retrieval_table
from .sizes import SizeScores, score_sizes
from .space import embedded, space


@dataclass
class ScoredLesions:
    """Of lesions, by modality or pair: how well they were found and how well reported ones were measured
    (where the manifest names label maps), how well they were matched (where it says where they lie)."""

    found: dict[str, LesionScores] = field(default_factory=dict)
    sizes: dict[str, SizeScores] = field(default_factory=dict)
    matches: dict[str, MatchScores] = field(default_factory=dict)

    def add(self, known: LabelledCase, dense: list[DenseOutput], row: ManifestRow, bundle: Bundle) -> None:
        """One case with its dense outputs."""
        task = bundle.task
        score_case(self.found, dense, task)

        def look(*, twice: bool) -> list[FoundLesion]:
            peaks = bundle.lesion_peaks
            return find_lesions(dense, known.case, task, lambda f, m: m in f.modalities, peaks, twice=twice)

        reported = look(twice=True)
        score_matches(self.matches, reported, dense, row, task)
        if known.masks:
            score_sizes(self.sizes, (look(twice=False), reported), known.case, known.masks, task)


def features_of(
    bundle: Bundle,
    rows: list[ManifestRow],
    device: str,
    progress: Callable[[int, int], None],
    lesions: ScoredLesions | None = None,
) -> tuple[FeatureSet, list[str]]:
    """Read, preprocess and encode every row; a row without a usable image is refused by name.

    ``lesions`` collects how well lesions were found, measured and matched.
    """
    kept: list[ManifestRow] = []
    features: list[CaseFeatures] = []
    refused: list[str] = []
    borrowed = bundle.borrowed  # refused before anything is read
    encoders = bundle.model.encoders.to(device)
    further = (*bundle.task.further, *bound_temperatures(bundle))

    def read(row: ManifestRow) -> tuple[LabelledCase, Inputs]:
        with_masks = lesions is not None and any(i.mask for i in row.images)
        if not with_masks:
            case = open_case(row, allow_empty=True)
            return LabelledCase(case=case, masks={}), prepare(case, bundle.task)
        known = labelled(row)
        return known, prepare(known.case, bundle.task, known.masks)

    with ThreadPoolExecutor(1) as pool:  # the next case is read while this one is encoded
        ahead = deque(pool.submit(read, row) for row in rows[:2])
        for n, row in enumerate(rows, 1):
            known, inputs = ahead.popleft().result()
            case = known.case
            if n + 1 < len(rows):
                ahead.append(pool.submit(read, rows[n + 1]))
            refused += [f"{row.case_id}: {r.path}: {r.reason}" for r in case.refused]
            if case.images:
                one, dense = encode(
                    encoders, inputs, bundle.task, torch.device(device), keep_dense=lesions is not None
                )
                if lesions is not None:
                    lesions.add(known, dense, row, bundle)
                add_borrowed(one, borrowed, bundle.task, case.images, device)
                add_senses(one, further, case)
                features.append(one)
                kept.append(row)
            else:
                refused.append(f"{row.case_id}: no usable image")
            progress(n, len(rows))
    encoders.to("cpu")
    found = FeatureSet(
        [r.case_id for r in kept],
        features,
        label_matrix(bundle.task, kept),
        [r.report for r in kept],
        [r.rephrased for r in kept],
    )
    return found, refused


@dataclass(frozen=True, kw_only=True)
class OtherManifests:
    """Further manifests to score. shifted: another scanner park. control: a population in which one modality
    is enough, where fusion should gain nothing."""

    shifted: Path | None = None
    control: Path | None = None


def evaluate(
    bundle: Bundle,
    manifest: Path,
    *,
    device: str = "cpu",
    split: str | None = None,
    seed: int = 0,
    others: OtherManifests = OtherManifests(),
    scored: dict[str, tuple[np.ndarray, np.ndarray]] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """The machine-readable table. Rows with split "test" are used where there are any, else all of them.

    ``others`` are scored by their subset tables alone. ``scored`` takes labels and calibrated probabilities
    by subset.
    """
    started = time.perf_counter()
    lesions = ScoredLesions()
    data, refused, rows, wanted = _read(bundle, manifest, split, device, progress, lesions)
    found = tables(bundle, data, seed, scored)
    result: dict = {k: getattr(found, k) for k in found.model_fields_set}
    result["lesions"] = {m: scores.summary() for m, scores in sorted(lesions.found.items())}
    result["lesion_sizes"] = {m: scores.summary() for m, scores in sorted(lesions.sizes.items())}
    result["lesion_matches"] = {pair: scores.summary() for pair, scores in sorted(lesions.matches.items())}
    for name, other in (("shifted", others.shifted), ("control", others.control)):
        result[name] = OtherSet()
        if other is not None:
            more, also_refused, _, _ = _read(bundle, other, split, device, progress, None)
            refused += also_refused
            table = tables(bundle, more, seed)
            result[name] = OtherSet(n=table.n, subsets=table.subsets, baselines=table.baselines)
    result["cost"] = fusion_cost() if len(bundle.task.senses) > 1 else {}
    result |= {
        "refused": refused,
        "manifest": str(manifest),
        "split": wanted,
        "simulated": all(r.simulated for r in rows),
        "bundle": ScoredBundle(name=bundle.name, hash=bundle.hash),
        "seed": seed,
        "seconds": round(time.perf_counter() - started, 1),
        "machine": f"{platform.machine()}, torch {torch.__version__}, medfuse {__version__}",
    }
    return Evaluation(**result)


def wanted_split(rows: list[ManifestRow], asked: str | None) -> str | None:
    """The split that is scored: the one asked for, else "test" where there is one; None for all rows."""
    return asked or ("test" if any(r.split == "test" for r in rows) else None)


def _read(
    bundle: Bundle,
    manifest: Path,
    split: str | None,
    device: str,
    progress: Callable[[int, int], None],
    lesions: ScoredLesions | None,
) -> tuple[FeatureSet, list[str], list[ManifestRow], str | None]:
    """Features of the rows of one split. Raises UserError where there is nothing to score."""
    rows = read_manifest(manifest)
    wanted = wanted_split(rows, split)
    rows = [r for r in rows if wanted is None or r.split == wanted]
    if not rows:
        raise UserError(f"{manifest}: no row has split {wanted}; give another --split")
    acquired_alone(manifest, rows)
    data, refused = features_of(bundle, rows, device, progress, lesions)
    if not data.case_ids:
        raise UserError(f"{manifest}: none of its {len(rows)} cases could be read; first: {refused[0]}")
    if (data.labels < 0).all():
        raise UserError(
            f"{manifest}: no row has a label of the task {bundle.task.name}; add labels to evaluate against"
        )
    return data, refused, rows, wanted


def tables(
    bundle: Bundle,
    data: FeatureSet,
    seed: int,
    scored: dict[str, tuple[np.ndarray, np.ndarray]] | None = None,
) -> Tables:
    """Every subset beside its baselines, by finding, with calibration and retrieval."""
    task = bundle.task
    model = bundle.model
    fused = collect(task, model.sizes, data, bundle.tokenizer)
    simple = _Baselines.of(bundle, data)
    out: dict = {
        "n": len(data.case_ids),
        "subsets": {},
        "baselines": {"logit_stack": {}, "late_concat": {}},
        "per_finding": {},
        "calibration": {},
        "retrieval": retrieve(model, fused, data),
    }
    alone_and_paired: dict[str, np.ndarray] = {}
    for s in subsets(task.senses):
        there = np.all([data.has(m) for m in s], axis=0)
        if not there.any():
            continue
        key = subset_name(s)
        labels = data.labels[there]
        use = use_only(s, task.senses, len(data.labels))
        every = predict_logits(model, fused.batch, use)
        logits = every[there]
        if len(s) <= 2:
            alone_and_paired[key] = calibrated(every, bundle.temperature(key), bundle.shifts)
        out["subsets"][key] = table_row(task, labels, logits, seed=seed)
        probability = calibrated(logits, bundle.temperature(key), bundle.shifts)
        if scored is not None:
            scored[key] = labels, probability
        out["calibration"][key] = _calibration(bundle, key, labels, probability)
        if task.exclusive:
            out.setdefault("accuracy", {})[key] = accuracy(labels, logits, task.exclusive_indices)
        auroc = finding_auroc(labels, logits)
        for f, finding in enumerate(task.findings):
            value = None if np.isnan(auroc[f]) else round(float(auroc[f]), 4)
            out["per_finding"].setdefault(
                finding.id, {"group": finding.group, "positives": int((data.labels[:, f] == 1).sum())}
            )[key] = value
        others = {} if simple is None else simple.logits(s, there, fused)
        for baseline, other in others.items():
            out["baselines"][baseline][key] = _beside(task, labels, logits, other, seed)
    out["interactions"] = interactions(
        data.labels,
        alone_and_paired,
        {m: data.has(m) for m in task.senses},
        [f.id for f in task.findings],
        seed=seed,
    )
    out["space"] = space(bundle, fused, data, alone_and_paired)
    gain = _gain(bundle, fused, data, out["subsets"], seed)
    return Tables(**out) if gain is None else Tables(**out, gain_over_best_single=gain)


@dataclass(frozen=True, kw_only=True)
class _Baselines:
    """The simple models beside the fused one. alone: logits (B, F) of each modality's own model."""

    stack: LogitStack
    late: LateConcat
    alone: dict[str, np.ndarray]

    @classmethod
    def of(cls, bundle: Bundle, data: FeatureSet) -> _Baselines | None:
        """Those of a bundle; None where it ships none."""
        shipped = bundle.baselines()
        if shipped is None:
            return None
        singles, stack, late = shipped
        alone = {
            m: predict_logits(single, collect(bundle.task, single.sizes, data).batch)
            for m, single in singles.items()
        }
        return cls(stack=stack, late=late, alone=alone)

    def logits(self, senses: tuple[str, ...], there: np.ndarray, fused: FusionData) -> dict[str, np.ndarray]:
        """By baseline, logits (N, F) of one subset of the senses, of the cases ``there`` (B,) that have it; a
        stack that never saw it is left out."""
        found = {}
        if subset_name(senses) in self.stack.coefficients:
            found["logit_stack"] = self.stack.predict(senses, {m: self.alone[m][there] for m in senses})
        use = use_only(senses, self.late.task_modalities, len(there))
        return found | {"late_concat": predict_logits(self.late, fused.batch, use)[there]}


def _calibration(bundle: Bundle, key: str, labels: np.ndarray, probability: np.ndarray) -> dict[str, float]:
    """How well the probabilities of a subset fit, and its 90 % answer sets where the bundle has them."""
    found = {"ece": round(expected_calibration_error(labels, probability), 4)}
    if key in bundle.conformal:
        found |= coverage_of(labels, probability, np.array(bundle.conformal[key]))
    return found


def _gain(
    bundle: Bundle, fused: FusionData, data: FeatureSet, rows: dict[str, TableRow], seed: int
) -> Gain | None:
    """All senses together minus the best alone; None where there is no case with all, or only one sense."""
    senses = bundle.task.senses
    alone = [k for k in rows if "+" not in k]
    if subset_name(senses) not in rows or len(alone) < 2:
        return None
    best = max(alone, key=lambda k: rows[k].macro_auroc or 0)
    there = np.all([data.has(m) for m in senses], axis=0)
    together, single = (
        predict_logits(bundle.model, fused.batch, use_only(s, senses, len(data.labels)))[there]
        for s in (senses, (best,))
    )
    gain = paired_difference(data.labels[there], together, single, seed=seed)
    return Gain(best_single=best, difference=gain.difference, ci95=gain.ci95)


def _beside(task: Task, labels: np.ndarray, fused: np.ndarray, simple: np.ndarray, seed: int) -> TableRow:
    """The row of a baseline, with how far fusion is ahead of it."""
    ahead = paired_difference(labels, fused, simple, seed=seed)
    return table_row(task, labels, simple, seed=seed).model_copy(update={"fusion_minus_this": ahead})


def retrieve(model: FusionModel, fused: FusionData, data: FeatureSet) -> dict[str, dict[str, float] | int]:
    """Each modality alone, the joint of all, and the report, in the shared space."""
    found = embedded(model, fused, data, "joint", "text")
    return retrieval_table(found.embedding, found.there, data.labels) if found.embedding else {}


def write_tables(
    result: Evaluation, scored: dict[str, tuple[np.ndarray, np.ndarray]], task: Task, out: Path
) -> None:
    """evaluation.json, a Markdown table that the README can quote, three plots, and run.json (what was run,
    on what)."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "evaluation.json").write_text(json.dumps(result.as_json(), indent=1), encoding="utf-8")
    (out / "evaluation.md").write_text(markdown(result), encoding="utf-8")
    plots = write_plots(task, scored, out, simulated=result.simulated)
    run = EvaluationRun(
        bundle=result.bundle,
        manifest=result.manifest,
        split=result.split,
        seed=result.seed,
        seconds=result.seconds,
        machine=result.machine,
        plots=plots,
        python=platform.python_version(),
    )
    (out / "run.json").write_text(json.dumps(run.as_json(), indent=1), encoding="utf-8")
