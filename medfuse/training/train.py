"""`medfuse train`: manifest → encoders → region features → fusion, baselines, calibration → bundle."""

from __future__ import annotations

import json
import os
import platform
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from .. import __version__
from ..errors import UserError
from ..evaluation.feature_set import FeatureSet, collect, label_matrix, predict_logits
from ..evaluation.findings import finding_auroc
from ..io.manifest import read_manifest
from ..models.baselines import LateConcat, LogitStack
from ..models.bundle import Domain, round_to_half, save_bundle
from ..models.calibration import calibrated, expected_calibration_error, fit_temperature, reliability
from ..models.conformal import fit_quantiles
from ..models.domain import feature_domain
from ..models.features import CaseFeatures
from ..models.local_text import folder_hash, local_tokenizer
from ..models.model import FusionModel, ModelConfig
from ..models.senses import add_senses
from ..models.subsets import name as subset_name
from ..models.subsets import subsets, use_only
from ..models.text import train_tokenizer
from ..task import Task
from .budget import Budget
from .check import check_manifest
from .data import preprocess_manifest
from .distributed import barrier, rank, world
from .distributed import start as start_together
from .encoder_stage import start_weights, train_encoders
from .extract import extract_features
from .fusion import train_fusion
from .options import Log, TrainOptions
from .whole import WholeImages, train_whole


def train_baselines(task: Task, train: FeatureSet, val: FeatureSet, config: ModelConfig, seed: int, minutes: float):
    """Single-modality models, the logistic stack on their validation logits, and late concatenation."""
    singles, val_logits = {}, {}
    share = minutes / (len(task.senses) + 1)
    for m in task.senses:
        model = FusionModel(task, config, modalities=(m,), encoders=False)
        sets = [s.subset(s.has(m)) if s.has(m).any() else s for s in (train, val)]
        data = [collect(task, model.sizes, s) for s in sets]
        train_fusion(model, *data, budget=Budget(minutes=share), seed=seed, max_epochs=40)
        round_to_half(model)
        singles[m] = model
        val_logits[m] = predict_logits(model, collect(task, model.sizes, val).batch)
    stack = LogitStack()
    for s in subsets(task.senses):
        there = np.all([val.has(m) for m in s], axis=0)
        if there.sum() >= 4:
            stack.fit(s, {m: val_logits[m][there] for m in s}, np.maximum(val.labels[there], 0))
    late = LateConcat(task, config)
    train_fusion(
        late,
        collect(task, late.sizes, train),
        collect(task, late.sizes, val),
        budget=Budget(minutes=share),
        seed=seed,
        max_epochs=40,
    )
    round_to_half(late)
    return singles, stack, late


def calibrate(
    task: Task, model: FusionModel, val: FeatureSet
) -> tuple[dict[str, float], dict[str, list[float]], dict[str, list[list[int]]], dict]:
    """Temperature, conformal thresholds and reliability for each presence pattern, and validation figures of each."""
    data = collect(task, model.sizes, val)
    temperatures: dict[str, float] = {}
    conformal: dict[str, list[float]] = {}
    reliable: dict[str, list[list[int]]] = {}
    figures = {}
    for s in subsets(task.senses):
        there = np.all([val.has(m) for m in s], axis=0)
        if not there.any():
            continue
        logits = predict_logits(model, data.batch, use_only(s, task.senses, len(val.labels)))[there]
        labels = val.labels[there]
        t = fit_temperature(labels, logits)
        auroc = finding_auroc(labels, logits)
        temperatures[subset_name(s)] = round(t, 4)
        thresholds = fit_quantiles(labels, calibrated(logits, t))
        conformal[subset_name(s)] = [round(float(q), 4) for q in thresholds]
        reliable[subset_name(s)] = reliability(labels, calibrated(logits, t))
        figures[subset_name(s)] = {
            "macro_auroc": None if np.isnan(auroc).all() else round(float(np.nanmean(auroc)), 4),
            "ece": round(expected_calibration_error(labels, calibrated(logits, t)), 4),
            "n": int(there.sum()),
        }
    return temperatures, conformal, reliable, figures


