"""A bundle is what was made, or it is refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner

from medfuse.bundles.bundle import _save_task, load_bundle, set_lesion_peaks
from medfuse.bundles.persons import refuse_persons, telling
from medfuse.bundles.registry import bundle_hash, shipped_folder
from medfuse.bundles.seal import SEAL, check_seal, hashes_of, seal
from medfuse.cli import app
from medfuse.errors import UserError, WrongUse
from medfuse.library import Library, audit
from medfuse.task import load_task
from medfuse.workflows.ask import ask
from medfuse.workflows.report import library_report
from medfuse.workflows.schemas import schemas_json


@pytest.fixture
def copy(tmp_path) -> Path:
    shutil.copytree(shipped_folder() / "breast-ultrasound", tmp_path / "b")
    return tmp_path / "b"


def test_shipped_bundles_are_what_their_seal_says():
    folders = [p.parent for p in shipped_folder().glob("*/*.safetensors")]
    assert len(set(folders)) == 4
    for folder in set(folders):
        assert (folder / SEAL).exists(), folder
        assert set(json.loads((folder / SEAL).read_text())["files"]) == set(hashes_of(folder))
        check_seal(folder)


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("task/templates/en.yaml", "a: b", "is not the file"),
        ("calibration.json", '{"temperature": {"US": 0.1}}', "is not the file"),
        ("card.json", '{"name": "upper-abdomen-simulated"}', "is not the file"),
        ("task/templates/de.yaml", "a: b", "does not belong"),
        ("task/templates/zh-TW.yaml", None, "is missing"),
    ],
)
def test_a_changed_file_is_named(copy, name, content, what):
    if content is None:
        (copy / name).unlink()
    else:
        (copy / name).write_text(content)
    with pytest.raises(UserError, match=f"damaged: {name} {what}"):
        load_bundle(copy)


@pytest.mark.parametrize("kind", ["config", "calibration", "domain", "card", "files"])
def test_shipped_files_fit_their_schemas(kind):
    for path in shipped_folder().glob(f"*/{kind}.json"):
        jsonschema.validate(json.loads(path.read_text()), schemas_json()[kind])


def test_a_bundle_of_an_older_version_loads_and_has_the_same_hash(copy):
    sealed = bundle_hash(copy)
    (copy / SEAL).unlink()
    assert load_bundle(copy).hash == sealed


def test_a_bundle_of_a_newer_version_is_refused(copy):
    made = json.loads((copy / SEAL).read_text())
    (copy / SEAL).write_text(json.dumps({**made, "format": 2, "medfuse": "9.0"}))
    with pytest.raises(UserError, match=r"newer medfuse \(9\.0\)"):
        load_bundle(copy)


@pytest.mark.parametrize(
    ("name", "content", "place"),
    [
        ("config.json", '{"model": {"width": "wide"}, "baseline": {}}', r"model\.width"),
        ("calibration.json", "{}", "temperature"),
        ("domain.json", '{"simulated": true, "modalities": 3, "body_part": ""}', "modalities"),
        ("card.json", '{"summary": "x"}', "name"),
        ("files.json", "[", "files.json"),
    ],
)
def test_a_fault_in_a_file_is_named_with_its_place(copy, name, content, place):
    (copy / SEAL).unlink()
    (copy / name).write_text(content)
    with pytest.raises(UserError, match=place) as e:
        load_bundle(copy)
    assert "\n" not in str(e.value)


def test_what_medfuse_changes_is_sealed_anew(copy):
    before = bundle_hash(copy)
    assert set_lesion_peaks(load_bundle(copy), {"US": 0.7, "CT": None}) == {"US": 0.7}
    again = load_bundle(copy)
    assert again.lesion_peaks == {"US": 0.7}
    assert again.hash != before
    seal(copy)
    check_seal(copy)


def test_what_lies_beside_a_task_does_not_travel_with_a_bundle(tmp_path):
    own = tmp_path / "own"
    shutil.copytree(load_task("upper-abdomen").folder, own)
    (own / "patients.csv").write_text("name\nDOE^JANE\n")
    (own / "templates" / "notes.txt").write_text("DOE")
    task = load_task(str(own / "task.yaml"))
    _save_task(tmp_path / "copy", task)
    there = {
        p.relative_to(tmp_path / "copy").as_posix() for p in (tmp_path / "copy").rglob("*") if p.is_file()
    }
    names = {"task.yaml", "lexicon.yaml", "knowledge.yaml", "templates/en.yaml", "templates/zh-TW.yaml"}
    assert there == names
    copied = load_task(str(tmp_path / "copy" / "task.yaml"))
    assert copied.model_copy(update={"folder": task.folder}) == task


@pytest.fixture
def strange(tmp_path):
    """A bundle that somebody sends."""
    folder = tmp_path / "sent" / "from-them"
    shutil.copytree(shipped_folder() / "breast-ultrasound", folder)
    return folder


def invoked(*words: str):
    return CliRunner().invoke(app, ["bundle", *map(str, words)])


@pytest.mark.attack
def test_an_added_bundle_that_is_changed_is_refused_though_it_is_sealed_anew(strange, home):
    """files.json lies in the bundle: who changes one writes the other."""
    pin = json.loads(invoked("show", strange, "--json").stdout)["sha256"]
    said = invoked("add", strange, "--pin", pin)
    assert said.exit_code == 0, said.output
    assert pin in said.stdout
    assert load_bundle("from-them").path == home / "bundles" / "from-them"
    task = home / "bundles" / "from-them" / "task" / "task.yaml"
    task.write_text(task.read_text() + "\n# changed\n")
    seal(home / "bundles" / "from-them")
    with pytest.raises(UserError, match="not the one that was added"):
        load_bundle("from-them")
    assert invoked("remove", "from-them").exit_code == 0
    assert invoked("add", strange).exit_code == 0
    assert load_bundle("from-them")
    assert [e.event for e in audit.entries(Library(home))] == [
        "bundle added",
        "bundle removed",
        "bundle added",
    ]


@pytest.mark.attack
@pytest.mark.parametrize(
    "harm",
    ["features.pkl", "task/run.py", "weights.bin", "link", ".hidden.json", "another"],
)
def test_a_bundle_with_anything_but_data_is_not_added(strange, home, harm):
    if harm == "another":
        expected = ("--pin", "0" * 64)
    else:
        expected = ()
        if harm == "link":
            (strange / "card2.json").symlink_to("/etc/passwd")
        else:
            (strange / harm).write_bytes(b"cos\nsystem\n(S'id'\ntR.")
    said = invoked("add", strange, *expected)
    assert isinstance(said.exception, UserError), said.output
    assert not list((home / "bundles").glob("*"))


def test_names_of_added_bundles(strange, home):
    for name in ("../out", "a/b", ".."):
        assert isinstance(invoked("add", strange, "--name", name).exception, WrongUse)
    assert invoked("add", strange, "--name", "theirs").exit_code == 0
    assert isinstance(invoked("add", strange, "--name", "theirs").exception, WrongUse)
    rows = json.loads(invoked("list", "--json").stdout)["bundles"]
    assert {r["name"]: bool(r["pin"]) for r in rows}["theirs"]
    assert not next(r for r in rows if r["name"] == "breast-ultrasound")["pin"]
    assert isinstance(invoked("remove", "breast-ultrasound").exception, WrongUse)


def test_the_files_of_an_added_bundle_are_read_once_for_pin_and_seal(strange, home, monkeypatch):
    from medfuse.bundles import pins
    from medfuse.bundles import seal as seals

    assert invoked("add", strange).exit_code == 0
    asked = []

    def counted(folder):
        asked.append(folder)
        return hashes_of(folder)

    monkeypatch.setattr(pins, "hashes_of", counted)
    monkeypatch.setattr(seals, "hashes_of", counted)
    load_bundle("from-them")
    assert len(asked) == 1


def test_a_bundle_that_was_renamed_still_reports_what_it_predicted(viewer_library, tmp_path, monkeypatch):
    """`report`, `ask` and `dictate` looked for the old name alone, and ended."""
    home, _, case = viewer_library
    shutil.copytree(home, tmp_path / "home", dirs_exist_ok=True)
    monkeypatch.setenv("MEDFUSE_HOME", str(tmp_path / "home"))
    own = tmp_path / "home" / "bundles" / "of-last-year"
    shutil.copytree(shipped_folder() / "upper-abdomen-simulated", own)
    monkeypatch.setattr("medfuse.bundles.registry.shipped_folder", lambda: tmp_path / "none")
    report = library_report(case.case_id, "zh-TW")
    assert report.language == "zh-TW"
    assert ask(case.case_id, "Is there ascites?").answer
    shutil.rmtree(own)
    with pytest.raises(WrongUse, match=r"predicted this and is not here under any name; add its folder"):
        library_report(case.case_id, "zh-TW")


@pytest.mark.attack
def test_no_id_of_a_cohort_travels_in_a_bundle(copy, tmp_path):
    """A tokeniser learns the words of reports, and a task's templates may hold anything."""
    ids = telling(["MRN-0042", "p1", "liver", "2.25.77"])
    assert ids == {"MRN-0042", "2.25.77"}
    refuse_persons(copy, ids)
    (copy / "tokenizer.json").write_text(json.dumps({"vocab": {"cyst": 0, "MRN-0042": 1}}))
    with pytest.raises(UserError, match=r"^tokenizer\.json of the bundle would hold the ids of 1 patients"):
        refuse_persons(copy, ids)
