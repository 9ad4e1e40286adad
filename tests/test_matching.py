"""Lesions of two modalities: one by their frame, probably one by their place in the organ, and never by a
guess."""

from __future__ import annotations

import numpy as np
import pytest

from medfuse.bundles.bundle import load_bundle
from medfuse.evaluation.evaluate import evaluate
from medfuse.evaluation.matching import MatchScores, _true_number
from medfuse.inference.matching import Organ, match_lesions
from medfuse.io.manifest import TrueLesion
from medfuse.prediction import LesionRecord, Place
from medfuse.simulation.patient import simulate
from medfuse.simulation.population import lesions_of, write_population
from medfuse.task import load_task

TASK = load_task("upper-abdomen")


def lesion(name: str, centre=None, finding="hcc_like", frame="", mm=20.0) -> LesionRecord:
    place = Place(
        image=0, frame_of_reference=frame, centre_mm=None if centre is None else list(map(float, centre))
    )
    return LesionRecord(
        id=name,
        modality=name.split("-")[0],
        finding=finding,
        probability=0.9,
        long_axis_mm=mm,
        short_axis_mm=mm,
        volume_ml=None,
        place=place,
    )


def pairs(matches):
    return {(tuple(m.lesions), m.certainty, m.by) for m in matches}


def test_one_frame_of_reference_is_the_same_lesion():
    found = match_lesions(
        [
            lesion("CT-1", (0, 0, 0), frame="F"),
            lesion("CT-2", (60, 0, 0), frame="F"),
            lesion("MR-1", (62, 3, 0), frame="F"),
        ],
        {},
        TASK,
    )
    assert pairs(found) == {(("CT-2", "MR-1"), "same", "frame")}


def test_the_scanners_origin_means_nothing_and_the_place_in_the_organ_everything():
    organs = {"CT": Organ("A", np.array([100.0, 0, 0])), "MR": Organ("B", np.array([-500.0, 40, 7]))}
    lesions = [
        lesion("CT-1", (130, 10, 0), frame="A"),
        lesion("CT-2", (60, 0, 0), frame="A"),
        lesion("MR-1", (-468, 48, 9), frame="B"),
        lesion("MR-2", (-420, 40, 7), frame="B"),
    ]
    found = match_lesions(lesions, organs, TASK)
    assert pairs(found) == {(("CT-1", "MR-1"), "probable", "organ")}  # MR-2 lies 70 mm from any
    moved = {"CT": organs["CT"], "MR": Organ("B", organs["MR"].centre + 200)}
    for x in lesions[2:]:
        x.place.centre_mm = [v + 200 for v in x.place.centre_mm]
    assert pairs(match_lesions(lesions, moved, TASK)) == pairs(found)
    assert match_lesions(lesions, {}, TASK) == []


def test_an_accepted_registration_makes_it_sure_in_either_direction():
    turn = np.array([[0.0, -1, 0, 5], [1, 0, 0, 0], [0, 0, 1, -3], [0, 0, 0, 1]])
    there = turn[:3, :3] @ [20, 10, 0] + turn[:3, 3]
    lesions = [lesion("CT-1", (20, 10, 0), frame="A"), lesion("MR-1", there, frame="B")]
    assert pairs(match_lesions(lesions, {}, TASK, {("A", "B"): turn})) == {
        (("CT-1", "MR-1"), "same", "frame")
    }
    assert pairs(match_lesions(lesions, {}, TASK, {("B", "A"): np.linalg.inv(turn)})) == {
        (("CT-1", "MR-1"), "same", "frame")
    }


def test_ultrasound_without_a_place_is_matched_only_where_nothing_else_fits():
    us = lesion("US-1", None, "solid_lesion")
    assert pairs(match_lesions([us, lesion("MR-1", (0, 0, 0), "hcc_like")], {}, TASK)) == {
        (("MR-1", "US-1"), "probable", "appearance")
    }
    assert (
        match_lesions(
            [us, lesion("MR-1", (0, 0, 0), "hcc_like"), lesion("MR-2", (9, 0, 0), "fnh_like")], {}, TASK
        )
        == []
    )
    assert match_lesions([us, lesion("MR-1", (0, 0, 0), "simple_cyst")], {}, TASK) == []


def test_sizes_that_differ_too_much_are_two_lesions():
    assert (
        match_lesions(
            [lesion("CT-1", (0, 0, 0), frame="F", mm=10), lesion("MR-1", (1, 0, 0), frame="F", mm=40)],
            {},
            TASK,
        )
        == []
    )


def test_the_simulator_says_where_each_lesion_lies_in_each_scanner():
    """The label map of CT and MR has the lesion where the manifest says it is (up to breathing)."""
    for index in range(6):
        patient = simulate(5, index)
        for said, true in zip(lesions_of(patient), patient.anatomy.lesions, strict=True):
            for modality, centre in said.centre_mm.items():
                first = patient.of(modality)[0]
                dense = load_task("upper-abdomen").dense.index(true.kind)
                at = np.argwhere(first.dense == dense)
                if not len(at):
                    continue
                mm = at @ first.grid.affine[:3, :3].T + first.grid.affine[:3, 3]
                assert np.linalg.norm(mm - centre, axis=1).min() < true.diameter / 2 + 25
                return
    pytest.fail("no lesion in six patients")


def test_truth_is_the_nearest_lesion_in_reach():
    true = [
        TrueLesion(kind="a", diameter_mm=20, centre_mm={"CT": (0, 0, 0)}),
        TrueLesion(kind="b", diameter_mm=10, centre_mm={"CT": (40, 0, 0)}),
    ]
    assert _true_number(lesion("CT-1", (15, 0, 0)), true) == 0
    assert _true_number(lesion("CT-1", (35, 0, 0)), true) == 1
    assert _true_number(lesion("CT-1", (200, 0, 0)), true) is None
    assert _true_number(lesion("MR-1", (0, 0, 0)), true) is None
    assert MatchScores(possible=4, said=4, right=3).summary().precision == 0.75


def test_evaluate_scores_matches_and_predict_writes_them(tmp_path, home):
    manifest = write_population(tmp_path / "p", cases=4, seed=35, file_format="nifti", split="test")
    table = evaluate(load_bundle("upper-abdomen-simulated"), manifest).lesion_matches["CT-MR"].as_json()
    assert set(table) == {"precision", "recall", "pairs_said", "pairs_possible"}
