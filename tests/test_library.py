"""The library: cases by rule, content-addressed files, whole or not at all."""

from __future__ import annotations

import os

import numpy as np
import pytest
from slices import write_slice, write_stack

from medfuse.errors import UserError
from medfuse.io.cases import find_cases, join_studies, parse_date
from medfuse.io.scan import Identity
from medfuse.library import Library, store
from medfuse.library.ingest import ingest


def study(uid, date="20240101", patient="P", **kwargs):
    return Identity(patient_id=patient, study_uid=uid, study_date=date, **kwargs)


def groups(*studies, window=30):
    joined, conflicts = join_studies(list(studies), window)
    return sorted(sorted(s.study_uid for s in g) for g in joined), conflicts


def test_studies_of_one_patient_within_the_window_are_one_case():
    assert groups(study("a"), study("b", "20240120"), study("c", "20240301"))[0] == [["a", "b"], ["c"]]
    assert groups(study("a"), study("b", "20240120"), window=7)[0] == [["a"], ["b"]]


def test_other_patients_issuers_and_regions_stay_apart():
    assert groups(study("a"), study("b", patient="Q"))[0] == [["a"], ["b"]]
    assert groups(study("a", issuer="X"), study("b", issuer="Y"))[0] == [["a"], ["b"]]
    assert groups(study("a", body_part="HEAD"), study("b", body_part="ABDOMEN"))[0] == [["a"], ["b"]]
    assert groups(study("a", body_part="HEAD"), study("b"))[0] == [["a", "b"]]


def test_no_patient_id_joins_nothing():
    assert groups(study("a", patient=""), study("b", patient=""))[0] == [["a"], ["b"]]


def test_disagreeing_identifiers_are_kept_apart_and_named():
    got, conflicts = groups(study("a", birth_date="19700101"), study("b", birth_date="19710101"))
    assert got == [["a"], ["b"]]
    assert "birth date differs" in conflicts[0]
    assert parse_date("garbage") is None


def test_duplicates_and_set_aside_are_counted(tmp_path):
    write_stack(tmp_path / "a", [(0, 0, 2.5 * k) for k in range(3)])
    data = (tmp_path / "a" / "001.dcm").read_bytes()
    (tmp_path / "copy.dcm").write_bytes(data)
    write_slice(
        tmp_path / "loc.dcm",
        position=(0, 0, 0),
        series="1.2.8",
        ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
    )
    write_slice(
        tmp_path / "mpr.dcm", position=(0, 0, 0), series="1.2.7", ImageType=["DERIVED", "SECONDARY", "MPR"]
    )
    (tmp_path / "note.txt").write_text("hello")
    (tmp_path / "empty.dcm").write_bytes(b"")
    scan = find_cases(tmp_path).scan
    assert scan.ledger == {
        "read": 3,
        "duplicate": 1,
        "set_aside": 2,
        "not_dicom": 2,
        "damaged": 0,
        "unsupported": 0,
    }
    reasons = {e.path.name: e.reason for e in scan.entries}
    assert reasons["loc.dcm"] == "localiser"
    assert "no independent evidence" in reasons["mpr.dcm"]


def test_case_round_trip(patient, patient_dicom, home, database):
    (case_id,) = ingest(Library(), patient_dicom).cases
    case = store.load_case(Library(), case_id)
    direct = find_cases(patient_dicom).cases[0]
    assert len(case.images) == len(direct.images)
    pairs = zip(
        sorted(case.images, key=lambda i: i.source.series_uid),
        sorted(direct.images, key=lambda i: i.source.series_uid),
        strict=True,
    )
    for a, b in pairs:
        assert np.array_equal(a.pixels, b.pixels)
        assert a.role == b.role
    assert case.simulated


def test_lost_files_fail_their_series_only(patient_dicom, home, database):
    (case_id,) = ingest(Library(), patient_dicom).cases
    row = store.list_cases(Library())[0]
    assert row.modalities == ("CT", "MR", "US")
    cine = [p for p in (home / "images").rglob("*") if p.is_file() and p.stat().st_size > 700_000]
    assert len(cine) == 1
    cine[0].unlink()
    case = store.load_case(Library(), case_id)
    assert case.state("US") == "failed"
    assert case.state("CT") == "present"


def test_unwritable_library_is_one_sentence(patient_dicom, home, database, monkeypatch):
    import shutil

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(UserError, match="No space left"):
        ingest(Library(), patient_dicom)
    assert store.list_cases(Library()) == []  # nothing half-added
    assert not [p for p in (home / "images").rglob("*") if p.is_file()]


def test_database_url_is_honoured(tmp_path, monkeypatch, patient_dicom):
    monkeypatch.setenv("MEDFUSE_DATABASE_URL", f"sqlite:///{tmp_path / 'other.db'}")
    ingest(Library(), patient_dicom)
    assert (tmp_path / "other.db").exists()
    assert len(store.list_cases(Library())) == 1
    assert os.environ["MEDFUSE_HOME"]