def _describe(task, rows, every, is_train, out, options, work, started, model, figures, command) -> tuple[Domain, dict]:
    """The validated domain and the model card, from what was trained on."""
    simulated = all(r.simulated for r in rows)
    roles = {
        m: tuple(sorted({i.role for r in rows for i in r.images if i.modality == m and i.role}))
        for m in task.image_senses
    }
    domain = Domain(
        simulated,
        tuple(m for m in task.image_senses if every.has(m).any()),
        task.body_part,
        roles,
        body_parts=task.body_parts,
    )
    card = {
        "name": out.name,
        "summary": f"{task.title['en']}. Fusion of {', '.join(task.senses)} by {type(model.fusion).__name__}.",
        "trained_on": f"{'simulated' if simulated else 'real'} cases: {int(is_train.sum())} train, {int((~is_train).sum())} validation",
        "command": command,
        "seed": options.seed,
        "encoders": {
            m: json.loads(p.read_text()) for m in task.image_senses if (p := work / f"encoder_{m}.json").exists()
        },
        "minutes_of_the_last_call": round((time.monotonic() - started) / 60, 1),
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {options.device}",
        "versions": {"medfuse": __version__, "torch": torch.__version__},
        "parameters": sum(p.numel() for p in model.parameters()),
        "validation": figures,
        "known_limits": "Outside its validated domain it drafts nothing."
        + ("" if task.whole_images else " Small lesions and ultrasound windows in shadow are missed."),
    }
    card |= task.about
    if simulated:
        from ..simulation.parameters import digest

        card["simulator_parameters_sha256"] = digest()
    return domain, card


def _train_whole(task, rows, folder, entries, is_train, out, options, work, started, *, command: str, log: Log) -> dict:
    """Tasks without label maps: everything learns together (see `whole`), then calibration as always."""
    torch.manual_seed(options.seed)
    labels = label_matrix(task, rows)
    tokenizer = train_tokenizer([r.report for r in rows]) if any(r.report for r in rows) else None
    config = ModelConfig(
        width=64, layers=1, fusion=options.fusion, vocabulary=tokenizer.get_vocab_size() if tokenizer else 1,
        grid=3, additive=True,  # with one sense too: the short way from an encoder to the findings is what it learns by
    )  # fmt: skip
    model = FusionModel(task, config)
    for m, weights in (start_weights(options.start, task) if options.start else {}).items():
        model.encoders[m].load_state_dict(weights)
    several = len(task.senses) > 1
    minutes = max(0.2, (0.7 if several else 0.9) * (options.minutes - (time.monotonic() - started) / 60) - 0.1)
    budget = Budget(minutes=None if options.encoder_steps else minutes, steps=options.encoder_steps)

    def talk(epoch: int, loss: float, score: float) -> None:
        log(f"epoch {epoch} loss {loss:.3f} validation macro AUROC {score:.4f}")

    said = [CaseFeatures() for _ in rows]
    for case, row in zip(said, rows, strict=True):
        add_senses(case, task.further, row)
    images = WholeImages.read(task, folder, entries, said)
    device = torch.device(options.device)
    best = train_whole(task, model, images, labels, is_train, budget=budget, seed=options.seed, device=device, log=talk, work=work)  # fmt: skip
    round_to_half(model)
    every = extract_features(
        task, model.encoders, folder, entries, rows, device=torch.device("cpu"), cache=None, workers=1
    )
    train_set, val = every.subset(is_train), every.subset(~is_train)
    singles, stack, late = {}, LogitStack(), None
    if several:  # the simple ways of combining, on the features that these encoders learned
        left = max(0.2, 0.8 * (options.minutes - (time.monotonic() - started) / 60))
        baseline_config = replace(config, vocabulary=1)
        singles, stack, late = train_baselines(task, train_set, val, baseline_config, options.seed, left)
    temperatures, conformal, reliable, figures = calibrate(task, model, val)
    domain, card = _describe(task, rows, every, is_train, out, options, work, started, model, figures, command)
    domain = replace(domain, features=feature_domain(train_set, val, task.image_senses))
    save_bundle(out, task=task, model=model, baseline_config=replace(config, vocabulary=1), singles=singles, stack=stack, late=late,
                calibration=temperatures, conformal=conformal, domain=domain, card=card, tokenizer=tokenizer, reliable=reliable)  # fmt: skip
    log(f"bundle written to {out}")
    return {
        "bundle": str(out),
        "validation": {"mean_over_subsets": round(best, 4), "subsets": figures},
        "seconds": round(time.monotonic() - started, 1),
    }


