"""Tuning on what people signed: simulated readers with known habits, a gate that holds, poisoned records."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from scipy.special import expit
from typer.testing import CliRunner

from medfuse.bundles.bundle import load_bundle
from medfuse.bundles.calibration import calibrated
from medfuse.bundles.registry import bundle_hash
from medfuse.bundles.tuned import tuned_copy
from medfuse.cli import app
from medfuse.errors import UserError, WrongUse
from medfuse.library import store
from medfuse.library.results import Likelihood, Searchable
from medfuse.training.tuning import fit_shift, tune
from medfuse.workflows import tune as workflow
from medfuse.workflows.tune import tune_bundle
from tests.signers import BIAS, IDS, Line, heard, signed, world


def test_habits_of_readers_are_learned_and_accepted():
    cases = world()
    tuned = tune(heard(signed(cases), cases), IDS)
    assert tuned.accepted, tuned.gate
    assert tuned.after.f1 >= tuned.before.f1 + 0.02
    assert tuned.after.to_change <= 0.9 * tuned.before.to_change
    for finding, off in BIAS.items():
        assert tuned.shift[finding] == pytest.approx(-off, abs=0.6)
    assert set(tuned.shift) == set(BIAS)


def test_a_bundle_that_readers_agree_with_is_left_alone():
    cases = world(bias={})
    tuned = tune(heard(signed(cases), cases), IDS)
    assert not tuned.accepted
    assert tuned.shift == {}
    assert tuned.after == tuned.before


@pytest.mark.parametrize("seed", range(3))
def test_poisoned_records_are_refused(seed):
    cases = world(seed=seed)
    clean = tune(heard(signed(cases, seed=seed), cases), IDS)
    poisoned = tune(heard(signed(cases, wrong=0.1, seed=seed), cases), IDS)
    assert clean.accepted
    assert not poisoned.accepted
    assert poisoned.wrong == pytest.approx(0.1, abs=0.04)
    (row,) = [r for r in poisoned.gate if "wrong statements" in r.what]
    assert not row.passed


def test_one_reader_or_few_records_are_not_enough():
    cases = world(60)
    lines = [x for x in signed(cases) if x.author == "ann"]
    failed = [r.what for r in tune(heard(lines, cases), IDS).gate if not r.passed]
    assert "readers, at least 2" in failed
    few = tune(heard(signed(world(2)), world(2)), IDS)
    assert not few.accepted
    nothing = tune(heard([], {}), IDS)
    assert not nothing.accepted


def test_what_a_record_says():
    cases = {"a": ({}, {"ascites": 0.7, "steatosis": 0.2}), "b": ({}, {"ascites": 0.7})}
    lines = [
        Line("a", "ascites", "present", "present", "accepted", "ann"),
        Line("a", "steatosis", "absent", "", "rejected", "ann"),  # idle, says nothing
        Line("b", "ascites", "present", "", "rejected", "ann"),  # not there
        Line("b", "ascites", "", "present", "added", "ann", minute=-5),  # before: the last word counts
        Line("b", "cirrhosis", "", "present", "added", "ann"),  # not assessed: not counted
        Line("nowhere", "ascites", "", "present", "added", "ann"),
        Line("a", "ascites", "present", "absent", "accepted", "ann", kind="answer"),
    ]
    s = heard(lines, cases)
    assert sorted(zip(s.patient.tolist(), s.there.tolist(), strict=True)) == [(0, True), (1, False)]
    assert s.unknown == ("nowhere",)
    disputed = heard([*lines, Line("a", "ascites", "present", "absent", "edited", "bo")], cases)
    assert len(disputed) == 1
    assert disputed.disputed == 1


def test_a_shift_stays_near_none_where_little_was_said():
    cases = world(3)
    s = heard(signed(cases), cases)
    assert np.abs(fit_shift(s, len(IDS))).max() < 2.5
    assert fit_shift(s.where(np.zeros(len(s), bool)), len(IDS)).tolist() == [0.0] * len(IDS)


def test_shifted_bundles_say_other_probabilities_and_the_old_one_stays(tmp_path):
    bundle = load_bundle()
    before = bundle_hash(bundle.path)
    tuned_copy(bundle, tmp_path / "new", {"ascites": 1.0}, {"records": 3})
    new = load_bundle(tmp_path / "new")
    assert bundle_hash(bundle.path) == before != new.hash
    assert new.card["tuned"] == {"records": 3}
    assert new.reliability == {}
    z = np.zeros(len(IDS))
    chance = dict(zip(IDS, calibrated(z, 1.3, new.shifts), strict=True))
    assert chance["ascites"] == pytest.approx(expit(1.0))
    assert chance["steatosis"] == 0.5
    tuned_copy(new, tmp_path / "again", {"ascites": 0.5}, {})
    assert load_bundle(tmp_path / "again").shift == {"ascites": 1.5}
    with pytest.raises(WrongUse, match="is there already"):
        tuned_copy(bundle, tmp_path / "new", {}, {})


def run(*arguments):
    return CliRunner().invoke(app, ["tune", *map(str, arguments), "--json"])


def line(**changes):
    record = {"case_id": "c", "kind": "sentence", "action": "accepted", "author": "ann"}
    return json.dumps({**record, "made": "2026-01-01T00:00:00Z", **changes}) + "\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no training record"),
        ("{}\n", "line 1: not a training record"),
        (line(bundle_hash="another"), "none of its 1 records is of bundle upper-abdomen-simulated"),
        (None, "cannot be read"),
        ("mine", "tune where the reports were signed"),
    ],
)
def test_records_that_are_none_are_one_sentence(text, words, tmp_path):
    records = tmp_path / "r.jsonl"
    if text is not None:
        mine = line(bundle_hash=load_bundle().hash, final="Ascites is present.")
        records.write_text(mine if text == "mine" else text)
    with pytest.raises(UserError, match=words):
        tune_bundle("upper-abdomen-simulated", records, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_the_command_prints_the_gate_and_writes_only_what_passed(tmp_path, monkeypatch):
    """With the stored predictions of a library put in place of three hundred real ones."""
    cases = world()
    bundle = load_bundle()
    known = {
        c: Searchable(embedding={}, findings=[Likelihood(id=f, probability=p) for f, p in chances.items()])
        for c, (_, chances) in cases.items()
    }
    monkeypatch.setattr(workflow.results, "latest_predictions", lambda *_: known.items())
    owner = store.Identity(patient_id="", sex="", birth_date="", study_date="", conflict="")
    monkeypatch.setattr(workflow.store, "identity_of", lambda _, case: owner)
    records = tmp_path / "r.jsonl"

    def told(lines):
        kept = ("case_id", "action", "author", "drafted", "final")
        rows = [line(bundle_hash=bundle.hash, **{k: getattr(x, k) for k in kept}) for x in lines]
        records.write_text("".join(rows))
        return run("upper-abdomen-simulated", "--records", records, "--out", tmp_path / "new")

    poisoned = told(signed(cases, wrong=0.1))
    assert poisoned.exit_code == 1
    assert json.loads(poisoned.stdout)["accepted"] is False
    assert not (tmp_path / "new").exists()
    good = told(signed(cases))
    data = json.loads(good.stdout)
    assert (good.exit_code, data["accepted"], data["readers"]) == (0, True, 3)
    assert data["after"]["f1"] > data["before"]["f1"]
    card = load_bundle(tmp_path / "new").card["tuned"]
    assert card["records_sha256"] == hashlib.sha256(records.read_bytes()).hexdigest()
    assert not any(name in json.dumps(card) for name in ("ann", "Ascites"))
