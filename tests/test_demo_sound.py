"""`medfuse demo` finds a patient's picture by a sound: the sense that comes with medfuse, what it finds, and
that nothing else knows of it."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from test_report import TASK, prediction

from medfuse.bundles.beside import load_beside, shipped_beside
from medfuse.bundles.bundle import load_bundle
from medfuse.bundles.registry import list_bundles
from medfuse.bundles.seal import hashes_of
from medfuse.errors import UserError
from medfuse.io.manifest import read_manifest
from medfuse.simulation.patient import Variant
from medfuse.simulation.population import write_population
from medfuse.task import load_task
from medfuse.workflows import bind as workflow
from medfuse.workflows.bind import bind
from medfuse.workflows.demo_sound import find_by_sound, sound_of_demo, sounds_of_demo

FOLDER = shipped_beside("upper-abdomen-simulated", "AUDIO")


@pytest.fixture(scope="module")
def heard(tmp_path_factory):
    """Twelve patients of a stream that no training used, without an image."""
    out = tmp_path_factory.mktemp("heard")
    return write_population(out, cases=12, seed=515, file_format="sounds", variant=Variant(sounds="only"))


def known(labels):
    """A prediction that is as sure of the truth as one may be."""
    return prediction({name: 0.97 if there else 0.03 for name, there in labels.items()})


def test_what_comes_with_medfuse_is_small_sealed_and_no_bundle():
    assert sum(p.stat().st_size for p in FOLDER.rglob("*")) < 1e6
    sense = load_beside(FOLDER, TASK)
    assert sense.file.simulated
    assert list(sense.file.prior) == [f.id for f in TASK.findings]
    assert "senses" not in {p.name for p in list_bundles()}
    assert not (load_bundle().path / "bound").exists()


def test_a_damaged_sense_and_one_of_another_task_are_one_sentence(tmp_path):
    with pytest.raises(UserError, match="other findings than task breast"):
        load_beside(FOLDER, load_task("breast-ultrasound"))
    copy = tmp_path / "copy"
    shutil.copytree(FOLDER, copy)
    data = (copy / "weights.safetensors").read_bytes()
    (copy / "weights.safetensors").write_bytes(data[:-1] + b"x")
    with pytest.raises(UserError, match="damaged"):
        load_beside(copy, TASK)


def test_sounds_find_who_they_are_of(heard):
    """Places among twelve: 6.5 on the mean by guessing; equals of the right one are many, as most of what is
    found in a liver is not heard."""
    bundle = load_bundle()
    sense = sounds_of_demo(bundle)
    rows = read_manifest(heard)
    cases = {r.case_id: known(r.labels) for r in rows}
    places = []
    for r in rows:
        ranked = find_by_sound(sense, bundle, [heard.parent / p for p in r.sounds], cases)
        assert sorted(ranked) == sorted(cases)
        places.append(ranked.index(r.case_id) + 1)
    assert np.mean(places) < 5
    assert places.count(1) > 1


def test_the_demo_says_what_it_found_right_or_wrong(heard, tmp_path):
    bundle = load_bundle()
    rows = read_manifest(heard)[:3]
    folders = {}
    for r in rows:
        name = r.case_id.replace("SIM-515", "SIM-7") + "-0123456789"
        folders[name] = tmp_path / "results" / name
        (folders[name] / "overlays").mkdir(parents=True)
        (folders[name] / "overlays" / "view_CT.png").write_bytes(b"")
        (folders[name] / "prediction.json").write_text(known(r.labels).model_dump_json())
    found = sound_of_demo(bundle, tmp_path, seed=7, folders=folders)
    assert found.files[0].endswith(f"{found.patient}/doppler_portal_vein_SIMULATED.wav")
    assert found.ranked[found.place - 1].startswith(found.patient)
    assert ("the right patient (" in found.sentence) == (found.place == 1)
    assert "simulated" in found.sentence
    assert found.picture.endswith("view_CT.png")
    (first, *_) = folders
    assert sound_of_demo(bundle, tmp_path, seed=7, folders={first: folders[first]}) is None


def test_a_bound_sound_leaves_every_other_file_as_it_is(heard, tmp_path, monkeypatch):
    monkeypatch.setattr(workflow, "FEWEST", 2)
    made = bind("upper-abdomen-simulated", "AUDIO", heard, tmp_path / "with-sounds", minutes=0.05)
    before = hashes_of(load_bundle().path)
    after = hashes_of(load_bundle(f"{made.bundle}/").path)
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    assert changed == {"card.json", "bound/config.json", "bound/weights.safetensors"}
    assert made.space.matrix["AUDIO->claims"].trained
