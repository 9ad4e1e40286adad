"""`medfuse cohort build --recipe`: any folder of images and tables, each file and row with its line."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml
from conftest import SHARED
from house import ROOT
from PIL import Image
from typer.testing import CliRunner

from medfuse.cli import app
from medfuse.cohort.named import NamePattern
from medfuse.cohort.recipe import LabelRule, read_recipe, same
from medfuse.errors import UserError, WrongUse
from medfuse.io.manifest import read_manifest
from medfuse.task import load_task

RECIPES = ROOT / "docs" / "recipes"
TASK = {
    "name": "lumps",
    "title": {"en": "Lumps"},
    "body_part": "breast",
    "modalities": {
        "US": {
            "size": 32,
            "frames": 1,
            "filters": 8,
            "intensity": {"kind": "byte", "centre": 60, "width": 60},
        }
    },
    "further": ["LABS", "TEXT"],
    "findings": [
        {"id": name, "group": "other", "modalities": ["US"], "name": {"en": name}}
        for name in ("lump", "cyst")
    ],
}
RECIPE = {
    "case": "{patient}",
    "patient": "{patient}",
    "files": [{"path": "{kind}/{patient}_{view}.png", "modality": "US", "role": "still"}],
    "tables": [
        {
            "path": "known.csv",
            "match": {"who": "No. {patient}"},
            "unknown": [-99],
            "labels": {"lump": {"from": "grade", "at_least": 2}, "cyst": {"from": "cyst", "present": [True]}},
            "labs": [{"from": "crp", "loinc": "1988-5", "unit": "mg/L", "date": "day"}],
            "indication": [{"from": "pain", "present": [1], "say": "pain"}, {"from": "note"}],
        }
    ],
    "ignore": ["{any}.md", "old/"],
}
KNOWN = """who;grade;cyst;crp;day;pain;note
No. P1;2;yes;4.5;2024-01-31;1;
No. P2;0.0;maybe;-99.0;;0;felt
P3;1;no;3;;;
No. P9;1;no;3;;;
No. P4;high;no;much;;;
"""


@pytest.fixture
def place(tmp_path):
    """Four patients with five pictures, a table, a recipe and a task."""
    folder = tmp_path / "set"
    rng = np.random.default_rng(0)
    for name in ("left/P1_a", "left/P1_b", "right/P2_a", "right/P3_a", "left/P4_a", "old/P7_a"):
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (40, 40), np.uint8)).save(path)
    (folder / "known.csv").write_text(KNOWN)
    (folder / "README.md").write_text("read me")
    (folder / "odd.txt").write_text("what is this")
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(TASK))
    return folder


def build(place, recipe=None, *more):
    out = place.parent / "cohort"
    (place.parent / "recipe.yaml").write_text(yaml.safe_dump(recipe or RECIPE))
    words = ["cohort", "build", place, "--recipe", place.parent / "recipe.yaml", "--out", out, "--json"]
    done = CliRunner().invoke(app, [*map(str, words), "--task", str(place.parent / "task.yaml"), *more])
    return done, out


def ledger(out):
    with (out / "ledger.csv").open(newline="", encoding="utf-8-sig") as f:
        return {line["id"]: line for line in csv.DictReader(f)}


def test_every_file_and_every_row_has_its_line(place):
    done, out = build(place)
    assert done.exit_code == 3, done.output
    found = json.loads(done.stdout)
    assert found["files"] == {"ignored": 2, "linked": 4, "refused": 1, "unresolved": 2}
    assert found["rows"] == {"linked": 3, "refused": 1, "unresolved": 1}
    lines = ledger(out)
    assert len(lines) == 9 + 5
    assert lines["odd.txt"]["reason"] == "no pattern of the recipe takes it"
    assert lines["known.csv:4"]["reason"] == "who is 'P3', not of the form No. {patient}"
    assert lines["known.csv:5"]["reason"] == "no image in the folder is of patient P9"
    assert "grade is 'high', no number" in lines["known.csv:6"]["reason"]
    assert "crp is 'much', no number" in lines["known.csv:6"]["reason"]
    assert lines["right/P3_a.png"]["reason"] == "its case P3 has no label of the task and no label map"
    done = CliRunner().invoke(app, ["cohort", "status", str(out), "--json"])
    assert done.exit_code == 0
    assert json.loads(done.stdout)["adds_up"]
    assert "Files and rows" in (out / "cohort.html").read_text()


def test_a_case_has_its_images_labels_values_and_words(place):
    _, out = build(place)
    rows = {r.case_id: r for r in read_manifest(out / "manifest.jsonl")}
    assert list(rows) == ["P1", "P2"]
    assert rows["P1"].labels == {"lump": 1, "cyst": 1}
    assert [Path(i.path).name for i in rows["P1"].images] == ["P1_a.png", "P1_b.png"]
    assert [(v.loinc, v.value, v.unit, v.date) for v in rows["P1"].labs] == [
        ("1988-5", 4.5, "mg/L", "2024-01-31")
    ]
    assert rows["P1"].indication == "pain"
    assert rows["P2"].labels == {"lump": 0}
    assert rows["P2"].labs == []
    assert rows["P2"].indication == "felt"
    assert rows["P1"].label_source["lump"].report == "known.csv:2"
    assert "neither present nor absent" in ledger(out)["known.csv:3"]["reason"]
    checked = CliRunner().invoke(
        app, ["train", str(place.parent / "task.yaml"), "--manifest", str(out / "manifest.jsonl"), "--check"]
    )
    assert "misspelt" not in checked.output
    assert "does not exist" not in checked.output


def test_rows_that_contradict_each_other_leave_a_label_unknown(place):
    (place / "known.csv").write_text(KNOWN + "No. P1;0;yes;;;;\n")
    _, out = build(place)
    rows = {r.case_id: r for r in read_manifest(out / "manifest.jsonl")}
    assert rows["P1"].labels == {"lump": None, "cyst": 1}
    assert "lump of case P1 is another than by known.csv:2" in ledger(out)["known.csv:7"]["reason"]


def test_the_same_file_under_two_patients_is_one_group(place):
    shutil.copyfile(place / "left/P1_a.png", place / "right/P2_b.png")
    _, out = build(place)
    groups = {r.case_id: r.group for r in read_manifest(out / "manifest.jsonl")}
    assert groups["P1"] == groups["P2"]
    assert json.loads((out / "cohort.json").read_text())["twins"] == [["P1", "P2"]]


def test_links_that_lead_out_are_refused_by_name(place):
    (place.parent / "secret.png").write_bytes((place / "left/P1_a.png").read_bytes())
    os.symlink(place.parent / "secret.png", place / "left" / "P1_c.png")
    os.symlink(place.parent, place / "up")
    _, out = build(place)
    lines = ledger(out)
    assert lines["left/P1_c.png"]["reason"] == "a link that leads out of the folder"
    assert lines["up"]["reason"] == "a link to a folder is not followed"


def test_masks_sidecars_folders_and_kinds_from_a_table(tmp_path):
    folder = tmp_path / "set"
    for name in ("a/PET", "a/PET_mask", "b/PET"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(np.ones((4, 4, 4), np.int16), np.eye(4)), folder / f"{name}.nii.gz")
    (folder / "a" / "slices").mkdir()
    (folder / "a" / "slices" / "1.dcm").write_bytes(b"DICM")
    (folder / "kinds.json").write_text(
        json.dumps([{"who": n, "about": {"kind": k}} for n, k in (("a", "Magnet"), ("b", "?"))])
    )
    (tmp_path / "recipe.yaml").write_text(
        """
