"""What two modalities say alike, alone and only together: cases whose answer is known in bits."""

from __future__ import annotations

import numpy as np
import pytest

from medfuse.evaluation.interaction import interactions, split_bits, usable_bits


def _sure(answer: np.ndarray) -> np.ndarray:
    return np.where(answer[:, None] == 1, 1 - 1e-6, 1e-6)


@pytest.fixture
def coins(rng):
    a, b = np.array([[i // 2 % 2, i % 2] for i in range(400)]).T
    return a, b, np.full((400, 1), 0.5)


def _run(y, pa, pb, pab, there=None):
    n = len(y)
    there = there or {"US": np.ones(n, bool), "CT": np.ones(n, bool)}
    return interactions(y[:, None], {"US": pa, "CT": pb, "US+CT": pab}, there, ["x"], seed=0)[
        "US+CT"
    ].as_json()


def test_exclusive_or_is_all_synergy(coins):
    a, b, half = coins
    row = _run(a ^ b, half, half, _sure(a ^ b))
    assert row["synergy"]["bits"] == pytest.approx(1, abs=0.01)
    assert row["redundancy"]["bits"] == row["own_US"]["bits"] == row["own_CT"]["bits"] == 0
    low, high = row["synergy"]["ci95"]
    assert 0.95 < low <= high <= 1.0


def test_a_copy_is_all_redundancy(coins):
    a, _, _ = coins
    row = _run(a, _sure(a), _sure(a), _sure(a))
    assert row["redundancy"]["bits"] == pytest.approx(1, abs=0.01)
    assert row["synergy"]["bits"] == row["own_US"]["bits"] == 0


def test_one_that_knows_beside_one_that_does_not(coins):
    a, _, half = coins
    row = _run(a, _sure(a), half, _sure(a))
    assert row["own_US"]["bits"] == pytest.approx(1, abs=0.01)
    assert row["redundancy"]["bits"] == row["own_CT"]["bits"] == 0


def test_bits_are_saved_log_loss_and_unknown_labels_do_not_count():
    y = np.array([[1], [0], [0], [-1]])
    p = np.array([[0.7], [0.2], [0.4], [0.99]])
    base = -(np.log2(1 / 3) + 2 * np.log2(2 / 3)) / 3
    want = base + (np.log2(0.7) + np.log2(0.8) + np.log2(0.6)) / 3
    assert usable_bits(y, p)[0] == pytest.approx(want)
    assert usable_bits(y, 1 - p)[0] == 0  # worse than knowing the frequency is knowing nothing
    twice = usable_bits(y, p, np.array([2.0, 2.0, 2.0, 5.0]))
    assert twice[0] == pytest.approx(want)


def test_parts_add_up_to_what_both_know(rng):
    a, b, both = rng.random((3, 7))
    assert np.allclose(split_bits(a, b, both).sum(0), both)


def test_only_cases_with_both_count(coins):
    a, b, half = coins
    there = {"US": np.arange(400) < 100, "CT": np.ones(400, bool)}
    assert _run(a ^ b, half, half, _sure(a ^ b), there)["n"] == 100
    assert (
        interactions(a[:, None], {"US": half, "CT": half}, {"US": a > 5, "CT": a >= 0}, ["x"], seed=0) == {}
    )
