"""One fold: train on its own cases, choose and calibrate on its own validation cases, score what was left
out; kept in a file of its own that knows what it was made from."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from scipy.special import expit

from ..bundles.bundle import Bundle, load_bundle
from ..bundles.calibration import calibrated
from ..errors import WrongUse
from ..io.manifest import ManifestRow
from ..models.feature_set import FeatureSet, collect, label_matrix, predict_logits
from ..models.subsets import name as subset_name
from ..models.subsets import subsets, use_only
from ..task import Task
from ..training.data.features import extract_features
from ..training.data.foreign import with_foreign
from ..training.data.tensors import PreparedCases, Preprocessed
from ..training.identity import Identity, files_of, opened, written_whole
from ..training.options import TrainingRun, TrainOptions
from ..training.run import train_prepared
from .hand import boosted
from .plan import Fold

VERSION = 1  # of what is written; another one is made anew
FUSED, STACK, LATE, HAND, SHUFFLED = "fused", "logit_stack", "late_concat", "hand_boosting", "shuffled_labels"
SHUFFLED_NETWORK = "shuffled_labels_network"
SAID = "said"  # in a file's metadata


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """What every fold is cut from: cases with groups, their tensors, hand features and labels (B, F)."""

    task: Task
    rows: list[ManifestRow]
    folder: Path
    entries: list[Preprocessed]
    hand: dict[str, np.ndarray]
    labels: np.ndarray


@dataclass(frozen=True, kw_only=True)
class FoldSettings:
    """How each fold trains: options of `medfuse train` (minutes a training), the fusions to choose from on
    the validation cases, and whether the network learns from shuffled labels too."""

    options: TrainOptions
    fusions: tuple[str, ...]
    shuffled_network: bool
    command: str


@dataclass(frozen=True, kw_only=True)
class FoldScores:
    """test: numbers of the cases. scores: model → subset → probabilities (S, F), NaN where there is none.
    fusion: the one that was chosen. validation: score of each that was tried."""

    test: np.ndarray
    scores: dict[str, dict[str, np.ndarray]]
    fusion: str
    validation: dict[str, float]


def identity_of(cohort: Cohort, fold: Fold, how: FoldSettings) -> Identity:
    """What the result of a fold is made from."""
    rows = cohort.rows
    ids = {name: [rows[i].case_id for i in getattr(fold, name)] for name in ("train", "val", "test")}
    return Identity.of(
        {
            "the task": cohort.task.model_dump(mode="json"),
            "the cases and their labels": [[r.case_id, r.group, r.labels, r.report] for r in rows],
            "their files": files_of(rows),
            "the folds": ids,
            "the settings": [
                asdict(replace(how.options, work=None, text_model=None, device="")),
                str(how.options.text_model or ""),
                how.fusions,
                how.shuffled_network,
            ],
            "the version": VERSION,
        }
    )


def kept(cohort: Cohort, fold: Fold, how: FoldSettings, out: Path) -> FoldScores | None:
    """The scores of a fold that an earlier run left in ``out``. Raises WrongUse for a file that was made from
    something else."""
    return _read(out / f"{fold.name}.safetensors", identity_of(cohort, fold, how))


def run_fold(
    cohort: Cohort, fold: Fold, how: FoldSettings, out: Path, log: Callable[[str], None]
) -> FoldScores:
    """The scores of a fold: read where they are in ``out``, else made. Raises WrongUse for a file that was
    made from something else."""
    path = out / f"{fold.name}.safetensors"
    made_from = identity_of(cohort, fold, how)
    found = _read(path, made_from)
    if found is not None:
        log(f"{fold.name}: is there, from an earlier run")
        return found
    work = out / f"{fold.name}.work"
    made = _scores(cohort, fold, how, work, log)
    tensors = {f"{m}/{s}": p.astype(np.float32) for m, by in made.scores.items() for s, p in by.items()}
    said = json.dumps({"fusion": made.fusion, "validation": made.validation})
    tensors["test"] = made.test.astype(np.int64)
    written_whole(path, lambda part: save_file(tensors, part, made_from.metadata | {SAID: said}))
    shutil.rmtree(work, ignore_errors=True)
    kept_now = _read(path, made_from)  # as a later run reads it: the same order, rounded alike
    assert kept_now is not None
    return kept_now


def _read(path: Path, made_from: Identity) -> FoldScores | None:
    if not path.exists():
        return None
    with opened(path, "np") as file:
        metadata = file.metadata()
        if others := made_from.differences({k: v for k, v in (metadata or {}).items() if k != SAID}):
            raise WrongUse(
                f"{path}: was made from other data or settings ({', '.join(others)}); give another --out, or "
                "remove this file to make the fold anew"
            )
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    said = json.loads(metadata[SAID])
    scores: dict[str, dict[str, np.ndarray]] = {}
    for name in sorted(tensors, key=_place):
        model, sign, subset = name.partition("/")
        if sign:
            scores.setdefault(model, {})[subset] = tensors[name]
    return FoldScores(test=tensors["test"], scores=scores, **said)


MODELS = (FUSED, STACK, LATE, HAND, SHUFFLED, SHUFFLED_NETWORK)


def _place(name: str) -> tuple[int, int, str]:
    """Where the scores of a model (MODEL/SUBSET) stand: in the order of MODELS, small subsets first."""
    model, _, subset = name.partition("/")
    return MODELS.index(model) if model in MODELS else len(MODELS), subset.count("+"), subset


def _scores(
    cohort: Cohort, fold: Fold, how: FoldSettings, work: Path, log: Callable[[str], None]
) -> FoldScores:
    learn = np.concatenate([fold.train, fold.val])
    rng = np.random.default_rng(1000 * fold.repeat + fold.number)
    mixed = cohort.labels.copy()
    order = rng.permutation(len(learn))
    mixed[learn] = mixed[learn[order]]
    bundle, fusion, validation = _chosen(cohort, fold, how, work, log)
    scores = _bundle_scores(cohort, bundle, fold.test, how.options.device)
    scores[HAND] = boosted(cohort.task, cohort.hand, cohort.labels, learn, fold.test)
    scores[SHUFFLED] = boosted(cohort.task, cohort.hand, mixed, learn, fold.test)
    if how.shuffled_network and fold.repeat == 0:
        others = [cohort.rows[i] for i in learn[order]]
        rows = list(cohort.rows)
        for i, other in zip(learn, others, strict=True):
            rows[i] = rows[i].model_copy(update={"labels": other.labels, "report": ""})
        control = replace(cohort, rows=rows)
        _train(control, fold, replace(how.options, fusion=fusion), how, work / "shuffled", log)
        told = _bundle_scores(
            cohort, load_bundle(work / "shuffled" / "bundle"), fold.test, how.options.device
        )
        scores[SHUFFLED_NETWORK] = told[FUSED]
    return FoldScores(test=fold.test, scores=scores, fusion=fusion, validation=validation)


def _chosen(
    cohort: Cohort, fold: Fold, how: FoldSettings, work: Path, log: Callable[[str], None]
) -> tuple[Bundle, str, dict[str, float]]:
    """The bundle whose fusion was best on the fold's validation cases, its name, and the scores of all."""
    validation: dict[str, float] = {}
    first = work / how.fusions[0]
    for fusion in how.fusions:
        place = work / fusion
        place.mkdir(parents=True, exist_ok=True)
        if place != first:  # encoders and their features are the same for each
            for file in (*first.glob("encoder_*"), *first.glob("features_*")):
                shutil.copy(file, place / file.name)
        validation[fusion] = _train(cohort, fold, replace(how.options, fusion=fusion), how, place, log)
    best = max(how.fusions, key=lambda name: validation[name])
    return load_bundle(work / best / "bundle"), best, validation


