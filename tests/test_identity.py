"""Caches and checkpoints know what they were made from: nothing of one cohort meets another's labels."""

from __future__ import annotations

import ast
import os
import re
import shutil

import numpy as np
import pytest
import torch
from house import modules
from torch import nn

from medfuse.errors import NotFiniteError, UserError, WrongUse
from medfuse.io.manifest import read_manifest
from medfuse.models.encoders import build_encoders
from medfuse.simulation.population import write_population
from medfuse.task import load_task
from medfuse.training import loop
from medfuse.training.budget import Budget
from medfuse.training.checkpoint import Resume
from medfuse.training.data.features import extract_features
from medfuse.training.data.tensors import PreparedCases, cache_key, preprocess_manifest
from medfuse.training.draws import Draws
from medfuse.training.identity import Identity, weights_digest
from medfuse.training.options import TrainOptions
from medfuse.training.stages.encoders import encoder_note, train_encoders

TASK = load_task("upper-abdomen")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory):
    """Two manifests of as many patients each, preprocessed."""
    out = []
    for seed in (31, 32):
        folder = tmp_path_factory.mktemp(f"cohort{seed}")
        rows = read_manifest(write_population(folder / "p", cases=4, seed=seed, file_format="nifti"))
        out.append((rows, *preprocess_manifest(TASK, rows, folder / "tensors", workers=1)))
    return out


def encoders_of(seed: int) -> nn.ModuleDict:
    torch.manual_seed(seed)
    return build_encoders(TASK).eval()


def features(cohort, encoders, cache):
    rows, folder, entries = cohort
    found = extract_features(
        TASK,
        encoders,
        PreparedCases(rows=rows, folder=folder, entries=entries),
        device=CPU,
        cache=cache,
        modalities=("US",),
    )
    return [f.features["US"] for f in found.features]


def same(a, b) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_features_of_one_cohort_are_not_taken_for_another_of_equal_length(cohorts, tmp_path):
    encoders = encoders_of(0)
    first = features(cohorts[0], encoders, tmp_path)
    other = features(cohorts[1], encoders, tmp_path)
    assert not same(first, other)
    assert same(other, features(cohorts[1], encoders, None))
    assert same(other, features(cohorts[1], encoders, tmp_path))  # the cache of the newest is used


def test_features_of_other_weights_are_made_anew(cohorts, tmp_path):
    first = features(cohorts[0], encoders_of(0), tmp_path)
    other = features(cohorts[0], encoders_of(1), tmp_path)
    assert not same(first, other)
    assert same(other, features(cohorts[0], encoders_of(1), None))


def test_a_changed_file_is_preprocessed_anew(tmp_path):
    rows = read_manifest(write_population(tmp_path / "p", cases=1, seed=31, file_format="nifti"))
    before, _ = preprocess_manifest(TASK, rows, tmp_path / "tensors", workers=1)
    image = tmp_path / "p" / rows[0].images[0].path
    later = image.stat().st_mtime_ns + 1_000_000_000
    os.utime(image, ns=(later, later))
    after, _ = preprocess_manifest(TASK, rows, tmp_path / "tensors", workers=1)
    assert before != after


def test_a_damaged_index_of_tensors_is_named(tmp_path):
    rows = read_manifest(write_population(tmp_path / "p", cases=1, seed=31, file_format="nifti"))
    folder = tmp_path / "tensors" / cache_key(TASK, rows)
    folder.mkdir(parents=True)
    (folder / "index.json").write_text('[{"case_id": "a"}]')
    with pytest.raises(UserError, match=r"index\.json: is damaged .*remove it to preprocess anew"):
        preprocess_manifest(TASK, rows, tmp_path / "tensors")


def test_a_damaged_note_of_an_encoder_is_named(tmp_path):
    assert encoder_note(tmp_path, "US") is None
    (tmp_path / "encoder_US.json").write_text('{"minutes": 1}')
    with pytest.raises(UserError, match=r"encoder_US\.json: is damaged .*remove it"):
        encoder_note(tmp_path, "US")


def trained(cohort, work, **options):
    _, folder, entries = cohort
    us = TASK.model_copy(update={"modalities": {"US": TASK.modalities["US"]}, "findings": ()})
    chosen = TrainOptions(**{"seed": 3, "encoder_steps": 1, "work": work, **options})
    return train_encoders(us, folder, entries, chosen, 1.0, work, lambda line: None)


def test_an_encoder_of_another_seed_or_cohort_is_refused_by_name(cohorts, tmp_path):
    first = trained(cohorts[0], tmp_path)
    assert (tmp_path / "encoder_US.safetensors").exists()
    again = trained(cohorts[0], tmp_path)
    assert weights_digest(first.state_dict()) == weights_digest(again.state_dict())
    with pytest.raises(WrongUse, match=r"encoder_US.safetensors: was made from .*\(the seed\).*--work"):
        trained(cohorts[0], tmp_path, seed=4)
    with pytest.raises(WrongUse, match="the training images"):
        trained(cohorts[1], tmp_path)


