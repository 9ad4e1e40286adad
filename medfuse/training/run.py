"""`medfuse train`: manifest → encoders → region features → fusion, baselines, calibration → bundle."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import nn

from ..bundles.bundle import NewBundle, round_to_half, save_bundle
from ..bundles.domain import feature_domain
from ..bundles.persons import telling
from ..bundles.registry import encoders_home
from ..errors import UserError
from ..io.manifest import ManifestRow, read_manifest
from ..models.feature_set import FeatureSet, collect, label_matrix
from ..models.features import CaseFeatures
from ..models.local_text import folder_hash, local_tokenizer
from ..models.model import FusionModel, ModelConfig
from ..models.pretrained.borrowed import of_task
from ..models.pretrained.used import ForeignEncoder
from ..models.senses import add_senses
from ..models.text import train_tokenizer
from ..task import Task
from .budget import Budget
from .calibrate import calibrate
from .card import card_of, domain_of, role_notes
from .checkpoint import Resume
from .data.check import check_manifest
from .data.features import extract_features
from .data.foreign import BorrowedTokens, borrowed_tokens
from .data.tensors import Preprocessed, preprocess_manifest
from .distributed import finish, first_alone, of_first, rank, world
from .distributed import start as start_together
from .identity import Identity, files_of, weights_digest
from .options import Log, Trained, TrainingRun, TrainOptions
from .pool import processes
from .stages.adapt import tuned
from .stages.baselines import Baselines, train_baselines
from .stages.encoders import start_weights, train_encoders
from .stages.fusion import FusionTraining, criterion, train_fusion
from .stages.whole import Labelled, WholeImages, WholeTraining, train_whole

ADAPTER_CASES = 40_000  # seen in all by the training on frozen tokens, in at least 60 epochs


def train(task: Task, manifest: Path, out: Path, options: TrainOptions, *, command: str, log: Log) -> Trained:
    """Train a bundle within ``options.minutes``; nothing is returned in all but torchrun's first process.

    Raises UserError for a manifest with faults, and WrongUse for a ``work`` that holds a training of other
    data, naming what differs.
    """
    started = time.monotonic()
    rows = _checked_rows(task, manifest)
    of_task(task, encoders_home())  # what is missing is said before anything is read
    work = options.work or out.with_name(out.name + ".work")
    work.mkdir(parents=True, exist_ok=True)
    folder, entries = _preprocessed(task, rows, work, options, log)
    run = TrainingRun(
        task=task,
        rows=rows,
        folder=folder,
        entries=entries,
        is_train=np.array([r.split == "train" for r in rows]),
        out=out,
        options=options,
        work=work,
        started=started,
        command=command,
        log=of_first(log),
    )
    return train_prepared(run)


def train_prepared(run: TrainingRun) -> Trained:
    """Train on cases that are checked and whose tensors lie in ``run.folder``."""
    task = run.task
    borrowed = borrowed_tokens(run, tuned(run, of_task(task, encoders_home())))
    if not task.own_senses:
        return _train_adapter(run, borrowed)
    if not task.whole_images:
        return _train_in_stages(run, borrowed)
    return _train_whole(run, borrowed)


def _train_adapter(run: TrainingRun, borrowed: BorrowedTokens) -> Trained:
    """Tasks whose images are seen by encoders from disk alone: fusion and findings on frozen tokens."""
    task = run.task
    options = run.options
    cases = borrowed.cases
    for case, row in zip(cases, run.rows, strict=True):
        add_senses(case, task.further, row)
    ids = [r.case_id for r in run.rows]
    every = FeatureSet(ids, cases, label_matrix(task, run.rows), [r.report for r in run.rows])
    sets = (every.subset(run.is_train), every.subset(~run.is_train))
    tokenizer, config = _text_config(sets[0].reports, options)
    config = replace(
        config,
        width=64,
        layers=1,
        fusion=options.fusion,
        additive=True,
        coordination=options.coordination,
        foreign=borrowed.used,
    )
    torch.manual_seed(options.seed)
    model = FusionModel(task, config)
    several = len(task.senses) > 1
    best = train_fusion(
        model,
        *[collect(task, model.sizes, s, tokenizer) for s in sets],
        budget=options.fusion_budget(max(0.03, (0.6 if several else 0.9) * run.minutes_left())),
        how=FusionTraining(
            seed=options.seed,
            log=lambda epoch, loss, score: run.log(
                f"epoch {epoch} loss {loss:.3f} validation AUROC {score:.4f}"
            ),
            max_epochs=max(60, ADAPTER_CASES // max(1, len(sets[0].case_ids))),
        ),
        resume=Resume(run.work / "fusion.resume", _fusion_identity(run, config, model.encoders)),
    )
    finish()
    if rank() > 0:
        return {}
    round_to_half(model)
    baselines = Baselines(replace(config, vocabulary=1))
    if several:
        left = max(0.03, 0.8 * run.minutes_left())
        baselines = train_baselines(task, *sets, baselines.config, options, left)
    return _finished(run, model, baselines, every, tokenizer, best, borrowed)


def _checked_rows(task: Task, manifest: Path) -> list[ManifestRow]:
    """The cases of both splits. Raises UserError that names the manifest's first problem."""
    rows = read_manifest(manifest)
    problems = check_manifest(task, rows).problems
    if problems:
        raise UserError(
            f"{manifest}: {problems[0]}"
            + (f" (and {len(problems) - 1} more; see --check)" if len(problems) > 1 else "")
        )
    return [r for r in rows if r.split in ("train", "val")]


