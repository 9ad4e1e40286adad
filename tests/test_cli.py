"""Every command as a user runs it: contracts, exit codes, and one sentence for bad input."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import jsonschema
import nibabel as nib
import numpy as np
import pytest
from slices import write_slice, write_stack

from medfuse.__main__ import main
from medfuse.library import Library, store
from medfuse.workflows.schemas import schemas_json


def run(monkeypatch, capsys, *args) -> tuple[int, str, str]:
    """Run the command in this process; returns exit code, stdout, stderr."""
    monkeypatch.setattr(sys, "argv", ["medfuse", *[str(a) for a in args]])
    try:
        main()
        code = 0
    except SystemExit as e:
        code = int(e.code or 0)
    out = capsys.readouterr()
    assert "Traceback" not in out.err
    return code, out.out, out.err


@pytest.fixture
def cli(monkeypatch, capsys):
    return lambda *args: run(monkeypatch, capsys, *args)


def test_a_program_starts_without_what_it_does_not_need():
    """A node that only receives starts without torch; MONAI without what its other nets would bring; a batch
    and its workers without what registrations and reports take."""
    said = {
        "medfuse.network.service": ("torch", "monai", "dask"),
        "medfuse.models.encoders": ("transformers", "sklearn", "pandas", "matplotlib", "scipy.signal"),
        "medfuse.batch.run": ("SimpleITK", "highdicom", "scipy.stats", "scipy.signal"),
    }
    for module, heavy in said.items():
        code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]", module


def test_help_does_not_import_the_heavy_ones():
    code = (
        "import sys; sys.argv=['medfuse','--help']\nfrom medfuse.__main__ import main\ntry: main()\nexcept "
        "SystemExit: pass\n"
    )
    code += (
        "heavy=[m for m in ('torch','monai','numpy','pydicom') if m in sys.modules]; print(heavy, "
        "file=sys.stderr)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stderr.strip() == "[]"
    for command in (
        "demo",
        "simulate",
        "ingest",
        "cases",
        "predict",
        "report",
        "train",
        "evaluate",
        "view",
        "info",
    ):
        assert command in out.stdout


def test_demo_goes_the_users_way(cli, tmp_path):
    code, out, err = cli("demo", "--out", tmp_path / "d", "--cases", 1, "--seed", 11, "--no-viewer", "--json")
    assert code == 0, err
    data = json.loads(out)
    (case,) = data["cases"]
    assert case["modalities"] == ["US", "CT", "MR"]
    assert case["seconds"] > 0
    folder = tmp_path / "d" / "results" / case["case_id"]
    assert str(folder) == case["folder"]
    prediction = json.loads((folder / "prediction.json").read_text())
    jsonschema.validate(prediction, schemas_json()["prediction"])
    jsonschema.validate(json.loads((folder / "report.json").read_text()), schemas_json()["report"])
    text = (folder / "report.txt").read_text()
    assert "not for clinical use" in text
    assert "Simulated patient" in text
    assert prediction["in_domain"]
    assert prediction["simulated"]
    assert list((folder / "overlays").glob("*.png"))
    assert not list((tmp_path / "d" / "dicom").glob("manifest*"))
    # contributions add up from the score without any image to the score shown
    for f in prediction["findings"]:
        total = prediction["baseline_probability"][f["id"]] + sum(f["contribution"].values())
        assert total == pytest.approx(f["probability"], abs=2e-3)
    code, out, _ = cli("cases", "--json")
    assert [c["case_id"] for c in json.loads(out)["cases"]] == [case["case_id"]]
    known = json.loads(out)["cases"][0]
    assert known["state"] == "drafted"
    assert known["study_uids"]
    assert "accession" in known
    code, out, _ = cli("report", case["case_id"])
    assert code == 0
    assert "IMPRESSION" in out
    code, out, _ = cli("report", case["case_id"], "--format", "json", "--language", "zh-TW")
    assert json.loads(out)["language"] == "zh-TW"
    # same inputs, same bytes
    before = (folder / "prediction.json").read_bytes()
    code, out, _ = cli("predict", case["case_id"], "--out", tmp_path / "again", "--json")
    assert code == 0
    assert (tmp_path / "again" / case["case_id"] / "prediction.json").read_bytes() == before


def test_predict_contract_on_a_folder(cli, patient_dicom, tmp_path, home):
    code, out, err = cli("predict", patient_dicom, "--out", tmp_path / "o", "--json")
    assert code == 0, err
    data = json.loads(out)
    assert set(data) >= {"case_id", "modalities", "images", "findings", "lesions", "files", "refused"}
    assert set(data["modalities"]) == {"US", "CT", "MR"}
    assert all(i["in_domain"] for i in data["images"])
    for f in data["findings"]:
        assert 0 <= f["probability"] <= 1
        assert set(f["contribution"]) <= {"US", "CT", "MR"}
    assert not (home / "library.db").exists()  # only --add writes to the library
    code, out, _ = cli("predict", patient_dicom, "--out", tmp_path / "o", "--add", "--json")
    assert code == 0
    assert store.list_cases(Library())[0].state == "drafted"


def test_predict_with_some_modalities(cli, patient_nifti, tmp_path):
    ct = sorted(patient_nifti.glob("CT_*[!k].nii"))[0]
    code, out, _ = cli("predict", "--ct", ct, "--out", tmp_path / "o", "--json")
    assert code == 0
    data = json.loads(out)
    assert data["modalities"]["US"] == data["modalities"]["MR"] == "absent"
    assert data["modalities"]["CT"] in ("present", "limited")
    text = (tmp_path / "o" / data["case_id"] / "report.txt").read_text()
    assert "MR not acquired" in text


def test_one_unreadable_part_is_partly_done(cli, patient_nifti, tmp_path):
    bad = tmp_path / "bad.nii"
    bad.write_bytes(b"x" * 400)
    us = next(patient_nifti.glob("US_cine.nii"))
    code, out, err = cli("predict", "--us", us, "--mr", bad, "--out", tmp_path / "o", "--json")
    assert code == 3
    data = json.loads(out)
    assert data["modalities"]["MR"] == "failed"
    assert data["refused"][0]["path"] == str(bad)
    assert "bad.nii" in err


def test_two_patients_in_one_folder_are_listed(cli, two_patients_dicom, tmp_path):
    code, out, err = cli("predict", two_patients_dicom, "--out", tmp_path / "o")
    assert code == 2
    assert "holds 2 cases" in err
    assert not (tmp_path / "o").exists()
    series = [next((two_patients_dicom / p / "CT").iterdir()) for p in "ab"]
    code, _, err = cli("predict", "--ct", series[0], "--ct", series[1], "--out", tmp_path / "o")
    assert code == 2
    assert "one case is one patient" in err


def junk(tmp_path):
    for i in range(300):
        (tmp_path / f"{i}.bin").write_bytes(b"junk" * 50)
    return tmp_path


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: p, "is empty"),
        (lambda p: [(p / "a.pdf").write_bytes(b"%PDF-1.4 not an image" * 20), p][1], "1 not dicom"),
        (lambda p: [(p / "a.pdf").write_bytes(b"%PDF-1.4 not an image" * 20), p / "a.pdf"][1], "1 not dicom"),
        (junk, "300 not dicom"),
        (lambda p: [(p / "a.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 60), p][1], "a.dcm"),
        (
            lambda p: [
                write_slice(p / "s.dcm", position=(0, 0, 0), size=(64, 64)),
                (p / "s.dcm").write_bytes((p / "s.dcm").read_bytes()[:3000]),
                p,
            ][2],
            "s.dcm",
        ),
    ],
)
def test_bad_input_is_one_sentence(cli, tmp_path, home, make, words):
    folder = tmp_path / "in"
    folder.mkdir()
    target = make(folder)
    code, out, err = cli("predict", target, "--out", tmp_path / "o", "--json")
    assert code == 1
    assert words in err
    assert json.loads(out)["refused"]
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "o").exists()
    assert not home.exists()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("predict", "/nowhere/at/all"), "no such file or folder"),
        (("predict",), "needs either a case or path"),
        (("predict", "--ct", "/nowhere.nii"), "no such file or folder"),
        (("report", "nobody"), "no such case"),
        (("cases", "--set-role", "1.2.3"), "SERIES_UID=ROLE"),
        (("cases", "--set-role", "1.2.3=portal"), "no such series"),
        (("evaluate", "none-such", "--manifest", "x"), "no such bundle"),
        (("train", "none-such", "--manifest", "x", "--out", "y"), "no such task"),
        (("train", "upper-abdomen", "--manifest", "/nowhere.jsonl", "--out", "y"), "no such manifest"),
        (("simulate", "--cases", "1", "--out", "x", "--format", "tiff"), "give dicom, nifti or sounds"),
        (("view", "--address", "0.0.0.0"), "127.0.0.1 only"),
    ],
)
def test_wrong_use(cli, args, words):
    code, _, err = cli(*args)
    assert code == 2
    assert words in err


def test_unknown_language_before_any_work(cli, patient_nifti, tmp_path):
    ct = sorted(patient_nifti.glob("CT_*[!k].nii"))[0]
    code, _, err = cli("predict", "--ct", ct, "--language", "xx", "--out", tmp_path / "o")
    assert code == 2
    assert "templates for en, zh-TW" in err


def test_ingest_ledger_and_idempotence(cli, patient_dicom, tmp_path, home):
    code, out, _ = cli("ingest", patient_dicom, "--json")
    first = json.loads(out)
    assert code == 0
    assert (
        sum(first["ledger"].values())
        == first["files"]
        == len([p for p in patient_dicom.rglob("*") if p.is_file()])
    )
    assert first["new"] == first["cases"]
    stored = sorted(p.name for p in (home / "images").rglob("*") if p.is_file())
    code, out, _ = cli("ingest", patient_dicom, "--json")
    assert json.loads(out)["new"] == []
    assert sorted(p.name for p in (home / "images").rglob("*") if p.is_file()) == stored
    uid = next(s.uid for s in store.list_cases(Library())[0].series if s.modality == "CT")
    code, _, _ = cli("cases", "--set-role", f"{uid}=delayed")
    assert code == 0
    case = store.load_case(Library(), first["cases"][0])
    assert next(i for i in case.images if i.source.series_uid == uid).role == "delayed"
    code, out, _ = cli("cases", "--with", "CT", "--without", "US")
    assert "library is empty" in out


def test_an_exported_nifti_says_of_which_case_it_is(cli, patient_dicom, tmp_path, home):
    code, out, _ = cli("ingest", patient_dicom, "--export", "nifti", "--out", tmp_path / "e", "--json")
    assert code == 0
    said = json.loads(out)
    for image in said["images"]:
        assert image["case_id"] in said["cases"]
        written = nib.load(image["nifti"])
        assert written.header.extensions[0].get_content() == f"medfuse case {image['case_id']}".encode()
        side = json.loads(Path(image["nifti"].removesuffix(".nii.gz") + ".json").read_text())
        assert side["medfuse_case"] == image["case_id"]
    copies = tmp_path / "copies"
    code, _, _ = cli("deidentify", tmp_path / "e", "--out", copies, "--key", tmp_path / "key", "--json")
    assert code in (0, 3)
    names = [json.loads(out)["cases"][0].encode()]
    raw = [gzip.decompress(p.read_bytes()) for p in copies.rglob("*.nii.gz")]
    assert raw
    assert not any(n in data for n in names for data in raw)


def test_ingest_of_nothing_is_exit_1(cli, tmp_path):
    (tmp_path / "a.txt").write_text("words")
    code, out, _ = cli("ingest", tmp_path, "--json")
    assert code == 1
    assert json.loads(out)["ledger"]["not_dicom"] == 1


def test_zip_and_escaping_zip(cli, patient_dicom, tmp_path):
    archive = tmp_path / "case.zip"
    with zipfile.ZipFile(archive, "w") as z:
        for p in sorted((patient_dicom / "US").rglob("*.dcm")):
            z.write(p, p.relative_to(patient_dicom))
    code, out, _ = cli("predict", archive, "--out", tmp_path / "o", "--json")
    assert code == 0
    assert json.loads(out)["modalities"]["US"] == "present"
    evil = tmp_path / "evil.zip"
    with zipfile.ZipFile(evil, "w") as z:
        z.writestr("../outside.dcm", b"x")
    code, _, err = cli("predict", evil, "--out", tmp_path / "o")
    assert code == 1
    assert "points outside" in err


def test_simulate_and_info(cli, tmp_path):
    code, out, _ = cli(
        "simulate",
        "--cases",
        1,
        "--seed",
        4,
        "--out",
        tmp_path / "s",
        "--format",
        "nifti",
        "--split",
        "test",
        "--json",
    )
    assert code == 0
    manifest = json.loads(out)["manifest"]
    assert json.loads(Path(manifest).read_text().splitlines()[0])["split"] == "test"
    code, out, _ = cli("info", "--json")
    info = json.loads(out)
    assert any(b["name"] == "upper-abdomen-simulated" and len(b["hash"]) == 64 for b in info["bundles"])
    assert any(c["uid"] == "1.2.840.10008.1.2.4.90" for c in info["codecs"])


def test_conflicting_identifiers_wait_for_a_person(cli, tmp_path):
    write_stack(
        tmp_path / "a",
        [(0, 0, 2.5 * k) for k in range(3)],
        series="1.2.3",
        study="1.2.31",
        PatientSex="F",
        StudyDate="20240101",
    )
    write_stack(
        tmp_path / "b",
        [(0, 0, 2.5 * k) for k in range(3)],
        series="1.2.4",
        study="1.2.41",
        PatientSex="M",
        StudyDate="20240102",
    )
    code, _, err = cli("predict", tmp_path, "--out", tmp_path / "o")
    assert code == 2
    assert "sex differs" in err


def test_real_image_outside_the_domain(cli, tmp_path):
    """A CT that does not say SIMULATED: no finding, no impression, and uncalibrated scores only when asked
    for."""
    write_stack(tmp_path / "in", [(0, 0, 5.0 * k) for k in range(24)], size=(32, 32), spacing=(8, 8))
    code, out, _ = cli("predict", tmp_path / "in", "--out", tmp_path / "o", "--json")
    assert code == 0
    data = json.loads(out)
    assert [i["in_domain"] for i in data["images"]] == [False]
    assert "simulated" in data["images"][0]["why"]
    assert data["findings"] == []
    text = (tmp_path / "o" / data["case_id"] / "report.txt").read_text()
    assert "Outside the validated domain" in text
    assert "IMPRESSION" not in text
    assert "FINDINGS" not in text
    code, out, _ = cli("predict", tmp_path / "in", "--out", tmp_path / "o", "--outside-domain", "--json")
    shown = json.loads(out)
    assert not any(f["calibrated"] for f in shown["findings"])
    assert len(shown["findings"]) == 16
    text = (tmp_path / "o" / data["case_id"] / "report.txt").read_text()
    assert "uncalibrated" in text
    assert "IMPRESSION" not in text
    assert np.isfinite([f["probability"] for f in shown["findings"]]).all()


def test_errors_come_back_whole_from_another_process():
    import pickle

    from medfuse.errors import UnreadableError, UnsupportedError, UserError, WrongUse

    for error in (
        UserError("a"),
        WrongUse("b"),
        UnreadableError("x.dcm", "is cut"),
        UnsupportedError("x.dcm", "gap", "5 mm", "1 mm"),
    ):
        back = pickle.loads(pickle.dumps(error))
        assert (type(back), str(back), back.__dict__) == (type(error), str(error), error.__dict__)