case: "{p}"
patient: "{p}"
files:
  - {path: "{p}/PET.nii.gz", mask: "{p}/PET_mask.nii.gz", modality: PET, frame: "{p}",
     says: {Units: SUVbw}, labels: {soft_tissue_mass: 1}}
  - {path: "{p}/slices/"}
tables:
  - {path: kinds.json, match: {who: "{p}"}, modality: {from: about.kind, values: {Magnet: MR, X: CT}}}
"""
    )
    out = tmp_path / "cohort"
    words = [
        "build",
        folder,
        "--recipe",
        tmp_path / "recipe.yaml",
        "--task",
        "soft-tissue-mass",
        "--out",
        out,
    ]
    done = CliRunner().invoke(app, ["cohort", *map(str, words)])
    assert done.exit_code == 0, done.output
    a, b = read_manifest(out / "manifest.jsonl")
    pet, slices = a.images
    assert (pet.path, pet.mask, pet.modality) == ("images/a/PET.nii.gz", "images/a/PET_mask.nii.gz", "PT")
    assert json.loads((out / "images/a/PET.json").read_text()) == {"Modality": "PT", "Units": "SUVbw"}
    assert (slices.modality, Path(slices.path).name) == ("MR", "slices")
    lines = ledger(out)
    assert lines["a/slices/1.dcm"]["linked_to"] == "a"
    assert lines["b/PET.nii.gz"]["reason"] == "it has no mask b/PET_mask.nii.gz"
    assert "names no modality" in lines["kinds.json:2"]["reason"]
    assert b.images[0].mask == ""
    os.replace(folder / "b" / "PET.nii.gz", folder / "a" / "PET.nii.gz")  # corrected since
    newer = (folder / "a" / "PET.nii.gz").stat().st_ino
    CliRunner().invoke(app, ["cohort", *map(str, words), "--out", str(out)])
    assert (out / "images/a/PET.nii.gz").stat().st_ino == newer


@pytest.mark.parametrize(
    ("pattern", "name", "said"),
    [
        ("{p}_{v}.png", "P1_a.png", {"p": "P1", "v": "a"}),
        ("{p}_CT.nii.gz", "STS_001_CT.nii.gz", {"p": "STS_001"}),
        ("{p}/{p}_{v}.png", "a_b/a_b_c.png", {"p": "a_b", "v": "c"}),
        ("{p}/{p}_{v}.png", "a/b_c.png", None),
        ("{any}/{p}.{any}", "x/1.png", {"p": "1"}),
        ("{p}.png", "a/b.png", None),
        ("{p}.png", ".png", None),
        ("{p}", "", None),
        ("a{p}a", "aa", None),
        ("scan", "scan", {}),
    ],
)
def test_what_a_pattern_takes(pattern, name, said):
    assert NamePattern.of(pattern).match(name) == said


def test_a_pattern_takes_time_in_proportion():
    pattern = NamePattern.of("a".join(f"{{f{n}}}" for n in range(12)) + "b")
    assert pattern.match("a" * 200_000) is None


@pytest.mark.parametrize(
    "pattern", ["", "/etc/{p}", "../{p}.png", "a/./b", "a//b", "{p}{q}", "{P}", "{p", "p}", "a\\b", "x" * 500]
)
def test_a_pattern_that_leads_elsewhere_or_nowhere_is_refused(pattern):
    with pytest.raises(ValueError, match=r"pattern"):
        NamePattern.of(pattern)


def test_cells_are_compared_as_words_and_numbers():
    assert same(" Yes ", True)
    assert same("-99.0", -99)
    assert not same("", 0)
    assert LabelRule.model_validate({"from": "x", "likely": True}).value("0.4") == 0.4


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"case": "{who}"}, "needs the field who"),
        ({"colour": "red"}, "colour"),
        ({"files": []}, "files"),
        ({"files": [{"path": "../{patient}.png"}]}, "lead nowhere"),
        ({"tables": [{"path": "known.csv", "match": {}}]}, "match"),
        ({"tables": [{**RECIPE["tables"][0], "labels": {"lumps": {"from": "x", "present": [1]}}}]}, "lumps"),
        ({"tables": [{**RECIPE["tables"][0], "labels": {"lump": {"from": "x"}}}]}, "present, absent"),
        ({"tables": [{**RECIPE["tables"][0], "path": "gone.csv"}]}, "gone.csv: no such table"),
        ({"tables": [{**RECIPE["tables"][0], "match": {"whom": "{patient}"}}]}, "whom"),
    ],
)
def test_a_recipe_that_does_not_fit_is_one_sentence(place, change, sentence):
    done, _ = build(place, {**RECIPE, **change})
    assert isinstance(done.exception, UserError)
    assert sentence in str(done.exception)
    assert "\n" not in str(done.exception)


def test_either_reports_or_a_recipe(place):
    done = CliRunner().invoke(app, ["cohort", "build", str(place), "--task", "x", "--out", str(place / "o")])
    assert isinstance(done.exception, WrongUse)
    done, _ = build(place, None, "--reports", str(place / "known.csv"))
    assert isinstance(done.exception, WrongUse)


def test_a_table_that_is_none_is_one_sentence(place):
    for text in ("who;grade\n", '"who;grade;cyst;crp;day;pain;note\n', "\0\0"):
        (place / "known.csv").write_text(text)
        done, _ = build(place)
        assert isinstance(done.exception, UserError), text
        assert "known.csv" in str(done.exception)


def test_the_recipes_of_the_tutorial_are_those_in_its_folder():
    page = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    for path in RECIPES.glob("*.yaml"):
        assert f"recipes/{path.name}" in page
    for name in ("covid_blues.yaml", "lung_ultrasound.yaml"):
        assert (RECIPES / name).read_text(encoding="utf-8") in page


@pytest.mark.shared
@pytest.mark.parametrize(
    ("cohort", "recipe", "task", "cases"),
    [
        ("covid_blues", "covid_blues.yaml", "lung_ultrasound.yaml", 97),
        ("sts_ct_mr_pet", "soft_tissue_sarcoma.yaml", "soft-tissue-mass", 40),
    ],
)
def test_real_cohorts_become_one_by_their_recipes(cohort, recipe, task, cases, tmp_path):
    folder = SHARED / "cohorts" / cohort
    asked = str(RECIPES / task) if task.endswith(".yaml") else task
    read_recipe(RECIPES / recipe, load_task(asked))
    words = [folder, "--recipe", RECIPES / recipe, "--task", asked, "--out", tmp_path / "cohort", "--json"]
    done = CliRunner().invoke(app, ["cohort", "build", *map(str, words)])
    found = json.loads(done.stdout)
    assert found["cases"] == cases
    assert "refused" not in {**found["files"], **found["rows"]}
    rows = read_manifest(tmp_path / "cohort" / "manifest.jsonl")
    assert len({r.patient_id for r in rows}) == {"covid_blues": 49, "sts_ct_mr_pet": 40}[cohort]
