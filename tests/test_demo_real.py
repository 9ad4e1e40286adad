"""`medfuse demo --real`: a copy of the public soft-tissue sarcoma set through the user's way, with the bundle
of real patients that is shipped."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import nibabel as nib
import numpy as np
import pytest
from test_cli import run

from medfuse.bundles.bundle import choose_bundle, load_bundle
from medfuse.bundles.registry import shipped_folder
from medfuse.io.read import open_case
from medfuse.workflows.demo_real import REAL, chosen
from medfuse.workflows.schemas import schemas_json

MM = 4.0


@pytest.fixture
def cli(monkeypatch, capsys):
    return lambda *args: run(monkeypatch, capsys, *args)


def _set(folder: Path, *patients: str) -> Path:
    """MADE UP, laid out as the public set: a ball of tumour in a limb of muscle, fat around it."""
    rng = np.random.default_rng(0)
    home = folder / "nifti"
    home.mkdir(parents=True)
    at = np.indices((34, 34, 34)) - 16.5
    ball = np.linalg.norm(at, axis=0) * MM <= 32
    limb = np.linalg.norm(at[:2], axis=0) * MM <= 55
    worth = {"CT": (-100, 55, 35), "MR_T1": (1.0, 0.45, 0.4), "PET": (0.1, 0.6, 6.0)}
    for patient in patients:
        for sensor, (fat, muscle, tumour) in worth.items():
            values = np.where(ball, tumour, np.where(limb, muscle, fat))
            values = values + rng.normal(0, 0.03 * abs(tumour), values.shape)
            for end, x in (("", values.astype(np.float32)), ("_mask", ball.astype(np.uint8))):
                image = nib.Nifti1Image(x, np.diag([MM, MM, MM, 1]))
                nib.save(image, home / f"{patient}_{sensor}{end}.nii.gz")
    return folder


def test_patients_that_the_bundle_did_not_learn_from_come_first(tmp_path):
    copy = _set(tmp_path / "set", "STS_001", "STS_003", "STS_004")
    assert chosen(copy, 2) == ([], ["STS_003", "STS_004"])
    (copy / "dicom" / "STS_003").mkdir(parents=True)
    assert chosen(copy, 2) == (["STS_003"], ["STS_004"])
    assert chosen(copy, 9) == (["STS_003"], ["STS_004", "STS_001"])


def test_a_copy_of_the_set_goes_the_users_way(cli, tmp_path):
    copy = _set(tmp_path / "set", "STS_001", "STS_004")
    out = tmp_path / "d"
    code, printed, err = cli("demo", "--real", copy, "--out", out, "--cases", 1, "--no-viewer", "--json")
    assert code == 0, err
    assert "STS_004 as NIfTI: the bundle was calibrated on this patient" in err
    data = json.loads(printed)
    assert data["bundle"] == REAL
    (case,) = data["cases"]
    assert case["modalities"] == ["CT", "MR", "PT"]
    folder = Path(case["folder"])
    prediction = json.loads((folder / "prediction.json").read_text())
    jsonschema.validate(prediction, schemas_json()["prediction"])
    assert not prediction["simulated"]
    assert "Known soft-tissue mass." in (folder / "report.txt").read_text()
    code, printed, _ = cli("cases", "--json")
    assert [c["case_id"] for c in json.loads(printed)["cases"]] == [case["case_id"]]
    code, _, err = cli("predict", case["case_id"], "--out", tmp_path / "again")  # the mass stays known
    assert code == 0, err
    again = json.loads((tmp_path / "again" / case["case_id"] / "prediction.json").read_text())
    assert again["bundle"] == REAL


def test_another_folder_is_refused_in_one_sentence_and_takes_nothing_away(cli, tmp_path):
    out = tmp_path / "d"
    (out / "results").mkdir(parents=True)
    (tmp_path / "set" / "nifti").mkdir(parents=True)
    for folder, why in ((tmp_path, "no copy of the public"), (tmp_path / "set", "no file is called STS_001")):
        code, _, err = cli("demo", "--real", folder, "--out", out, "--no-viewer")
        assert code != 0
        assert why in err
        assert "Traceback" not in err
        assert len(err.strip().splitlines()) == 1
    assert [p.name for p in out.iterdir()] == ["results"]


def test_a_bundle_around_a_known_thing_is_named_and_never_chosen(tmp_path):
    home = _set(tmp_path, "STS_001") / "nifti"
    case = open_case({m: [home / f"STS_001_{s}.nii.gz"] for m, s in (("CT", "CT"), ("MR", "MR_T1"))})
    mass = load_bundle(REAL)
    assert all(mass.domain.holds(i)[0] for i in case.images)
    assert choose_bundle(case, load_bundle()).name == "upper-abdomen-simulated"
    assert choose_bundle(case, mass) is mass


def test_the_bundle_says_where_it_comes_from_and_what_is_not_shown():
    folder = shipped_folder() / REAL
    assert sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) < 8e6
    card = json.loads((folder / "card.json").read_text())
    text = (folder / "MODEL_CARD.md").read_text()
    for part in ("CC BY 3.0", "10.7937/K9/TCIA.2015.7GO2GSKS", "28 train, 12 validation", "not shown"):
        assert part in text
    assert "known mass" in card["limits"]
    domain = load_bundle(REAL).domain
    assert not domain.simulated
    assert set(domain.extent_mm) == {"CT", "MR", "PT"}
    assert "EXTREMITY" in domain.body_parts


@pytest.mark.shared
def test_a_real_patient_gets_a_draft_of_all_sensors_together(cli, shared, tmp_path):
    copy = shared / "cohorts" / "sts_ct_mr_pet"
    code, printed, err = cli(
        "demo", "--real", copy, "--out", tmp_path / "d", "--cases", 2, "--no-viewer", "--json"
    )
    assert code == 0, err
    for case in json.loads(printed)["cases"]:
        folder = Path(case["folder"])
        prediction = json.loads((folder / "prediction.json").read_text())
        assert prediction["in_domain"]
        assert prediction["together"][0]["modalities"] == ["CT", "MR", "PT"]
        text = (folder / "report.txt").read_text()
        assert ", from CT, MRI, PET together" in text
        for part in ("SUVmax", "SUVpeak", "total lesion glycolysis", "mean density on CT", "The sensors"):
            assert part in text
        assert (folder / "report.pdf").stat().st_size > 10_000
        assert (folder / "overlays" / "lesion_together-1.png").exists()