def _text_config(reports: list[str], options: TrainOptions) -> tuple[Tokenizer | None, ModelConfig]:
    """The tokenizer of the reports (None where there are none), and a configuration with the text tower that goes with it."""
    if not any(reports):
        return None, ModelConfig(vocabulary=1)
    if options.text_model is not None:
        path = options.text_model.resolve()
        return local_tokenizer(path), ModelConfig(vocabulary=1, text_model=str(path), text_model_hash=folder_hash(path))
    tokenizer = train_tokenizer(reports)
    return tokenizer, ModelConfig(vocabulary=tokenizer.get_vocab_size())


def train(task: Task, manifest: Path, out: Path, options: TrainOptions, *, command: str, log: Log) -> dict:
    """Train a bundle within ``options.minutes`` and return {"bundle", "validation", "seconds"}; {} in all but torchrun's first process."""
    started = time.monotonic()
    rows = read_manifest(manifest)
    problems = check_manifest(task, rows)["problems"]
    if problems:
        raise UserError(
            f"{manifest}: {problems[0]}"
            + (f" (and {len(problems) - 1} more; see --check)" if len(problems) > 1 else "")
        )
    rows = [r for r in rows if r.split in ("train", "val")]
    work = options.work or out.with_name(out.name + ".work")
    work.mkdir(parents=True, exist_ok=True)
    device = torch.device(options.device)
    if world() > 1:
        start_together(device)
        if rank() > 0:  # the first process reads and preprocesses; its index is there when the others ask for it
            barrier()
    folder, entries = preprocess_manifest(task, rows, work / "tensors", workers=os.cpu_count() or 1,
                                          progress=lambda d, n: log(f"preprocessed {d} of {n}") if d % 50 == 0 or d == n else None)  # fmt: skip
    if rank() == 0:
        barrier()
    is_train = np.array([r.split == "train" for r in rows])
    if task.whole_images:
        if rank() > 0:
            return {}
        return _train_whole(
            task, rows, folder, entries, is_train, out, options, work, started, command=command, log=log
        )
    train_entries = [e for e, t in zip(entries, is_train, strict=True) if t]
    spent = (time.monotonic() - started) / 60
    features_minutes = (
        1.2 * len(rows) / 60 / max(1, (os.cpu_count() or 1) / 2) if options.device == "cpu" else 0.05 * len(rows) / 60
    )
    left = max(0.3, options.minutes - spent - features_minutes)
    encoders = train_encoders(task, folder, train_entries, options, 0.7 * left, work, log)
    if rank() > 0:
        return {}
    encoders.to(device)

    def extracted(modality: str, done: int, total: int) -> None:
        if done % 160 == 0 or done == total:
            log(f"{modality} features of {done} of {total}")

    every = extract_features(
        task,
        encoders,
        folder,
        entries,
        rows,
        device=device,
        cache=work,
        workers=os.cpu_count() or 1,
        progress=extracted,
    )
    encoders.to("cpu")
    train_set, val_set = every.subset(is_train), every.subset(~is_train)
    left = max(0.3, options.minutes - (time.monotonic() - started) / 60)
    tokenizer, config = _text_config(train_set.reports, options)
    config = replace(config, fusion=options.fusion, additive=len(task.senses) > 1, coordination=options.coordination)
    torch.manual_seed(options.seed)
    model = FusionModel(task, config)
    model.encoders.load_state_dict(encoders.state_dict())
    best = train_fusion(
        model,
        collect(task, model.sizes, train_set, tokenizer),
        collect(task, model.sizes, val_set, tokenizer),
        budget=Budget(minutes=0.6 * left),
        seed=options.seed,
        log=lambda epoch, loss, score: log(
            f"fusion epoch {epoch} loss {loss:.3f} validation macro AUROC over subsets {score:.4f}"
        ),
    )
    round_to_half(model)
    baseline_config = ModelConfig(width=64, layers=1, vocabulary=1)
    singles, stack, late = train_baselines(task, train_set, val_set, baseline_config, options.seed, 0.3 * left)
    temperatures, conformal, reliable, figures = calibrate(task, model, val_set)
    domain, card = _describe(task, rows, every, is_train, out, options, work, started, model, figures, command)
    save_bundle(out, task=task, model=model, baseline_config=baseline_config, singles=singles, stack=stack, late=late,
                calibration=temperatures, conformal=conformal, domain=domain, card=card, tokenizer=tokenizer, reliable=reliable)  # fmt: skip
    log(f"bundle written to {out}")
    (work / "last.json").write_text(json.dumps(card, indent=1))
    return {
        "bundle": str(out),
        "validation": {"mean_over_subsets": round(best, 4), "subsets": figures},
        "seconds": round(time.monotonic() - started, 1),
    }
