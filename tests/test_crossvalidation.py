"""Cross-validation: folds that part no patient, metrics over pairs of one fold, kept folds, papers."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
from PIL import Image as Picture
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from medfuse.cli import app
from medfuse.crossvalidation.checklist import guidelines
from medfuse.crossvalidation.plan import plan
from medfuse.crossvalidation.statistics import (
    Scores,
    accuracy,
    auroc,
    brier,
    calibration_error,
    patient_weights,
    summary,
)
from medfuse.errors import UserError
from medfuse.io.manifest import ManifestRow

TASK = """extends: breast-ultrasound
name: small-pictures
further: [LABS]
exclusive: []
modalities:
  US: {size: 32, filters: 4, roles: [still], frames: 1, intensity: {kind: byte, centre: 75.0, width: 55.0}}
findings:
  - {id: bright, group: focal, modalities: [US], name: {en: bright spot, zh-TW: 亮點}}
  - {id: rare, group: other, modalities: [US], name: {en: rare thing, zh-TW: 罕見}}
"""


def write_cohort(folder, cases=16):
    """Generated pictures of 32 pixels (not ultrasound) with a laboratory value, two of each patient; the last
    two patients are twins: the same pictures under two ids. One case has the finding ``rare``."""
    rng = np.random.default_rng(0)
    (folder / "task").mkdir(parents=True)
    (folder / "task" / "task.yaml").write_text(TASK, encoding="utf-8")
    lines = []
    for n in range(cases):
        label = n // 2 % 2
        frame = rng.normal(80, 10, (32, 32))
        frame[8:20, 8:20] += 60 * label
        if n >= cases - 2:
            name = f"{n - 2}.png"
        else:
            name = f"{n}.png"
            Picture.fromarray(frame.clip(0, 255).astype(np.uint8)).save(folder / name)
        lines.append(
            {
                "case_id": f"c{n}",
                "patient_id": f"p{n // 2}",
                "images": [{"path": name, "modality": "US", "role": "still"}],
                "labs": [
                    {"loinc": "1742-6", "value": 20 + 30 * label + n, "unit": "U/L", "date": "2024-01-01"}
                ],
                "labels": {"bright": label, "rare": int(n == 0)},
                "simulated": True,
            }
        )
    (folder / "manifest.jsonl").write_text("\n".join(json.dumps(x) for x in lines))
    return folder


def arguments(folder, out):
    asked = [
        "crossvalidate",
        str(folder / "task" / "task.yaml"),
        "--manifest",
        str(folder / "manifest.jsonl"),
    ]
    asked += ["--folds", "2", "--repeats", "1", "--encoder-steps", "2", "--fusion-steps", "3"]
    return [*asked, "--out", str(out), "--device", "cpu", "--json"]


def command(folder, out, *more):
    return CliRunner().invoke(app, [*arguments(folder, out), *more])


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    folder = write_cohort(tmp_path_factory.mktemp("pictures"))
    done = command(folder, folder / "cv")
    assert done.exit_code == 0, done.output
    return folder, json.loads(done.stdout)


def test_it_prints_what_the_contract_says(ran):
    _, found = ran
    assert {"n", "folds", "repeats", "subsets", "baselines"} <= set(found)
    assert (found["n"], found["folds"], found["repeats"]) == (16, 2, 1)
    assert set(found["subsets"]) == {"US", "LABS", "US+LABS"}
    for metrics in found["subsets"].values():
        for value in metrics.values():
            assert set(value) == {"mean", "ci95"}
    assert set(found["baselines"]) == {"logit_stack", "late_concat", "hand_boosting", "shuffled_labels"}
    assert "fusion_minus_this" in found["baselines"]["late_concat"]["US+LABS"]
    assert found["baselines"]["hand_boosting"]["US"]["macro_auroc"]["mean"] is not None


def test_twins_are_one_group_and_one_case_with_a_finding_is_said(ran):
    _, found = ran
    assert found["patients"] == 7
    assert any("twins" in note for note in found["notes"])
    assert any(n.startswith("rare: no case with it scored") for n in found["notes"])
    assert any(n.startswith("rare: only 1 patient") for n in found["cannot_tell"])


def test_papers_are_written(ran):
    folder, found = ran
    out = folder / "cv"
    with (out / "table.csv").open(newline="") as f:
        rows = list(csv.DictReader(f))
    assert {r["model"] for r in rows} == {"fused", *found["baselines"]}
    assert "\\bottomrule" in (out / "table.tex").read_text()
    with Picture.open(out / "figure.png") as figure:
        assert figure.width > 300
    text = (out / "checklist.md").read_text()
    assert "TRIPOD+AI" in text
    assert "CLAIM" in text
    assert "16 cases of 7 patients or twin groups" in text
    assert not list((out / "folds").glob("*.work"))


def test_finished_folds_are_kept_and_those_of_other_data_refused(ran, monkeypatch):
    folder, found = ran
    monkeypatch.setattr(
        "medfuse.crossvalidation.fold.train_prepared", lambda run: pytest.fail("trained again")
    )
    again = command(folder, folder / "cv")
    assert json.loads(again.stdout) == found
    other = command(folder, folder / "cv", "--start", "other")
    assert other.exit_code != 0
    assert "made from other data or settings (the settings)" in str(other.exception)


@pytest.mark.slow
def test_folds_beside_each_other_give_the_same_tables(ran, tmp_path):
    folder, found = ran
    done = command(folder, tmp_path / "cv", "--workers", "2")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == found
    for name in ("table.csv", "table.tex", "checklist.md", "crossvalidation.json"):
        assert (tmp_path / "cv" / name).read_bytes() == (folder / "cv" / name).read_bytes(), name
    assert not list((tmp_path / "cv" / "folds").glob("*.work"))


@pytest.mark.slow
def test_a_fold_whose_worker_was_killed_is_made_again(ran, tmp_path):
    """SIGKILL of a worker in the middle of its first fold."""
    folder, found = ran
    asked = [sys.executable, "-m", "medfuse", *arguments(folder, tmp_path / "cv"), "--workers", "2"]
    process = subprocess.Popen(asked, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        while not list((tmp_path / "cv" / "folds").glob("*.work/*")):
            assert process.poll() is None
            time.sleep(0.01)
        workers = [p for p in psutil.Process(process.pid).children() if "spawn_main" in " ".join(p.cmdline())]
        assert len(workers) == 2
        workers[0].kill()
        out, talk = process.communicate(timeout=300)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, talk
    assert "a worker died while it made" in talk
    assert json.loads(out) == found


@pytest.mark.slow
def test_workers_end_with_a_run_that_was_killed_and_it_goes_on(ran, tmp_path):
    """SIGKILL as soon as one fold is whole; then the same line again."""
    folder, found = ran
    more = ["--repeats", "2", "--workers", "2"]
    asked = [sys.executable, "-m", "medfuse", *arguments(folder, tmp_path / "cv"), *more]
    process = subprocess.Popen(asked, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    folds = tmp_path / "cv" / "folds"
    try:
        while not list(folds.glob("*.safetensors")):
            assert process.poll() is None
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    time.sleep(2)  # workers look for their parent every .3 s
    first = {p.name: p.stat().st_mtime_ns for p in folds.glob("*.safetensors")}
    assert len(first) < 4
    again = command(folder, tmp_path / "cv", *more)
    assert again.exit_code == 0, again.output
    assert {n: (folds / n).stat().st_mtime_ns for n in first} == first
    one = command(folder, tmp_path / "one", "--repeats", "2")
    assert json.loads(again.stdout) == json.loads(one.stdout)


@pytest.mark.slow
def test_a_run_that_was_killed_ends_as_one_that_was_not(ran, tmp_path):
    """SIGKILL in the middle of the second fold; then the same line again."""
    folder, found = ran
    asked = [sys.executable, "-m", "medfuse", *arguments(folder, tmp_path / "cv")]
    process = subprocess.Popen(asked, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    folds = tmp_path / "cv" / "folds"
    try:
        while not (folds / "r1-f2.work").exists():
            assert process.poll() is None
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    (first,) = folds.glob("*.safetensors")
    before = first.stat().st_mtime_ns
    again = command(folder, tmp_path / "cv")
    assert json.loads(again.stdout) == found
    assert first.stat().st_mtime_ns == before
    assert not list(folds.glob("*.work"))


def test_bad_input_is_one_sentence(ran, tmp_path):
    folder, _ = ran
    few = write_cohort(tmp_path / "few", cases=4)
    assert "needs three at least" in str(command(few, tmp_path / "a").exception)
    assert "give 2 or more" in str(command(folder, tmp_path / "b", "--folds", "1").exception)
    assert "--fusions odd" in str(command(folder, tmp_path / "c", "--fusions", "odd").exception)
    (few / "manifest.jsonl").write_text('{"case_id": "x", "images": []}\n')
    assert "no case has a label" in str(command(few, tmp_path / "d").exception)


def rows_of(groups):
    return [ManifestRow(case_id=f"c{i}", group=g) for i, g in enumerate(groups)]


def test_no_group_is_in_two_parts_of_any_of_many_random_plans():
    rng = np.random.default_rng(0)
    for seed in range(25):
        groups = [f"g{g}" for g in rng.integers(0, rng.integers(3, 20), 40)]
        rows = rows_of(groups)
        for row in rows:
            row.labels = {"x": int(rng.integers(2))}
        labels = np.array([[r.labels["x"]] for r in rows])
        if len(set(groups)) < 3:
            continue
        folds, _ = plan(rows, labels, 5, 1, seed)
        scored = np.concatenate([f.test for f in folds])
        assert sorted(scored) == list(range(40))
        for fold in folds:
            parts = [{groups[i] for i in part} for part in (fold.train, fold.val, fold.test)]
            assert all(parts)
            assert not parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2]


def test_more_folds_than_patients_become_fewer_and_two_patients_are_refused():
    labels = np.array([[0], [1], [0], [1]])
    folds, notes = plan(rows_of("abcd"), labels, 9, 1, 0)
    assert len(folds) == 4
    assert "9 folds were asked for" in notes[0]
    with pytest.raises(UserError, match="needs three"):
        plan(rows_of("abab"), labels, 2, 1, 0)


def random_scores(seed=0, repeats=2, cases=60, findings=3):
    rng = np.random.default_rng(seed)
    labels = rng.integers(-1, 2, (cases, findings))
    p = np.clip(rng.random((repeats, cases, findings)) + 0.2 * labels, 0.01, 0.99)
    return Scores(probability=p, labels=labels, fold=np.zeros((repeats, cases), int))


def test_auroc_in_one_fold_is_that_of_scikit_learn():
    scores = random_scores(repeats=1)
    found = auroc(scores, np.ones((1, 60), np.float32))[0]
    for f in range(3):
        known = scores.labels[:, f] >= 0
        assert found[f] == pytest.approx(
            roc_auc_score(scores.labels[known, f], scores.probability[0, known, f])
        )


def test_scores_of_two_folds_are_never_compared():
    labels = np.array([[0], [1], [0], [1]])
    p = np.array([[[0.1], [0.2], [0.8], [0.9]]])
    one = Scores(probability=p, labels=labels, fold=np.zeros((1, 4), int))
    two = Scores(probability=p, labels=labels, fold=np.array([[0, 0, 1, 1]]))
    alone = Scores(probability=p, labels=labels, fold=np.array([[0, 1, 2, 3]]))
    weights = np.ones((1, 4), np.float32)
    assert auroc(one, weights)[0, 0] == 0.75
    assert auroc(two, weights)[0, 0] == 1
    assert np.isnan(auroc(alone, weights)).all()
    assert summary(auroc(alone, weights)[:, 0]) == (None, None)


def test_a_weight_of_two_is_the_case_twice():
    scores = random_scores()
    weights = np.ones((1, 60), np.float32)
    weights[0, :7] = 2
    at = np.r_[np.arange(60), np.arange(7)]
    twice = Scores(probability=scores.probability[:, at], labels=scores.labels[at], fold=scores.fold[:, at])
    ones = np.ones((1, 67), np.float32)
    for measure in (auroc, brier, calibration_error):
        assert measure(scores, weights) == pytest.approx(measure(twice, ones), rel=1e-5)
    assert accuracy(scores, weights, [0, 1]) == pytest.approx(accuracy(twice, ones, [0, 1]))


def test_intervals_are_drawn_by_patient():
    groups = np.repeat(np.arange(20), 3)
    weights = patient_weights(groups, 0)
    assert (weights[0] == 1).all()
    assert (weights[:, ::3] == weights[:, 1::3]).all()
    assert (weights[1:, ::3].sum(1) == 20).all()


def test_the_guidelines_have_all_their_items():
    found = guidelines()
    assert len(found["CLAIM"]) == 44
    assert {i.item.rstrip("abcdefg") for i in found["TRIPOD+AI"]} == {str(n) for n in range(1, 28)}