class Line(loop.Stage[torch.Tensor]):
    """Fits a line; from step ``bad`` on its loss is not a number."""

    name = "line"
    plan = loop.Plan(peak=0.1, weight_decay=0.0)

    def __init__(self, seed: int = 1, bad: range = range(0)) -> None:
        self.draws = Draws(seed)
        self.state = nn.Sequential(nn.Linear(2, 1), nn.BatchNorm1d(1))
        self.bad = bad

    def parameters(self):
        return list(self.state.parameters())

    def batches(self, epoch, done):
        while True:
            yield torch.randn(8, 2, generator=self.draws.torch)

    def loss(self, batch, step):
        x = batch * float("nan") if step in self.bad else batch
        return (self.state(x)[:, 0] - batch.sum(1)).square().mean()


def weights_of(stage: Line) -> str:
    return weights_digest(stage.state.state_dict())


def test_a_step_that_is_not_finite_leaves_no_trace():
    stage = Line(bad=range(2, 5))
    steps = loop.fit(stage, Budget(steps=8))
    assert steps == 8
    assert all(torch.isfinite(v).all() for v in stage.state.state_dict().values())
    straight = Line()
    loop.fit(straight, Budget(steps=8))
    assert weights_of(stage) != weights_of(straight)


def test_a_training_that_never_is_finite_ends_with_its_stage_and_step():
    stage = Line(bad=range(3, 100))
    with pytest.raises(
        UserError, match="line: the loss or its gradient was not finite in 10 steps up to step 13"
    ):
        loop.fit(stage, Budget(steps=50))
    with pytest.raises(UserError, match="line: no step of 4 had a finite gradient"):
        loop.fit(Line(bad=range(100)), Budget(steps=4))


class Killed(BaseException):
    pass


def stopped(path, identity):
    """A training that is killed in its sixth step, after which a checkpoint lies there."""
    stage = Line()
    loss = stage.loss

    def killed(batch, step):
        if step == 5:
            raise Killed
        return loss(batch, step)

    stage.loss = killed  # type: ignore[method-assign]
    with pytest.raises(Killed):
        loop.fit(stage, Budget(steps=9), resume=Resume(path, identity, every_s=0.0))


def test_a_stopped_training_goes_on_and_ends_the_same(tmp_path):
    path = tmp_path / "line.resume"
    identity = Identity.of({"the seed": 1, "the cases": ["a", "b"]})
    stopped(path, identity)
    stage = Line()
    loop.fit(stage, Budget(steps=9), resume=Resume(path, identity, every_s=0.0))
    straight = Line()
    loop.fit(straight, Budget(steps=9))
    assert weights_of(stage) == weights_of(straight)


def test_a_damaged_cache_is_named(cohorts, tmp_path):
    (tmp_path / "features_US.safetensors").write_bytes(b"half of a file")
    with pytest.raises(UserError, match=r"features_US.safetensors: is damaged .*remove it"):
        features(cohorts[0], encoders_of(0), tmp_path)
    (tmp_path / "encoder_US.safetensors").write_bytes(b"half of a file")
    with pytest.raises(UserError, match=r"encoder_US.safetensors: is damaged"):
        trained(cohorts[0], tmp_path)


def test_a_checkpoint_of_another_training_is_refused_by_what_differs(tmp_path):
    path = tmp_path / "line.resume"
    stopped(path, Identity.of({"the seed": 1, "the cases": ["a", "b"]}))
    kept = shutil.copy(path, tmp_path / "kept")
    other = Identity.of({"the seed": 1, "the cases": ["a", "c"]})
    with pytest.raises(WrongUse, match=r"\(the cases\); give another --work"):
        loop.fit(Line(), Budget(steps=9), resume=Resume(path, other))
    assert path.read_bytes() == kept.read_bytes()


def test_nothing_is_pickled():
    """Pickle is code: what is read from a file must not be run. Weights that others saved are read in one
    place, as tensors alone, which torch keeps from running anything."""
    for module in modules():
        foreign = module.path.name == "weights.py" and module.path.parent.name == "pretrained"
        for node in ast.walk(module.tree):
            at = f"{module.path}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {a.name for a in node.names}
                if not (foreign and names == {"UnpicklingError"}):
                    names.add(getattr(node, "module", "") or "")
                assert not {"pickle", "joblib", "dill", "shelve"} & names, at
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                tensors = any(
                    k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords
                )
                assert called != "torch.save", at
                assert called != "torch.load" or (foreign and tensors), at
                assert not [k for k in node.keywords if k.arg == "allow_pickle"], at


def test_the_last_good_weights_are_kept_when_a_training_ends_in_values_that_are_no_numbers(tmp_path):
    path = tmp_path / "line.resume"
    stage = Line(bad=range(3, 100))
    with pytest.raises(NotFiniteError, match=f"the last good weights are in {re.escape(str(path))}"):
        loop.fit(stage, Budget(steps=50), resume=Resume(path, Identity({})))
    good = Line(seed=2)
    again = loop.fit(good, Budget(steps=14), resume=Resume(path, Identity({})))
    assert again == 14  # it went on after the bad steps
    assert all(torch.isfinite(v).all() for v in good.state.state_dict().values())


def test_a_loss_that_is_no_number_is_not_learned_from_though_its_gradient_is_finite():
    class Odd(Line):
        def loss(self, batch, step):
            loss = super().loss(batch, step)
            return loss + float("nan") if step in (1, 2) else loss

    odd = Odd()
    seen = []
    odd.after_step = seen.append
    loop.fit(odd, Budget(steps=5))
    assert seen == [1, 4, 5]
