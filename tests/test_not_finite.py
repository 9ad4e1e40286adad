"""Values that are not numbers, planted in what each stage learns from: every training ends in an error that
names the stage, and its last good weights are kept."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import COARSE
from recorded_trainings import BREAST
from shared_trainings import random_cases
from test_bind import row
from test_generation import SMALL

import medfuse.pixelfusion.train as pixelfusion
from medfuse.bundles.bundle import load_bundle
from medfuse.errors import NotFiniteError
from medfuse.generation.boxes import Boxes
from medfuse.generation.networks import LatentFlow
from medfuse.generation.train import FlowStage, GeneratorTraining, train_generator
from medfuse.models.baselines import LateConcat
from medfuse.models.feature_set import FusionData
from medfuse.models.features import CaseFeatures
from medfuse.models.model import FusionModel, ModelConfig
from medfuse.models.senses import add_senses
from medfuse.models.writer import train_writer_tokenizer
from medfuse.pixelfusion.train import train_pixel_fusion
from medfuse.task import load_task
from medfuse.training.budget import Budget
from medfuse.training.checkpoint import Resume
from medfuse.training.identity import Identity, opened
from medfuse.training.loop import fit
from medfuse.training.stages.bind import BindStage, SensedCases, bind_sense
from medfuse.training.stages.dense import CropSource, train_encoder
from medfuse.training.stages.fusion import FusionStage, FusionTraining, train_fusion
from medfuse.training.stages.whole import Labelled, WholeImages, WholeTraining, train_whole
from medfuse.training.stages.writer import WriterTraining, reports_of, train_writer

TASK = load_task(COARSE)
STEPS = 12  # more than may be skipped in a row


def resumed(folder: Path, name: str = "stage") -> Resume:
    return Resume(folder / f"{name}.resume", Identity({}))


def encoder(modality: str, folder: Path, bad: float) -> None:
    """Crops of three images."""
    spec = TASK.modalities[modality]
    shape = (9, 32, 32) if modality == "US" else (len(spec.roles), 16, 16, 8)
    small = spec.model_copy(update={"window": None if modality == "US" else (16, 16, 8), "filters": 4})
    task = TASK.model_copy(update={"modalities": TASK.modalities | {modality: small}})
    names = [f"{n}.npz" for n in range(3)]
    for n, name in enumerate(names):
        values = np.random.default_rng(n).normal(size=shape).astype(np.float16)
        values[..., :4] += np.float16(bad)
        dense = np.ones(shape if modality == "US" else shape[1:], np.uint8)
        present = np.ones(1 if modality == "US" else len(spec.roles), bool)
        np.savez(folder / name, values=values, present=present, dense=dense)
    source = CropSource(task=task, modality=modality, folder=folder, names=names, seed=1)
    checkpoint = folder / "stage.safetensors"
    train_encoder(source, budget=Budget(steps=STEPS), checkpoint=checkpoint)


def tokens(model: FusionModel | LateConcat, n: int, bad: float) -> FusionData:
    draw = torch.Generator().manual_seed(n)
    batch = {
        m: (torch.randn(n, 2, s, generator=draw), torch.ones(n, 2).bool(), torch.ones(n, 2).long())
        for m, s in model.sizes.items()
    }
    batch["CT"][0][0, 0, 0] += bad  # one number of one case
    labels = torch.randint(0, 2, (n, len(TASK.findings)), generator=draw)
    return FusionData(batch, labels, None, None)


def fusion(kind: str, folder: Path, bad: float) -> None:
    config = ModelConfig(width=16, layers=1, vocabulary=9)
    modalities = ("CT",) if kind == "single" else None
    model: FusionModel | LateConcat = (
        LateConcat(TASK, config)
        if kind == "late"
        else FusionModel(TASK, config, modalities=modalities, encoders=False)
    )
    train_fusion(
        model,
        tokens(model, 20, bad),
        tokens(model, 8, 0.0),
        budget=Budget(steps=STEPS),
        how=FusionTraining(seed=1),
        resume=resumed(folder),
    )


def whole(folder: Path, bad: float, cases: slice = slice(6)) -> None:
    draw = torch.Generator().manual_seed(0)
    model = FusionModel(BREAST, ModelConfig(width=16, layers=1, vocabulary=1, grid=3, additive=True))
    frames = [torch.rand(1, 1, 64, 64, generator=draw) for _ in range(8)]
    for frame in frames[cases]:
        frame += bad
    images = WholeImages(BREAST, Path(), frames, [{} for _ in frames], [CaseFeatures() for _ in frames])
    labels = np.eye(len(BREAST.findings), dtype=np.int64)[np.arange(8) % len(BREAST.findings)]
    data = Labelled(labels, np.arange(8) < 6)
    how = WholeTraining(seed=1)
    train_whole(model, images, data, budget=Budget(steps=STEPS), how=how, work=folder)


def pixels(folder: Path, bad: float) -> None:
    rng = np.random.default_rng(0)
    pairs = [(rng.random((32, 32), np.float32) + np.float32(bad), rng.random((32, 32), np.float32))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pixelfusion, "CROP", 32)
        patch.setattr(pixelfusion, "BATCH", 2)
        train_pixel_fusion(pairs, budget=Budget(steps=STEPS), seed=1, resume=resumed(folder))


def words(folder: Path, bad: float, *, in_validation: bool = False) -> None:
    bundle = load_bundle()
    features, rows = random_cases(6)
    good = random_cases(6)
    for case in features.features:
        for found in case.features.values():
            found[:] += bad
    tokenizer = train_writer_tokenizer([t for r in rows for t in reports_of(r).values()], bundle.task, ["en"])
    how = WriterTraining(seed=1, log=lambda line: None)
    sets = ((features, rows), good)
    train, val = sets[::-1] if in_validation else sets
    budget = Budget(steps=STEPS)
    train_writer(bundle, tokenizer, train, val, budget=budget, how=how, resume=resumed(folder))


def generated(folder: Path, bad: float) -> None:
    values = {m: torch.zeros(4, 1, *box.shape) + bad for m, box in SMALL.modalities.items()}
    there = torch.ones(4, len(values), dtype=torch.bool)
    run = GeneratorTraining(
        boxes=Boxes(values, there, torch.zeros(4, len(SMALL.findings))),
        made_from=Identity({}),
        work=folder,
        seed=1,
        steps=STEPS,
        ends=1e12,
        log=lambda line: None,
    )
    train_generator(SMALL, run)


def flow(folder: Path, bad: float) -> None:
    latents = {m: torch.zeros(4, 4, *box.latent) + bad for m, box in SMALL.modalities.items()}
    there = torch.ones(4, len(latents), dtype=torch.bool)
    boxes = Boxes({}, there, torch.zeros(4, len(SMALL.findings)))
    stage = FlowStage(LatentFlow(SMALL), latents, boxes, 1, lambda line: None)
    fit(stage, Budget(steps=STEPS), resume=resumed(folder))


def sense(folder: Path, bad: float) -> None:
    cases = []
    rows = [row(n, "train") for n in range(12)]
    for r in rows:
        case = CaseFeatures()
        add_senses(case, ("LABS",), r)
        case.features["LABS"][:] += bad
        cases.append(case)
    labels = torch.tensor([[r.labels.get(f.id, -1) for f in TASK.findings] for r in rows])
    data = SensedCases(cases, labels)
    bind_sense("LABS", data, data, seed=1, budget=Budget(steps=STEPS), resume=resumed(folder))


STAGES = {
    "encoder US": partial(encoder, "US"),
    "encoder CT": partial(encoder, "CT"),
    "encoder MR": partial(encoder, "MR"),
    "whole images": whole,
    "pixel fusion": pixels,
    "writer": words,
    "autoencoder": generated,
    "flow": flow,
}
ON_TOKENS = {
    "fusion": (partial(fusion, "all"), FusionStage),
    "baseline CT": (partial(fusion, "single"), FusionStage),
    "late concatenation": (partial(fusion, "late"), FusionStage),
    "bind LABS": (sense, BindStage),
}


def weights_kept(folder: Path, told: str) -> None:
    """One checkpoint, named in the error, of finite weights."""
    (kept,) = folder.glob("*.resume")
    assert str(kept) in told
    with opened(kept, "pt") as file:
        weights = {k: file.get_tensor(k) for k in file.keys() if k.startswith("weights/")}  # noqa: SIM118
    assert weights
    for name, weight in weights.items():
        no_score_yet = name.endswith(("best_score", "loss"))
        assert no_score_yet or torch.isfinite(weight).all(), name


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_names_itself_and_keeps_its_last_good_weights(name, tmp_path):
    with pytest.raises(NotFiniteError, match=f"^{re.escape(name)}.* was not finite in 10 steps") as told:
        STAGES[name](tmp_path, float("nan"))
    weights_kept(tmp_path, str(told.value))


@pytest.mark.parametrize("name", ON_TOKENS)
def test_one_bad_case_is_named_before_it_spoils_the_standardisation_of_all(name, tmp_path):
    """The mean of a feature over all cases would be no number either, and every loss after it."""
    for bad in (float("nan"), float("inf")):
        with pytest.raises(
            NotFiniteError, match=rf"^{re.escape(name)}: what \w+ says of \d+ of \d+ training"
        ):
            ON_TOKENS[name][0](tmp_path, bad)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ON_TOKENS)
def test_stages_on_tokens_keep_their_last_good_weights(name, tmp_path, monkeypatch):
    train, stage = ON_TOKENS[name]
    real = stage.loss

    def loss(self, batch, step):
        found = real(self, batch, step)
        return found * float("nan") if step > 1 else found

    monkeypatch.setattr(stage, "loss", loss)
    with pytest.raises(NotFiniteError, match=f"^{re.escape(name)}: the loss or its gradient") as told:
        train(tmp_path, 0.0)
    weights_kept(tmp_path, str(told.value))


@pytest.mark.parametrize(
    ("name", "train"),
    [("whole images", partial(whole, cases=slice(6, 8))), ("writer", partial(words, in_validation=True))],
)
def test_weights_are_not_chosen_by_a_score_that_is_no_number(name, train, tmp_path):
    """Untrained weights were the best then, without a word."""
    with pytest.raises(
        NotFiniteError, match=f"^{name}: the score on validation cases is not a number"
    ) as told:
        train(tmp_path, float("nan"))
    weights_kept(tmp_path, str(told.value))


def test_stages_on_tokens_refuse_validation_cases_that_are_no_numbers():
    config = ModelConfig(width=16, layers=1, vocabulary=9)
    model = FusionModel(TASK, config, encoders=False)
    with pytest.raises(
        NotFiniteError, match=r"^fusion: what CT says of 1 of 8 validation cases is not a number"
    ):
        train_fusion(
            model,
            tokens(model, 20, 0.0),
            tokens(model, 8, float("nan")),
            budget=Budget(steps=STEPS),
            how=FusionTraining(seed=1),
        )
