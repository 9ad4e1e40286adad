"""The matrix of senses: what claims compare, what was trained, and chance beside it."""

from __future__ import annotations

import numpy as np
import pytest

from medfuse.drafting.labeller import task_lexicon
from medfuse.evaluation.markdown import space_rows
from medfuse.evaluation.space import (
    CASE,
    CLAIMS,
    UNSEEN_WORDS,
    WORDS,
    Sensed,
    add_words,
    agreement,
    asked_findings,
    claimed,
    recall_of,
    space_of,
)
from medfuse.simulation.anatomy import draw_anatomy
from medfuse.simulation.patient import Variant, labels_of, simulate
from medfuse.simulation.wording import report
from medfuse.task import load_task

TASK = load_task("upper-abdomen")
ASKED = asked_findings(TASK)


def test_claims_are_made_of_findings_that_nothing_decides():
    names = [TASK.findings[i].id for i in ASKED]
    assert "simple_cyst" in names
    assert not {"focal_lesion", "solid_lesion"} & set(names)


def test_agreement_is_bayes_rule_by_hand():
    """One finding, prior .2: both sure it is there is five times likelier of one patient."""
    prior = np.array([0.2])
    sure = agreement(np.array([[0.99]]), np.array([[0.99]]), prior)[0, 0]
    assert np.exp(sure) == pytest.approx(0.99**2 / 0.2 + 0.01**2 / 0.8)
    assert agreement(np.array([[0.2]]), np.array([[0.7]]), prior)[0, 0] == pytest.approx(0.0)
    assert agreement(np.array([[0.9]]), np.array([[0.1]]), prior)[0, 0] < 0


def test_alike_claims_are_in_random_order():
    nothing = recall_of(np.zeros((40, 40)))
    assert nothing == {"r1": 0.025, "r5": 0.125, "r10": 0.25}  # chance
    assert recall_of(np.eye(40)) == {"r1": 1.0, "r5": 1.0, "r10": 1.0}
    assert recall_of(-np.eye(40))["r10"] == 0.0


def test_words_never_seen_find_their_claims_and_the_matrix_says_what_was_trained(rng):
    """Claims of 60 anatomies, and their reports in phrasings kept back: the labeller reads them."""
    drawn = [draw_anatomy(np.random.default_rng(i)) for i in range(60)]
    labels = np.array([[labels_of(a)[f.id] for f in TASK.findings] for a in drawn])[:, ASKED]
    prior = labels.mean(0)
    texts = [report(rng, a, held_out=True) for a in drawn]
    sensed = Sensed()
    add_words(sensed, {UNSEEN_WORDS: texts, WORDS: [""] * 60}, TASK, prior)
    assert WORDS not in sensed.chances  # nobody wrote any
    sensed.chances[CLAIMS] = claimed(labels, prior)
    sensed.chances[CASE] = np.tile(prior, (60, 1))
    sensed.there |= {CLAIMS: np.ones(60, bool), CASE: np.arange(60) < 50}
    found = space_of(sensed, prior)
    assert set(found.senses) == {UNSEEN_WORDS, CLAIMS, CASE}
    read = found.matrix["unseen_words->claims"]
    assert read.r10 > 0.8
    assert not read.trained
    assert found.matrix["case->claims"].trained
    assert (found.matrix["case->claims"].n, found.chance["50"]["r10"]) == (50, 0.2)
    assert found.matrix["case->claims"].r10 == pytest.approx(0.2)  # a case that says nothing: chance
    table = "\n".join(space_rows(found))
    assert f"| unseen_words → claims | 60 | {read.r1:.3f} |" in table
    assert task_lexicon(TASK) is not None


def test_a_simulated_patient_is_reported_twice():
    one = simulate(5, 4)
    late = simulate(5, 4, Variant(held_out=True))
    assert one.rephrased == late.rephrased == late.report != one.report
