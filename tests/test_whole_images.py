"""Tasks without label maps: any user's classes on whole images, through the same commands."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image as Picture

from medfuse.bundles.bundle import NewBundle, choose_bundle, load_bundle, save_bundle
from medfuse.bundles.contracts import Calibration, Card
from medfuse.bundles.domain import Domain, distance, feature_domain
from medfuse.case import Image, Source
from medfuse.evaluation.evaluate import evaluate
from medfuse.io.read import open_case
from medfuse.models.features import CaseFeatures
from medfuse.models.model import exclusive_logits
from medfuse.preprocess.marks import find_marks, remove_marks
from medfuse.task import load_task
from medfuse.training.options import TrainOptions
from medfuse.training.run import train
from medfuse.training.stages.whole import SMOOTHING, augment, loss_of
from medfuse.workflows.predict import PredictOptions, PredictRequest, predict_command

BREAST = load_task("breast-ultrasound")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Generated pictures, not ultrasound: dark disc (benign), bright disc (malignant), none (normal), on
    noise."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    rows = []
    y, x = np.mgrid[:96, :96]
    for n in range(90):
        kind = ("normal", "benign", "malignant")[n % 3]
        frame = rng.normal(90, 12, (96, 96))
        disc = (y - 48 - rng.integers(-12, 12)) ** 2 + (x - 48 - rng.integers(-12, 12)) ** 2 < 18**2
        frame[disc] += {"normal": 0, "benign": -60, "malignant": 80}[kind]
        Picture.fromarray(np.clip(frame, 0, 255).astype(np.uint8)).save(folder / f"{n}.png")
        rows.append(
            {
                "case_id": f"p{n}",
                "split": ("train", "train", "val", "test")[n // 3 % 4],
                "images": [{"path": f"{n}.png", "modality": "US", "role": "still"}],
                "labels": {k: int(k == kind) for k in ("normal", "benign", "malignant")},
            }
        )
    path = folder / "manifest.jsonl"
    path.write_text("\n".join(json.dumps(r) for r in rows))
    return path


@pytest.fixture(scope="module")
def bundle_path(manifest, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "pictures"
    train(BREAST, manifest, out, TrainOptions(seed=1, encoder_steps=40), command="test", log=lambda m: None)
    return out


def test_it_learns_and_says_how_well(bundle_path, manifest):
    result = evaluate(load_bundle(bundle_path), manifest).as_json()
    assert result["n"] == 21
    assert result["accuracy"]["US"] > 0.7
    assert result["subsets"]["US"]["focal_auroc"] is None  # this task tags neither
    assert result["cost"] == {}
    assert result["lesions"] == {}


def test_a_picture_inside_the_domain_gets_a_draft_in_both_languages(bundle_path, manifest, tmp_path):
    for language in ("en", "zh-TW"):
        done = predict_command(
            PredictRequest(
                parts={"US": [manifest.parent / "1.png"]},
                out=tmp_path / language,
                bundle=str(bundle_path),
                options=PredictOptions(language),
            ),
            log=print,
        )
        assert done.exit_code == 0
        assert done.data["in_domain"]
        total = sum(f["probability"] for f in done.data["findings"])
        # exactly one class holds; temperature may move the sum a little
        assert total == pytest.approx(1.0, abs=0.1)


def test_a_picture_unlike_the_others_is_outside(bundle_path, tmp_path):
    rng = np.random.default_rng(1)
    odd = np.kron(rng.integers(0, 2, (6, 6)), np.ones((16, 16))) * 255
    Picture.fromarray(odd.astype(np.uint8)).save(tmp_path / "odd.png")
    done = predict_command(
        PredictRequest(
            parts={"US": [tmp_path / "odd.png"]},
            out=tmp_path / "out",
            bundle=str(bundle_path),
        ),
        log=print,
    )
    assert not done.data["in_domain"]
    assert done.data["findings"] == []
    assert "looks unlike" in done.data["images"][0]["why"]


def test_a_limit_from_few_patients_is_said_in_output_and_card(manifest, tmp_path, monkeypatch):
    monkeypatch.setattr("medfuse.bundles.domain.PATIENTS", 30)
    said: list[str] = []
    options = TrainOptions(seed=1, encoder_steps=1)
    done = train(BREAST, manifest, tmp_path / "few", options, command="test", log=said.append)
    (note,) = done["notes"]
    assert "fewer than 30, so the limit of how its images may look comes from cross-validation" in note
    assert note in said
    assert note in (tmp_path / "few" / "MODEL_CARD.md").read_text()
    assert load_bundle(tmp_path / "few").domain.features["US"]["limit"] > 0


def test_the_body_part_of_a_header_is_believed():
    domain = Domain(False, ("US",), "breast", {}, {}, ("BREAST",))
    for part, uid, inside in (
        ("", "", True),
        ("breast", "1.2", True),
        ("ABDOMEN", "1.2", False),
        ("", "1.2", False),
    ):
        image = Image(
            "US", np.zeros((1, 8, 8), np.uint8), Source("x", series_uid=uid, body_part=part), role="still"
        )
        assert domain.holds(image)[0] == inside


def test_simulated_cases_keep_the_default_bundle(patient_dicom):
    assert choose_bundle(open_case(patient_dicom), load_bundle()).name == "upper-abdomen-simulated"


def test_exclusive_logits_are_a_softmax():
    scores = torch.randn(5, 4)
    p = exclusive_logits(scores, [0, 1, 3]).sigmoid()
    assert torch.allclose(p[:, [0, 1, 3]], scores[:, [0, 1, 3]].softmax(1), atol=1e-5)
    assert torch.equal(exclusive_logits(scores, [0, 1, 3])[:, 2], scores[:, 2])


def test_loss_is_cross_entropy_and_leaves_unknown_labels_out():
    scores = torch.randn(3, 3)
    labels = torch.tensor([[1, 0, 0], [0, 0, 1], [-1, -1, -1]])
    got = loss_of(exclusive_logits(scores, [0, 1, 2]), labels, [0, 1, 2])
    want = torch.nn.functional.cross_entropy(scores[:2], torch.tensor([0, 2]), label_smoothing=SMOOTHING)
    assert torch.allclose(got, want, atol=1e-4)


def test_mirror_images_only_where_sides_mean_nothing():
    x = torch.zeros(64, 1, 32, 32)
    x[..., 2:8] = 5.0  # bright on the left
    generator = torch.Generator().manual_seed(0)

    def on_the_right(mirror):
        y = augment(x, generator, mirror=mirror)
        return int((y[..., 16:].mean((1, 2, 3)) > y[..., :16].mean((1, 2, 3))).sum())

    assert on_the_right(False) == 0
    assert 10 < on_the_right(True) < 54


def test_crosses_and_letters_are_painted_over(rng):
    tissue = np.clip(rng.normal(80, 10, (120, 120)), 0, 255).astype(np.uint8)
    tissue[30:60, 30:70] = 20
    frame = tissue.copy()
    # a measuring cross
    frame[40:49, 44] = 250
    frame[44, 40:49] = 250
    marks = find_marks(frame)
    assert marks[40:49, 44].all()
    assert marks.mean() < 0.02
    clean = remove_marks(frame[None])[0]
    assert clean[40:49, 44].max() < 120
    assert np.array_equal(clean[~marks], frame[~marks])


class Set:
    """Features of cases with one ultrasound token each."""

    def __init__(self, rows):
        self.features = [
            CaseFeatures({"US": r[None]}, {"US": np.ones(1, bool)}, {"US": np.zeros(1, int)}) for r in rows
        ]


def test_few_validation_patients_get_a_cross_validated_limit(rng):
    basis = rng.normal(size=(3, 20))
    inside = rng.normal(size=(60, 3)) @ basis + 0.05 * rng.normal(size=(60, 20))
    people = ([f"p{i // 2}" for i in range(34)], [f"v{i // 3}" for i in range(6)])
    made = feature_domain(Set(inside[:34]), Set(inside[34:40]), ("US",), people)
    assert made.notes == [
        "US: validation has 2 patient(s), fewer than 10, so the limit of how its images may look comes from "
        "cross-validation over 40 case(s) of 19 patient(s)"
    ]
    assert (distance(inside[40:], made.models["US"]) <= made.models["US"]["limit"]).mean() > 0.8
    assert (distance(rng.normal(size=(50, 20)) * 3, made.models["US"]) > made.models["US"]["limit"]).all()


def test_too_few_patients_are_said_to_have_no_limit(rng):
    rows = rng.normal(size=(40, 20))
    made = feature_domain(Set(rows[:30]), Set(rows[30:]), ("US", "CT"), (["a", "b"] * 15, ["c"] * 10))
    assert made.models == {}
    assert [n.split(": ")[1] for n in made.notes] == ["how its images look is not checked"]


def test_distance_is_small_for_what_was_seen(rng):
    basis = rng.normal(size=(3, 20))
    inside = rng.normal(size=(200, 3)) @ basis + 0.05 * rng.normal(size=(200, 20))
    model = feature_domain(Set(inside[:150]), Set(inside[150:]), ("US",)).models["US"]
    assert (distance(inside, model) <= model["limit"]).mean() > 0.9
    assert (distance(rng.normal(size=(50, 20)) * 3, model) > model["limit"]).all()


def test_a_stopped_training_goes_on_and_ends_the_same(manifest, tmp_path, monkeypatch):
    from medfuse.training.stages import whole

    class Killed(BaseException):
        pass

    def weights(name):
        return load_bundle(tmp_path / name).model.state_dict()

    def run(name):
        train(
            BREAST,
            manifest,
            tmp_path / name,
            TrainOptions(seed=2, encoder_steps=6),
            command="test",
            log=lambda m: None,
        )

    run("straight")
    real = whole._follow
    calls = []

    def stop(mean, model, keep):
        calls.append(1)
        if len(calls) == 5:
            raise Killed
        real(mean, model, keep)

    monkeypatch.setattr(whole, "_follow", stop)
    with pytest.raises(Killed):
        run("stopped")
    assert (tmp_path / "stopped.work" / "whole.resume").exists()
    monkeypatch.setattr(whole, "_follow", real)
    run("stopped")
    for a, b in zip(weights("straight").values(), weights("stopped").values(), strict=True):
        assert torch.equal(a, b)
    assert not (tmp_path / "stopped.work" / "whole.resume").exists()


def test_a_bundle_keeps_the_task_it_was_trained_with(bundle_path, tmp_path):
    """Not the one on disk that it began from: other preprocessing would meet the network than it learned
    by."""
    bundle = load_bundle(bundle_path)
    spec = bundle.task.modalities["US"].model_copy(update={"remove_marks": False})
    changed = bundle.task.model_copy(update={"modalities": {"US": spec}})
    config = bundle.model.config
    made = NewBundle(
        task=changed,
        model=bundle.model,
        baseline_config=config,
        calibration=Calibration(temperature=bundle.calibration, conformal=bundle.conformal),
        domain=bundle.domain,
        card=Card(**bundle.card),
    )
    save_bundle(tmp_path / "changed", made)
    kept = load_bundle(tmp_path / "changed").task
    assert not kept.modalities["US"].remove_marks
    assert kept.model_copy(update={"folder": changed.folder}) == changed
