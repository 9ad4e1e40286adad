"""Frames: one place changes RAS+ into LPS+, and an affine that exists is a valid one."""

from __future__ import annotations

import numpy as np
import pytest

from medfuse.affine import Affine, other_frame, transform_in_other_frame

OBLIQUE = np.array([[0.0, -0.8, 0.6, 10.0], [1.5, 0.0, 0.0, -20.0], [0.0, 1.2, 2.0, 30.0], [0, 0, 0, 1]])


def test_left_and_posterior_are_positive_in_lps():
    assert other_frame(np.array([[1.0, 2.0, 3.0]])).tolist() == [[-1.0, -2.0, 3.0]]
    affine = Affine(OBLIQUE)
    assert affine.to("LPS+").points(np.zeros((1, 3))).tolist() == [[-10.0, 20.0, 30.0]]
    assert affine.to("LPS+").frame == "LPS+"
    np.testing.assert_array_equal(affine.to("LPS+").ras, OBLIQUE)


def test_points_go_to_voxels_and_back():
    affine = Affine(OBLIQUE)
    voxels = np.array([[3.0, 4.0, 5.0], [-1.0, 0.5, 2.0]])
    np.testing.assert_allclose(affine.voxels(affine.points(voxels)), voxels)
    np.testing.assert_allclose(affine.spacing, [1.5, np.hypot(0.8, 1.2), np.hypot(0.6, 2.0)])


def test_a_map_of_points_changes_its_frame_on_both_sides():
    shift = np.eye(4)
    shift[:3, 3] = (5.0, 6.0, 7.0)  # LPS+: to the left, back and up
    assert transform_in_other_frame(shift)[:3, 3].tolist() == [-5.0, -6.0, 7.0]
    turn = np.array([[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    point = np.array([1.0, 2.0, 3.0])
    there = other_frame((turn @ [*other_frame(point), 1])[:3])
    np.testing.assert_allclose((transform_in_other_frame(turn) @ [*point, 1])[:3], there)


def test_a_tilted_gantry_is_not_straight():
    assert not Affine(OBLIQUE).is_straight()
    assert Affine(np.diag([-1.0, 2, 3, 1])).is_straight()


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        (np.eye(3), r"\(4, 4\)"),
        (np.diag([1.0, 1, 0, 1]), "singular"),
        (np.diag([1.0, np.nan, 1, 1]), "not finite"),
        (np.diag([1.0, 1, 1, 2]), "last row"),
    ],
)
def test_what_places_no_voxel_is_refused(matrix, words):
    with pytest.raises(ValueError, match=words):
        Affine(matrix)


def test_an_affine_cannot_be_changed_later():
    given = np.eye(4)
    affine = Affine(given)
    given[0, 0] = 0
    assert affine.matrix[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        affine.matrix[0, 0] = 0
