"""Training: any manifest, checked first, repeatable bit by bit, and a bundle that loads as what was saved."""

from __future__ import annotations

import json

import jsonschema
import numpy as np
import pytest
import torch
from conftest import COARSE

from medfuse.bundles.bundle import NewBundle, load_bundle, save_bundle
from medfuse.bundles.calibration import expected_calibration_error, fit_temperature
from medfuse.bundles.contracts import Calibration, Card
from medfuse.bundles.registry import find_bundle
from medfuse.errors import UserError
from medfuse.evaluation.evaluate import OtherManifests, evaluate
from medfuse.evaluation.findings import finding_auroc
from medfuse.evaluation.markdown import markdown
from medfuse.io.manifest import read_manifest
from medfuse.learning import EncoderLearning
from medfuse.models.baselines import LogitStack
from medfuse.simulation.patient import Variant
from medfuse.simulation.population import write_population
from medfuse.task import Task, load_task
from medfuse.training.budget import Budget, learning_rate
from medfuse.training.data.check import check_manifest
from medfuse.training.data.tensors import preprocess_manifest
from medfuse.training.options import TrainOptions
from medfuse.training.run import train
from medfuse.training.stages.dense import (
    CROP,
    CropSource,
    DenseStage,
    crop_cine,
    crop_volume,
    dense_loss,
    encoder_identity,
    jitter,
    lesion_loss,
    train_encoder,
)
from medfuse.workflows.schemas import schemas_json

TASK = load_task(COARSE)


@pytest.fixture(scope="module")
def population(tmp_path_factory):
    return write_population(
        tmp_path_factory.mktemp("pop"), cases=6, seed=31, file_format="nifti", variant=Variant(missing=0.2)
    )


@pytest.fixture(scope="module")
def trained(population, tmp_path_factory):
    out = tmp_path_factory.mktemp("bundle") / "small"
    options = TrainOptions(seed=3, encoder_steps=2, fusion_steps=20)
    talk: list[str] = []
    result = train(TASK, population, out, options, command="test", log=talk.append)
    return out, result, talk


def test_bundle_is_whole_and_says_what_it_is(trained):
    out, result, talk = trained
    assert result["bundle"] == str(out)
    assert any("fusion epoch" in t for t in talk)
    bundle = load_bundle(out)
    assert bundle.domain.simulated
    assert set(bundle.domain.modalities) == {"US", "CT", "MR"}
    assert bundle.card["seed"] == 3
    card = (out / "MODEL_CARD.md").read_text()
    assert "simulated patients only" in card
    assert not out.with_name("small.part").exists()


def test_save_then_load_is_the_identity(trained, tmp_path):
    out, _, _ = trained
    a = load_bundle(out)
    singles, stack, late = a.baselines()
    from medfuse.models.model import ModelConfig

    config = ModelConfig(**json.loads((out / "config.json").read_text())["baseline"])
    made = NewBundle(
        task=a.task,
        model=a.model,
        baseline_config=config,
        singles=singles,
        stack=stack,
        late=late,
        calibration=Calibration(temperature=a.calibration, conformal=a.conformal, reliability=a.reliability),
        domain=a.domain,
        card=Card(**a.card),
        tokenizer=a.tokenizer,
    )
    save_bundle(tmp_path / "copy", made)
    b = load_bundle(tmp_path / "copy")
    for (n, x), (m, y) in zip(a.model.state_dict().items(), b.model.state_dict().items(), strict=True):
        assert n == m
        assert torch.equal(x, y)
    assert a.hash == b.hash