def _preprocessed(
    task: Task, rows: list[ManifestRow], work: Path, options: TrainOptions, log: Log
) -> tuple[Path, list[Preprocessed]]:
    """Tensors of all cases and their index; under torchrun the first process makes them. None where no
    encoder is the task's own."""

    def show(done: int, total: int) -> None:
        if done % 50 == 0 or done == total:
            log(f"preprocessed {done} of {total}")

    if world() > 1:
        start_together(torch.device(options.device))
    if not task.own_senses:
        return work, []
    with first_alone():
        return preprocess_manifest(task, rows, work / "tensors", workers=processes(), progress=show)


def _train_whole(run: TrainingRun, borrowed: BorrowedTokens) -> Trained:
    """Tasks without label maps: everything learns together (see `whole`), then calibration as always."""
    task = run.task
    options = run.options
    torch.manual_seed(options.seed)
    tokenizer = train_tokenizer([r.report for r in run.rows]) if any(r.report for r in run.rows) else None
    model = _whole_model(task, options, tokenizer, borrowed.used)
    several = len(task.senses) > 1
    minutes = max(0.2, (0.7 if several else 0.9) * run.minutes_left() - 0.1)
    budget = Budget(minutes=None if options.encoder_steps else minutes, steps=options.encoder_steps)

    def talk(epoch: int, loss: float, score: float) -> None:
        run.log(f"epoch {epoch} loss {loss:.3f} validation macro AUROC {score:.4f}")

    context = [CaseFeatures() for _ in run.rows]
    for case, row in zip(context, run.rows, strict=True):
        add_senses(case, task.further, row)
    borrowed.add_to(context)
    best = train_whole(
        model,
        WholeImages.read(task, run.folder, run.entries, context),
        Labelled(label_matrix(task, run.rows), run.is_train),
        budget=budget,
        how=WholeTraining(seed=options.seed, log=talk),
        device=torch.device(options.device),
        work=run.work,
    )
    finish()  # what follows takes minutes on one process: the others end here
    if rank() > 0:
        return {}
    round_to_half(model)
    cpu = torch.device("cpu")
    every = extract_features(task, model.encoders, run.prepared, device=cpu, cache=None)
    borrowed.add_to(every.features)
    baselines = Baselines(replace(model.config, vocabulary=1))
    if several:  # the simple ways of combining, on the features that these encoders learned
        left = max(0.2, 0.8 * run.minutes_left())
        sets = (every.subset(run.is_train), every.subset(~run.is_train))
        baselines = train_baselines(task, *sets, baselines.config, options, left)
    return _finished(run, model, baselines, every, tokenizer, best, borrowed)


def _whole_model(
    task: Task, options: TrainOptions, tokenizer: Tokenizer | None, foreign: tuple[ForeignEncoder, ...]
) -> FusionModel:
    """A small fusion model over whole images, its encoders from ``options.start`` where they fit."""
    config = ModelConfig(
        width=64,
        layers=1,
        fusion=options.fusion,
        vocabulary=tokenizer.get_vocab_size() if tokenizer else 1,
        grid=3,
        additive=True,  # with one sense too: without this shortcut the encoder gets little gradient
        foreign=foreign,
    )
    model = FusionModel(task, config)
    for m, weights in (start_weights(options.start, task) if options.start else {}).items():
        model.encoders[m].load_state_dict(weights)
    return model