def _train(
    cohort: Cohort,
    fold: Fold,
    options: TrainOptions,
    how: FoldSettings,
    work: Path,
    log: Callable[[str], None],
) -> float:
    """Train one bundle in ``work``; its mean score over subsets on the validation cases."""
    at = np.sort(np.concatenate([fold.train, fold.val]))
    is_train = np.isin(at, fold.train)
    work.mkdir(parents=True, exist_ok=True)
    split = {True: "train", False: "val"}
    done = train_prepared(
        TrainingRun(
            task=cohort.task,
            rows=[
                cohort.rows[i].model_copy(update={"split": split[bool(t)]})
                for i, t in zip(at, is_train, strict=True)
            ],
            folder=cohort.folder,
            entries=[cohort.entries[i] for i in at],
            is_train=is_train,
            out=work / "bundle",
            options=replace(options, work=work, seed=options.seed + 100 * fold.repeat),
            work=work,
            started=time.monotonic(),
            command=how.command,
            log=log,
        )
    )
    return float(done["validation"]["mean_over_subsets"])


def _bundle_scores(
    cohort: Cohort, bundle: Bundle, test: np.ndarray, device: str
) -> dict[str, dict[str, np.ndarray]]:
    """Model → subset → probabilities of the cases ``test``: the fused model, and the baselines it carries."""
    task = cohort.task
    data = _features(cohort, bundle, test, device)
    fused = collect(task, bundle.model.sizes, data, bundle.tokenizer)
    simple = bundle.baselines()
    singles = {}
    if simple is not None:
        singles = {
            m: predict_logits(one, collect(task, one.sizes, data).batch) for m, one in simple[0].items()
        }
    out: dict[str, dict[str, np.ndarray]] = {FUSED: {}}
    for s in subsets(task.senses):
        key = subset_name(s)
        there = np.all([data.has(m) for m in s], axis=0)[:, None]
        use = use_only(s, task.senses, len(test))
        found = {FUSED: calibrated(predict_logits(bundle.model, fused.batch, use), bundle.temperature(key))}
        if simple is not None:
            _, stack, late = simple
            found[LATE] = expit(predict_logits(late, fused.batch, use))
            if key in stack.coefficients:
                found[STACK] = expit(stack.predict(s, {m: singles[m] for m in s}))
        for model, p in found.items():
            out.setdefault(model, {})[key] = np.where(there, p, np.nan)
    return out


def _features(cohort: Cohort, bundle: Bundle, test: np.ndarray, device: str) -> FeatureSet:
    encoders = bundle.model.encoders.to(device)
    rows = [cohort.rows[i] for i in test]
    entries = [cohort.entries[i] for i in test]
    cases = PreparedCases(rows=rows, folder=cohort.folder, entries=entries)
    every = extract_features(cohort.task, encoders, cases, device=torch.device(device), cache=None)
    encoders.to("cpu")
    every = with_foreign(every, cohort.task, bundle.borrowed, rows, cohort.folder)
    return replace(every, labels=label_matrix(cohort.task, rows))