def test_evaluate_contract(trained, population):
    out, _, _ = trained
    found = evaluate(
        load_bundle(out), population, others=OtherManifests(shifted=population, control=population)
    )
    result = found.as_json()
    jsonschema.validate(result, schemas_json()["evaluation"])
    assert result["n"] == 6
    assert result["shifted"]["subsets"] == result["control"]["subsets"] == result["subsets"]
    assert {"case->text", "text->case", "US->CT"} <= set(result["retrieval"])
    assert all("ece" in row for row in result["calibration"].values())
    # where validation had the pattern
    assert any("coverage90" in row for row in result["calibration"].values())
    for row in result["lesions"].values():
        assert {"sensitivity_at_1fp", "dice", "diameter_error_mm"} <= set(row)
    assert result["cost"]["co_over_merge"]["6"] > 0
    assert set(result["subsets"]) <= {"US", "CT", "MR", "US+CT", "US+MR", "CT+MR", "US+CT+MR"}
    assert "US+CT+MR" in result["subsets"]
    for row in result["subsets"].values():
        assert set(row) >= {"macro_auroc", "ci95", "focal_auroc", "diffuse_auroc"}
    assert set(result["baselines"]) == {"logit_stack", "late_concat"}
    assert "iron" in result["per_finding"]
    for pair, row in result["interactions"].items():
        a, b = pair.split("+")
        assert set(row) == {"n", "redundancy", f"own_{a}", f"own_{b}", "synergy", "most_synergy"}
        assert f"| {pair} | {row['n']} | {row['redundancy']['bits']:.3f} " in markdown(found)
    assert "| US+CT+MR |" in markdown(found)
    space = result["space"]
    assert {"US", "CT", "MR", "case", "words", "claims", "unseen_words"} == set(space["senses"])
    assert space["matrix"]["case->claims"]["trained"]
    assert not space["matrix"]["CT->US"]["trained"]
    assert space["chance"][str(space["matrix"]["case->unseen_words"]["n"])]["r10"] == 1.0


def test_lesion_thresholds_come_from_validation_and_stay_in_the_bundle(trained, population, tmp_path):
    import shutil

    from typer.testing import CliRunner

    from medfuse.cli import app

    out, _, _ = trained
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    command = [
        "evaluate",
        str(copy),
        "--manifest",
        str(population),
        "--device",
        "cpu",
        "--set-lesion-thresholds",
        "--json",
    ]
    refused = CliRunner().invoke(app, command)
    assert isinstance(refused.exception, UserError)
    done = CliRunner().invoke(app, [*command, "--split", "val"])
    table = json.loads(done.stdout.splitlines()[-1])["lesions"]
    peaks = load_bundle(copy).lesion_peaks
    assert peaks == {
        m: max(0.5, row["threshold"]) for m, row in table.items() if row.get("threshold") is not None
    }


def test_encoder_training_repeats_bit_by_bit(population, tmp_path):
    rows = read_manifest(population)
    folder, entries = preprocess_manifest(TASK, rows, tmp_path, workers=1)
    again, _ = preprocess_manifest(TASK, rows, tmp_path, workers=1)
    assert again == folder  # the cache is used
    names = [f for e in entries for f in e["files"].get("US", [])]
    states = [
        train_encoder(
            CropSource(task=TASK, modality="US", folder=folder, names=names, seed=5), budget=Budget(steps=2)
        ).state_dict()
        for _ in range(2)
    ]
    for a, b in zip(states[0].values(), states[1].values(), strict=True):
        assert torch.equal(a, b)


def test_check_finds_what_would_spoil_training(population, tmp_path):
    rows = read_manifest(population)
    assert check_manifest(TASK, rows).problems == []
    rows[0].labels["unicorn"] = 1
    rows[1].images[0].path = "gone.nii"
    rows[2].patient_id = rows[5].patient_id
    problems = " ".join(check_manifest(TASK, rows).problems)
    assert "unicorn" in problems
    assert "gone.nii" in problems
    assert "more than one split" in problems
    lines = [json.loads(x) for x in population.read_text().splitlines()]
    (tmp_path / "m.jsonl").write_text(
        "\n".join(json.dumps({**x, "split": "train", "images": []}) for x in lines)
    )
    with pytest.raises(UserError, match="no case has split val"):
        train(
            TASK,
            tmp_path / "m.jsonl",
            tmp_path / "b",
            TrainOptions(minutes=0.1),
            command="",
            log=lambda t: None,
        )