def _train_in_stages(run: TrainingRun, borrowed: BorrowedTokens) -> Trained:
    """Tasks with label maps: encoders, then fusion and baselines on their cached features."""
    task = run.task
    options = run.options
    cores = os.cpu_count() or 1
    seconds_a_case = 1.2 / max(1, cores / 2) if options.device == "cpu" else 0.05
    left = max(0.3, run.minutes_left() - seconds_a_case * len(run.rows) / 60)
    entries = [e for e, t in zip(run.entries, run.is_train, strict=True) if t]
    encoders = train_encoders(task, run.folder, entries, options, 0.7 * left, run.work, run.log)
    with first_alone():
        every = _features(run, encoders)
    borrowed.add_to(every.features)
    train_set = every.subset(run.is_train)
    val_set = every.subset(~run.is_train)
    left = max(0.3, run.minutes_left())
    tokenizer, config = _text_config(train_set.reports, options)
    config = replace(
        config,
        fusion=options.fusion,
        additive=len(task.senses) > 1,
        coordination=options.coordination,
        foreign=borrowed.used,
    )
    torch.manual_seed(options.seed)
    model = FusionModel(task, config)
    model.encoders.load_state_dict(encoders.state_dict())
    val = collect(task, model.sizes, val_set, tokenizer)
    chosen_by = criterion(val.labels)
    best = train_fusion(
        model,
        collect(task, model.sizes, train_set, tokenizer),
        val,
        budget=options.fusion_budget(0.6 * left),
        how=FusionTraining(
            seed=options.seed,
            log=lambda epoch, loss, score: run.log(
                f"fusion epoch {epoch} loss {loss:.3f} validation {chosen_by} over subsets {score:.4f}"
            ),
        ),
        resume=Resume(run.work / "fusion.resume", _fusion_identity(run, config, encoders)),
    )
    finish()  # what follows takes minutes on one process: the others end here
    if rank() > 0:
        return {}
    round_to_half(model)
    simple = ModelConfig(width=64, layers=1, vocabulary=1, foreign=borrowed.used)
    baselines = train_baselines(task, train_set, val_set, simple, options, 0.3 * left)
    return _finished(run, model, baselines, every, tokenizer, best, borrowed)


def _features(run: TrainingRun, encoders: nn.ModuleDict) -> FeatureSet:
    """Region features of all cases, cached in the run's folder."""

    def extracted(modality: str, done: int, total: int) -> None:
        if done % 160 == 0 or done == total:
            run.log(f"{modality} features of {done} of {total}")

    device = torch.device(run.options.device)
    every = extract_features(
        run.task,
        encoders.to(device),
        run.prepared,
        device=device,
        cache=run.work,
        workers=processes(),
        progress=extracted,
    )
    encoders.to("cpu")
    return every


def _finished(
    run: TrainingRun,
    model: FusionModel,
    baselines: Baselines,
    every: FeatureSet,
    tokenizer: Tokenizer | None,
    best: float,
    borrowed: BorrowedTokens,
) -> Trained:
    """Calibrate on the validation cases, describe, and write the bundle."""
    train_set = every.subset(run.is_train)
    val_set = every.subset(~run.is_train)
    calibrated = calibrate(run.task, model, val_set)
    domain = domain_of(run, every)
    notes = role_notes(run)
    looked_at = [k for k in model.sizes if ":" in k]  # of the encoders from disk
    if run.task.whole_images or run.task.around:
        looked_at += run.task.own_senses
    if looked_at:
        people = [
            np.array([r.patient_id or r.case_id for r in run.rows])[m].tolist()
            for m in (run.is_train, ~run.is_train)
        ]
        looks = feature_domain(train_set, val_set, tuple(looked_at), (people[0], people[1]))
        domain = replace(domain, features=looks.models)
        notes += looks.notes
    for note in notes:
        run.log(note)
    made = NewBundle(
        task=run.task,
        model=model,
        baseline_config=baselines.config,
        singles=baselines.singles,
        stack=baselines.stack,
        late=baselines.late,
        calibration=calibrated.calibration,
        domain=domain,
        card=card_of(run, model, calibrated.figures, notes),
        tokenizer=tokenizer,
        adapters=borrowed.adapters,
        persons=telling(i for r in run.rows for i in (r.case_id, r.patient_id)),
    )
    save_bundle(run.out, made)
    run.log(f"bundle written to {run.out}")
    return Trained(
        bundle=str(run.out),
        validation={
            "mean_over_subsets": round(best, 4),
            "chosen_by": criterion(torch.from_numpy(val_set.labels)),
            "subsets": {name: asdict(found) for name, found in calibrated.figures.items()},
        },
        notes=notes,
        seconds=round(time.monotonic() - run.started, 1),
    )


def _text_config(reports: list[str], options: TrainOptions) -> tuple[Tokenizer | None, ModelConfig]:
    """The tokenizer of the reports (None where there are none), and a configuration with the text tower that
    goes with it."""
    if not any(reports):
        return None, ModelConfig(vocabulary=1)
    if options.text_model is not None:
        path = options.text_model.resolve()
        return local_tokenizer(path), ModelConfig(
            vocabulary=1, text_model=str(path), text_model_hash=folder_hash(path)
        )
    tokenizer = train_tokenizer(reports)
    return tokenizer, ModelConfig(vocabulary=tokenizer.get_vocab_size())


def _fusion_identity(run: TrainingRun, config: ModelConfig, encoders: nn.ModuleDict) -> Identity:
    """What the fusion stage is made from."""
    return Identity.of(
        {
            "the task": run.task.model_dump(mode="json"),
            "the cases and their labels": [[r.case_id, r.split, r.labels, r.report] for r in run.rows],
            "their files": files_of(run.rows),
            "the model": asdict(config),
            "the encoders' weights": weights_digest(encoders.state_dict()),
            "the seed": run.options.seed,
        }
    )
