"""Retrieval, conformal sets, lesion scores and paired differences against cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from medfuse.bundles.conformal import answer_sets, coverage_of, fit_quantiles
from medfuse.evaluation.cost import fusion_cost
from medfuse.evaluation.findings import finding_auroc, paired_difference
from medfuse.evaluation.lesions import LesionScores, score_case
from medfuse.evaluation.retrieval import label_oracle, recall, retrieval_table
from medfuse.models.features import DenseOutput
from medfuse.preprocess.tensors import CineInput, VolumeInput
from medfuse.task import load_task

TASK = load_task("upper-abdomen")


def unit(rows):
    x = np.asarray(rows, float)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_recall_counts_ranks():
    gallery = unit(np.eye(20))
    assert recall(gallery, gallery) == {"r1": 1.0, "r5": 1.0, "r10": 1.0}
    queries = gallery.copy()
    queries[0] = unit([[0.5, *[1.0] * 6, *[0.0] * 13]])[0]  # six others come first: rank 7
    assert recall(queries, gallery) == {"r1": 0.95, "r5": 0.95, "r10": 1.0}
    same = np.ones((20, 3)) / 3**0.5
    # an embedding that says nothing finds nothing: ties count against it
    assert recall(same, same)["r10"] == 0.0


def test_oracle_is_perfect_only_where_labels_differ(rng):
    distinct = np.array([[int(b) for b in f"{i:06b}"] for i in range(64)])
    assert label_oracle(distinct)["r1"] == 1.0
    assert label_oracle(np.zeros((50, 4), int))["r1"] < 0.2


def test_retrieval_uses_only_cases_that_have_both(rng):
    e = unit(rng.normal(size=(6, 4)))
    there = {
        "US": np.array([1, 1, 1, 0, 0, 0], bool),
        "CT": np.array([0, 1, 1, 1, 0, 0], bool),
        "text": np.ones(6, bool),
    }
    table = retrieval_table({"US": e, "CT": e, "joint": e, "text": e}, there, rng.integers(0, 2, (6, 3)))
    assert table["US->CT"] == table["CT->US"] == {"r1": 1.0, "r5": 1.0, "r10": 1.0}
    assert table["case->text"]["r1"] == 1.0
    assert table["n"] == 6


def test_conformal_sets_cover_what_they_promise(rng):
    """Labels drawn from the very probabilities: nine in ten sets must hold the answer, on new cases."""
    p = rng.beta(0.5, 0.5, (4000, 3))
    y = (rng.random(p.shape) < p).astype(int)
    q = fit_quantiles(y[:2000], p[:2000])
    held = coverage_of(y[2000:], p[2000:], q)
    assert 0.88 <= held["coverage90"] <= 0.92
    assert 0 < held["cannot_tell"] < 1
    sets = answer_sets(np.array([[0.999, 0.5, 0.001]]), q)
    assert sets[0].tolist() == [[False, True], [True, True], [True, False]]


def test_too_few_cases_promise_nothing():
    y = np.array([[0], [1], [1]])
    p = np.array([[0.1], [0.9], [0.8]])
    assert fit_quantiles(y, p)[0] == 1.0
    assert coverage_of(y, p, fit_quantiles(y, p)) == {"coverage90": 1.0, "cannot_tell": 1.0}


def volume(probability, truth, step=2.0):
    source = VolumeInput(
        "CT",
        np.zeros((1, *truth.shape), np.float32),
        np.ones(1, bool),
        np.diag([step, step, step, 1]),
        "f",
        (0,),
        truth,
    )
    return DenseOutput(
        "CT", source, 0, np.zeros(truth.shape, np.uint8), probability, [], np.zeros((0, len(TASK.dense)))
    )


def test_lesions_found_missed_and_invented():
    lesion = TASK.lesion_indices[0]
    truth = np.zeros((30, 30, 12), np.uint8)
    truth[4:10, 4:10, 3:7] = lesion
    truth[20:24, 20:24, 6:9] = lesion  # missed
    p = np.zeros(truth.shape, np.float32)
    p[4:10, 4:8, 3:7] = 0.9  # two thirds of the first
    p[2:6, 22:26, 2:5] = 0.8  # invented
    scores: dict[str, LesionScores] = {}
    score_case(scores, [volume(p, truth)], TASK)
    summary = scores["CT"].summary().as_json()
    assert (summary["true_lesions"], summary["sensitivity_at_1fp"]) == (2, 0.5)
    assert summary["dice"] == pytest.approx(2 * 96 / (96 + 144), abs=1e-3)
    assert summary["diameter_error_mm"] == pytest.approx(np.hypot(10, 10) - np.hypot(10, 6), abs=0.01)


def test_a_candidate_that_covers_everything_meets_no_outline():
    truth = np.zeros((40, 40, 12), np.uint8)
    for n in range(3):
        truth[4 + 12 * n : 8 + 12 * n, 4:8, 3:6] = TASK.lesion_indices[n]
    scores: dict[str, LesionScores] = {}
    score_case(scores, [volume(np.full(truth.shape, 0.9, np.float32), truth)], TASK)
    assert scores["CT"].summary().sensitivity_at_1fp == 1.0
    assert scores["CT"].summary().outlined_at_1fp == 0.0


def test_a_candidate_stands_for_one_lesion():
    truth = np.zeros((40, 40, 12), np.uint8)
    truth[4:10, 4:10, 3:6] = truth[12:18, 4:10, 3:6] = TASK.lesion_indices[0]
    p = np.zeros(truth.shape, np.float32)
    p[4:18, 4:10, 3:6] = 0.9  # both at once
    scores: dict[str, LesionScores] = {}
    score_case(scores, [volume(p, truth)], TASK)
    assert scores["CT"].summary().sensitivity_at_1fp == 1.0
    assert scores["CT"].summary().outlined_at_1fp == 0.5


def test_a_threshold_keeps_false_positives_at_one_a_case():
    lesion = TASK.lesion_indices[0]
    truth = np.zeros((40, 12, 6), np.uint8)
    truth[1:5, 2:6, 1:4] = lesion
    p = np.zeros(truth.shape, np.float32)
    p[1:5, 2:6, 1:4] = 0.6
    for k, score in enumerate((0.95, 0.7, 0.65)):  # three invented ones, all surer than the true one
        p[10 + 8 * k : 14 + 8 * k, 2:6, 1:4] = score
    scores: dict[str, LesionScores] = {}
    score_case(scores, [volume(p, truth)], TASK)
    assert scores["CT"].summary().sensitivity_at_1fp == 0.0
    assert scores["CT"].summary().threshold == pytest.approx(0.7)


def test_a_cine_is_one_volume_over_time():
    lesion = TASK.lesion_indices[0]
    truth = np.zeros((4, 20, 20), np.uint8)
    truth[1:3, 5:12, 5:12] = lesion
    source = CineInput(np.zeros((4, 20, 20), np.float32), 1.0, (0, 0), 0.5, (0, 1, 2, 3), 0, truth)
    dense = []
    for t in range(4):
        p = np.where(truth[t] > 0, 0.9, 0.0).astype(np.float32)
        dense.append(DenseOutput("US", source, t, np.zeros((20, 20), np.uint8), p, [], np.zeros((0, 1))))
    scores: dict[str, LesionScores] = {}
    score_case(scores, dense, TASK)
    summary = scores["US"].summary().as_json()
    assert (summary["true_lesions"], summary["sensitivity_at_1fp"], summary["dice"]) == (1, 1.0, 1.0)


def test_a_cine_without_calibration_has_lesions_and_no_millimetres():
    lesion = TASK.lesion_indices[0]
    truth = np.full((1, 60, 60), lesion, np.uint8)  # so large that its hull is measured
    source = CineInput(np.zeros((1, 60, 60), np.float32), 1.0, (0, 0), None, (0,), 0, truth)
    p = np.full((60, 60), 0.9, np.float32)
    scores: dict[str, LesionScores] = {}
    score_case(scores, [DenseOutput("US", source, 0, truth[0], p, [], np.zeros((0, 1)))], TASK)
    summary = scores["US"].summary()
    assert summary.sensitivity_at_1fp == 1.0
    assert summary.diameter_error_mm is None


def test_paired_difference_is_the_difference_and_covers_zero_for_equals(rng):
    y = rng.integers(0, 2, (300, 4))
    good = y + rng.normal(0, 1, y.shape)
    bad = y + rng.normal(0, 3, y.shape)
    found = paired_difference(y, good, bad).as_json()
    assert found["difference"] == pytest.approx(
        float((finding_auroc(y, good) - finding_auroc(y, bad)).mean()), abs=1e-4
    )
    assert found["ci95"][0] > 0
    assert paired_difference(y, good, good).as_json() == {"difference": 0.0, "ci95": [0.0, 0.0]}
    assert paired_difference(np.zeros((5, 2), int), np.ones((5, 2)), np.ones((5, 2))).ci95 is None


def test_cost_counts_both_fusions():
    cost = fusion_cost(tokens=8, repeats=1, counts=(2, 3)).as_json()
    assert set(cost["co_ms"]) == set(cost["merge_ms"]) == {"2", "3"}
    assert all(v > 0 for v in cost["co_over_merge"].values())


def test_plots_are_drawn(tmp_path, rng):
    from PIL import Image as Picture

    from medfuse.evaluation.plots import write_plots

    n = len(TASK.findings)
    p = rng.random((120, n))
    labels = (rng.random(p.shape) < p).astype(int)
    names = write_plots(TASK, {"US": (labels, p), "US+CT": (labels, p)}, tmp_path, simulated=True)
    assert names.pop() == "curves.json"
    for name in names:
        with Picture.open(tmp_path / name) as picture:
            assert picture.size[0] > 800
            assert np.asarray(picture.convert("L")).std() > 5
    # what is drawn is also there as numbers: areas as scikit-learn has them, reliability on the diagonal by
    # construction
    import json

    from sklearn.metrics import roc_auc_score

    curves = json.loads((tmp_path / "curves.json").read_text())
    first = TASK.findings[0].id
    assert curves["roc"]["findings"][first]["area"] == pytest.approx(
        roc_auc_score(labels[:, 0], p[:, 0]), abs=1e-3
    )
    assert all(abs(said - true) < 0.15 for said, true in curves["reliability"]["US"])
    assert curves["risk"]["US+CT"][-1][1] == pytest.approx(((p >= 0.5) != (labels == 1)).mean(), abs=1e-3)


def test_probabilities_carry_the_range_in_which_they_came_true(rng):
    """The exact binomial interval of the bin, none where validation is too thin, and it holds the truth about
    as often as it says."""
    from scipy.stats import beta

    from medfuse.bundles.calibration import interval, reliability

    labels = np.r_[np.ones(30), np.zeros(70), -np.ones(9)].astype(int)[:, None]
    table = reliability(labels, np.full((109, 1), 0.31))
    assert table[3] == [100, 30]
    assert sum(n for n, _ in table) == 100  # unknown labels count nowhere
    assert interval(0.35, table) == pytest.approx([beta.ppf(0.05, 30, 71), beta.ppf(0.95, 31, 70)], abs=1e-3)
    assert interval(0.95, table) is None
    held = 0
    for _ in range(200):
        p = rng.random((200, 1))
        low, high = interval(0.55, reliability((rng.random(p.shape) < p).astype(int), p)) or (0, 1)
        held += low <= 0.55 <= high
    assert held >= 170