def test_damaged_bundles_are_named(trained, tmp_path):
    import shutil

    out, _, _ = trained
    shutil.copytree(out, tmp_path / "b")
    (tmp_path / "b" / "weights.safetensors").write_bytes(b"xx")
    with pytest.raises(UserError, match="damaged"):
        load_bundle(tmp_path / "b")
    (tmp_path / "b" / "weights.safetensors").unlink()
    with pytest.raises(UserError, match="lacks weights"):
        load_bundle(tmp_path / "b")
    with pytest.raises(UserError, match=r"one of: .*upper-abdomen-simulated"):
        find_bundle("nothing")


def test_shipped_bundle_is_small_and_whole():
    path = find_bundle("upper-abdomen-simulated")
    assert sum(f.stat().st_size for f in path.glob("*.safetensors")) <= 12e6
    assert sum(f.stat().st_size for f in (path / "writer").glob("*.safetensors")) <= 4e6
    bundle = load_bundle()
    assert bundle.task == load_task("upper-abdomen").model_copy(update={"folder": bundle.task.folder})
    from medfuse.simulation.parameters import digest

    assert bundle.card["simulator_parameters_sha256"] == digest()


def test_crops_hold_what_they_should():
    rng = np.random.default_rng(0)
    dense = np.zeros((60, 60, 40), np.uint8)
    dense[10:50, 10:50, 5:35] = 1
    dense[40:44, 40:44, 30:33] = TASK.dense.index("hcc_like")
    values = np.zeros((5, 60, 60, 40), np.float16)
    present = np.array([1, 0, 1, 0, 0], bool)
    hits = 0
    for _ in range(40):
        x, keep, y = crop_volume(values, present, dense, TASK, rng, "CT")
        assert x.shape == (5, *CROP)
        assert y.shape == CROP
        assert keep.any()
        assert not (keep & ~present).any()
        hits += bool((y == TASK.dense.index("hcc_like")).any())
    assert hits > 20
    frames = np.zeros((20, 16, 16), np.float16)
    marks = np.zeros((20, 16, 16), np.uint8)
    marks[7, 3, 3] = TASK.dense.index("abscess")
    x, present, y = crop_cine(frames, marks, TASK, rng)
    assert x.shape == (8, 1, 16, 16)
    assert (y == TASK.dense.index("abscess")).any()


def test_frames_show_every_small_structure_and_not_lesions_alone():
    """A gallstone in one frame of twenty beside a large lesion in many: both are learned from as often."""
    rng = np.random.default_rng(0)
    marks = np.zeros((20, 64, 64), np.uint8)
    cyst, stone = (TASK.dense.index(c) for c in ("simple_cyst", "gallstone_mass"))
    marks[2:14, 8:40, 8:40] = cyst
    marks[17, 50:53, 50:53] = stone
    values = np.zeros(marks.shape, np.float16)
    with_stone = [(crop_cine(values, marks, TASK, rng)[2] == stone).any() for _ in range(60)]
    assert np.mean(with_stone) > 0.85  # at random 8 frames of 20 hold it in 2 of 5 samples
    assert not TASK.modalities["US"].crop
    spec = TASK.modalities["US"].model_copy(update={"size": 64, "crop": 32})
    task = TASK.model_copy(update={"modalities": TASK.modalities | {"US": spec}})
    places = set()
    for _ in range(40):
        x, present, y = crop_cine(values + np.arange(64, dtype=np.float16), marks, task, rng)
        assert x.shape == (8, 1, 32, 32)
        assert y.shape == (8, 32, 32)
        assert present.shape == (8, 1)
        assert all(np.isin(one, [cyst, stone]).any() for one in y[:4])  # the half that shows something
        places |= {tuple(at[0]) for at in (np.argwhere(one == stone) for one in y) if len(at)}
    assert len(places) > 10  # not always in the middle


