"""What cannot work is refused before any work is done and before anything is written or taken away."""

from __future__ import annotations

import pytest
from test_cli import run

from medfuse.library import Library, store


@pytest.fixture
def cli(monkeypatch, capsys):
    return lambda *args: run(monkeypatch, capsys, *args)


@pytest.fixture
def no_work(monkeypatch):
    """Fails a test in which a case is predicted or read."""
    from medfuse.workflows import predict

    def worked(*args, **more):
        raise AssertionError("work was done before the refusal")

    monkeypatch.setattr(predict, "Predictor", worked)


def test_add_takes_no_single_images(cli, patient_nifti, tmp_path, no_work):
    ct = sorted(patient_nifti.glob("CT_*[!k].nii"))[0]
    for how in (("--ct", ct), (ct,)):
        code, _, err = cli("predict", *how, "--add", "--out", tmp_path / "o")
        assert code == 2
        assert "--add takes a folder" in err
    assert not (tmp_path / "o").exists()


def test_a_backend_is_known_before_a_case_is_read(cli, patient_dicom, tmp_path, no_work):
    for command in ("predict", "batch"):
        code, _, err = cli(command, patient_dicom, "--backend", "abacus", "--out", tmp_path / "o")
        assert code == 2, err
        assert "give torch or openvino" in err
    assert not (tmp_path / "o").exists()


def test_a_demo_in_a_wrong_language_leaves_the_earlier_one(cli, tmp_path):
    kept = tmp_path / "d" / "results" / "kept"
    kept.parent.mkdir(parents=True)
    kept.write_text("x")
    code, _, err = cli("demo", "--out", tmp_path / "d", "--language", "tlh", "--no-viewer")
    assert code == 2
    assert "templates for" in err
    assert kept.exists()


def test_an_output_that_is_a_file_is_refused_before_work(cli, patient_dicom, tmp_path, no_work):
    (tmp_path / "file").write_text("x")
    for args in (
        ("predict", patient_dicom, "--out", tmp_path / "file" / "o"),
        ("evaluate", "upper-abdomen-simulated", "--manifest", tmp_path / "none", "--out", tmp_path / "file"),
        ("ingest", patient_dicom, "--ledger", tmp_path / "file" / "x.csv"),
        ("register", patient_dicom, patient_dicom, "--out", tmp_path / "file"),
        ("fuse", patient_dicom, patient_dicom, "--out", tmp_path / "file" / "x.png"),
        ("export", "ratings", "--out", tmp_path / "file" / "x.csv"),
    ):
        code, _, err = cli(*args)
        assert code == 1, (args, err)
        assert "is a file, not a folder" in err
    assert not store.list_cases(Library())


def test_cases_changes_nothing_where_one_option_is_wrong(cli, patient_dicom):
    assert cli("ingest", patient_dicom)[0] == 0
    (row,) = store.list_cases(Library())
    uid = store.series_of(Library(), row.case_id)[0].uid
    before = store.load_case(Library(), row.case_id)
    code, _, err = cli("cases", "--set-role", f"{uid}=t2", "--set-risk", "cirrhosis")
    assert code == 2
    assert "CASE=STATUS" in err
    code, _, err = cli("cases", "--set-indication", f"{row.case_id}=pain", "--confirm", "nobody")
    assert code == 2
    assert "no such case" in err
    after = store.load_case(Library(), row.case_id)
    assert [i.role for i in after.images] == [i.role for i in before.images]
    assert after.indication == before.indication


def test_a_registration_by_landmarks_needs_them_at_once(cli, tmp_path):
    code, _, err = cli(
        "register", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "o", "--method", "landmarks"
    )
    assert code == 2
    assert "needs --landmarks" in err


def test_fuse_knows_its_methods_and_roles(cli, patient_nifti, tmp_path):
    ct = sorted(patient_nifti.glob("CT_*[!k].nii"))[0]
    code, _, err = cli("fuse", ct, ct, "--out", tmp_path / "x.png", "--method", "magic")
    assert code == 2
    assert "give learned" in err
    code, _, err = cli("fuse", ct, ct, "--out", tmp_path / "x.png", "--registration", tmp_path)
    assert code == 1
    assert "no quality.json" in err


def test_send_reads_its_destination_first(cli):
    code, _, err = cli("send", "nobody", "--to", "nowhere")
    assert code != 0
    assert "nowhere" in err
