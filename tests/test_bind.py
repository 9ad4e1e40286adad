"""`medfuse bind`: a sense is added through claims, nothing else changes, and it finds the other senses."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from medfuse.bundles.bound import bound_copy, bound_temperatures, load_bound
from medfuse.bundles.bundle import load_bundle
from medfuse.bundles.seal import hashes_of
from medfuse.errors import UserError, WrongUse
from medfuse.evaluation.space import space_of_bundle
from medfuse.io.manifest import ManifestRow
from medfuse.models.feature_set import FeatureSet, label_matrix
from medfuse.models.features import CaseFeatures
from medfuse.models.senses import add_senses
from medfuse.simulation.anatomy import draw_anatomy
from medfuse.simulation.labs import draw_labs
from medfuse.simulation.patient import labels_of
from medfuse.training.budget import Budget
from medfuse.training.checkpoint import Resume
from medfuse.training.identity import Identity
from medfuse.training.stages.bind import BindStage, SensedCases, bind_sense
from medfuse.workflows import bind as workflow
from medfuse.workflows.bind import bind


def row(n: int, split: str) -> ManifestRow:
    """A simulated patient's laboratory values and findings; no image is made."""
    anatomy = draw_anatomy(np.random.default_rng(n))
    labs = draw_labs(np.random.default_rng(10_000 + n), anatomy.findings)
    return ManifestRow(case_id=f"c{n}", split=split, simulated=True, labels=labels_of(anatomy), labs=labs)


def patients(count: int, start: int = 0) -> list[ManifestRow]:
    return [row(start + n, "val" if n % 4 == 3 else "train") for n in range(count)]


@pytest.fixture(scope="module")
def rows():
    return patients(240)


@pytest.fixture(scope="module")
def bound(rows, tmp_path_factory):
    """LABS bound to the shipped bundle; the cases hold no image."""
    folder = tmp_path_factory.mktemp("bind")
    manifest = folder / "manifest.jsonl"
    manifest.write_text("".join(r.model_dump_json() + "\n" for r in rows))
    return bind("upper-abdomen-simulated", "labs", manifest, folder / "with-labs", minutes=1)


def test_everything_else_stays_byte_for_byte(bound):
    before = hashes_of(load_bundle().path)
    after = hashes_of(load_bundle(f"{bound.bundle}/").path)
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    assert changed == {"card.json", "bound/config.json", "bound/weights.safetensors"}
    card = json.loads((load_bundle(f"{bound.bundle}/").path / "card.json").read_text())
    assert card["bound"]["LABS"]["cases"] == bound.train


def test_labs_find_what_they_tell_of_and_claims_they_were_never_shown_with(bound, rows):
    """Iron and steatosis move laboratory values: cases of new patients find their claims above chance."""
    bundle = load_bundle(f"{bound.bundle}/")
    late = patients(160, start=5000)
    cases = []
    for r in late:
        case = CaseFeatures()
        add_senses(case, ("LABS",), r)
        cases.append(case)
    data = FeatureSet([r.case_id for r in late], cases, label_matrix(bundle.task, late), [""] * len(late))
    found = space_of_bundle(bundle, data)
    pair = found.matrix["LABS->claims"]
    assert pair.trained
    assert pair.by == "claims"
    assert pair.r10 > 1.5 * found.chance[str(pair.n)]["r10"]
    assert not any(row.trained for name, row in found.matrix.items() if "claims" not in name)
    # a sense that no case has is in no pair
    assert not any("CT" in name for name in found.matrix)


def test_the_result_says_what_was_found_beside_chance(bound):
    said = bound.as_json()
    assert said["sense"] == "LABS"
    assert set(said) == {"sense", "bundle", "pairs", "chance", "train", "scored", "refused"}
    assert said["refused"] == []
    assert said["scored"] == 60
    assert said["pairs"]["claims->LABS"]["n"] <= 60
    assert said["chance"][str(said["pairs"]["claims->LABS"]["n"])]["r10"] < 0.2


def test_a_stopped_binding_ends_as_one_that_was_not(rows, tmp_path, monkeypatch):
    task = load_bundle().task
    train, val = (
        workflow._sensed(load_bundle(), "LABS", [r for r in rows if r.split == s]) for s in ("train", "val")
    )
    assert len(task.findings) == train.labels.shape[1]

    def run(steps, resume=None):
        return bind_sense("LABS", train, val, seed=1, budget=Budget(steps=steps), resume=resume)

    whole = run(6)
    resume = Resume(tmp_path / "bind.resume", Identity.of({"a": 1}), every_s=0)
    loss = BindStage.loss

    def stops(self, batch, step):
        if step == 3:
            raise KeyboardInterrupt
        return loss(self, batch, step)

    with monkeypatch.context() as patch:
        patch.setattr(BindStage, "loss", stops)
        with pytest.raises(KeyboardInterrupt):
            run(6, resume)
    again = run(6, Resume(tmp_path / "bind.resume", Identity.of({"a": 1}), every_s=0))
    for a, b in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("sense", "fault"), [("SMELL", "there is no such sense"), ("CT", "there is no such sense")]
)
def test_a_sense_that_is_none_is_one_sentence(sense, fault, tmp_path):
    with pytest.raises(WrongUse, match=fault) as e:
        bind("upper-abdomen-simulated", sense, tmp_path / "m.jsonl", tmp_path / "out")
    assert e.value.exit_code == 2


def test_a_sense_is_not_bound_twice_and_not_without_cases(bound, tmp_path):
    with pytest.raises(WrongUse, match="has it already"):
        bind(f"{bound.bundle}/", "LABS", tmp_path / "m.jsonl", tmp_path / "out")
    manifest = tmp_path / "m.jsonl"
    manifest.write_text(ManifestRow(case_id="a", split="train").model_dump_json() + "\n")
    with pytest.raises(UserError, match="0 cases of split train have AUDIO"):
        bind("upper-abdomen-simulated", "AUDIO", manifest, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_two_senses_lie_beside_each_other(bound, tmp_path):
    """A second one keeps the first as it is."""
    bundle = load_bundle(f"{bound.bundle}/")
    labels = torch.randint(0, 2, (40, len(bundle.task.findings)))
    cases = []
    for n in range(40):
        case = CaseFeatures()
        add_senses(case, ("TEXT",), ManifestRow(case_id=f"{n}", indication="abdominal pain"))
        cases.append(case)
    made = bind_sense("TEXT", *[SensedCases(cases, labels)] * 2, seed=1, budget=Budget(steps=2))
    bound_copy(bundle, tmp_path / "two", made.model, made.temperature, {})
    two = load_bundle(tmp_path / "two")
    assert set(bound_temperatures(two)) == {"LABS", "TEXT"}
    first, again = load_bound(bundle)["LABS"].state_dict(), load_bound(two)["LABS"].state_dict()
    assert all(torch.equal(first[k], again[k]) for k in first)