def test_learning_of_encoders_is_a_setting_of_the_task(tmp_path):
    plain = TASK.model_dump()
    for crop in (TASK.modalities["US"].size + 8, 20):
        wrong = plain["modalities"]["US"] | {"crop": crop}
        with pytest.raises(ValueError, match="crop of US must be a multiple of 8, at most its size"):
            Task(**(plain | {"modalities": plain["modalities"] | {"US": wrong}}))
    quiet = EncoderLearning(rate=1e-3, gain=0, offset=0, noise=0)
    values = np.random.default_rng(1).normal(size=(2, 8, 8)).astype(np.float32)
    assert (jitter(values, np.random.default_rng(0), quiet) == values).all()
    assert (jitter(values, np.random.default_rng(0)) != values).any()
    task = TASK.model_copy(update={"learning": quiet})
    stages = [
        DenseStage(
            CropSource(task=t, modality="US", folder=tmp_path, names=[], seed=1),
            torch.nn.Linear(1, 1),
            lambda step, loss, fraction: None,
            torch.device("cpu"),
        )
        for t in (TASK, task)
    ]
    assert [s.plan.peak for s in stages] == [3e-3, 1e-3]
    assert encoder_identity(stages[0].source, None) != encoder_identity(stages[1].source, None)


def test_dense_loss_is_least_at_the_truth():
    target = torch.zeros(1, 4, 4, dtype=torch.long)
    target[0, 1:3, 1:3] = 2
    weight = torch.ones(4)
    right = torch.nn.functional.one_hot(target, 4).movedim(-1, 1).float() * 20
    wrong = right.roll(1, 1)
    assert dense_loss(right, target, weight) < 0.35
    assert dense_loss(wrong, target, weight) > 5


def test_lesion_loss_rewards_finding_and_naming():
    cyst = TASK.dense.index("simple_cyst")
    hcc = TASK.dense.index("hcc_like")
    target = torch.ones(1, 6, 6, dtype=torch.long)
    target[0, 2:4, 2:4] = hcc

    def logits(inside):
        labels = torch.ones(1, 6, 6, dtype=torch.long)
        labels[0, 2:4, 2:4] = inside
        return torch.nn.functional.one_hot(labels, len(TASK.dense)).movedim(-1, 1).float() * 8

    right, misnamed, missed = (
        float(lesion_loss(logits(c), target, TASK.lesion_indices)) for c in (hcc, cyst, 1)
    )
    assert right < 0.2 * min(misnamed, missed)
    empty = torch.ones(1, 6, 6, dtype=torch.long)
    assert float(lesion_loss(logits(1), empty, TASK.lesion_indices)) < float(
        lesion_loss(logits(cyst), empty, TASK.lesion_indices)
    )


def test_budget_and_learning_rate():
    budget = Budget(steps=100)
    assert budget.fraction(50) == 0.5
    rates = [learning_rate(1.0, f) for f in (0.0, 0.05, 0.5, 1.0)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[1] == pytest.approx(1.0)
    assert rates[1] > rates[2] > rates[3] > 0


def test_calibration_measures():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (4000, 1))
    labels = (rng.random((4000, 1)) < 1 / (1 + np.exp(-logits))).astype(int)
    assert fit_temperature(labels, logits * 3) == pytest.approx(3, rel=0.1)
    p = 1 / (1 + np.exp(-logits))
    assert expected_calibration_error(labels, p) < 0.03
    assert expected_calibration_error(labels, np.clip(p + 0.3, 0, 1)) > 0.15
    assert np.isnan(finding_auroc(np.ones((5, 1), int), np.zeros((5, 1)))[0])


def test_auroc_equals_scikit_learn():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, (60, 3))
    scores = rng.normal(size=(60, 3)).round(1)  # with ties
    want = [roc_auc_score(labels[:, f], scores[:, f]) for f in range(3)]
    assert np.allclose(finding_auroc(labels, scores), want)
    labels[:7, 1] = -1  # unknown labels are left out
    known = labels[:, 1] >= 0
    assert finding_auroc(labels, scores)[1] == pytest.approx(
        roc_auc_score(labels[known, 1], scores[known, 1])
    )


def test_logit_stack_equals_scikit_learn():
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, (80, 1))
    logits = {m: rng.normal(size=(80, 1)) + y for m in ("US", "CT")}
    stack = LogitStack()
    stack.fit(("US", "CT"), logits, y)
    x = np.concatenate([logits["US"], logits["CT"]], 1)
    want = LogisticRegression(C=1.0).fit(x, y[:, 0]).decision_function(x)
    assert np.allclose(stack.predict(("US", "CT"), logits)[:, 0], want, atol=1e-4)
