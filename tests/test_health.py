"""Probes and counts: what they say of a library that is well, full, gone; and that no log names a patient."""

from __future__ import annotations

import logging
import urllib.error
import urllib.request
from collections import namedtuple

import pytest
from pacs import free_port
from prometheus_client.parser import text_string_to_metric_families

from medfuse.errors import UserError, WrongUse
from medfuse.library import Library, health
from medfuse.library.accounts import add_account, authenticate, change_password, list_accounts
from medfuse.library.health import healthz, metrics
from medfuse.library.ingest import ingest
from medfuse.network.archive import Archive, Instance, keys_of
from medfuse.network.probes import probes
from medfuse.network.service import Service

OLD = "four quiet herons wading"
NEW = "seven brass kettles humming"


def counted(library: Library) -> dict[str, float]:
    families = text_string_to_metric_families(metrics(library).decode())
    return {s.name + "".join(s.labels.values()): s.value for f in families for s in f.samples}


def test_a_library_that_is_well_and_what_is_in_it(home, patient_dicom):
    library = Library(home)
    assert healthz(library)[0] == 200  # before anything has come
    (case_id,) = ingest(library, patient_dicom).cases
    code, text = healthz(library)
    assert code == 200
    assert text.splitlines() == ["database: ok", "home: ok", "disk: ok"]
    now = counted(library)
    assert now["medfuse_cases"] == 1
    assert now["medfuse_healthy"] == 1
    assert now["medfuse_audit_entries"] >= 1
    said = metrics(library).decode()
    with library.session() as s:
        from medfuse.library.catalogue import CaseRow

        patient = s.get(CaseRow, case_id).patient_id
    assert case_id not in said
    assert patient not in said


def test_a_full_disk_and_a_broken_database_are_named(home, patient_dicom, monkeypatch):
    library = Library(home)
    ingest(library, patient_dicom)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(health.shutil, "disk_usage", lambda _: usage(10, 10, 1000))
    assert healthz(library) == (503, "database: ok\nhome: ok\ndisk: less than 1 GiB is free\n")
    monkeypatch.undo()
    library.engine.dispose()
    (home / "library.db").write_bytes(b"not a database" * 400)
    code, text = healthz(Library(home))
    assert code == 503
    assert text.startswith("database: does not answer")
    assert counted(Library(home))["medfuse_healthy"] == 0


def test_the_probes_answer_beside_a_node(home):
    library = Library(home)
    port = free_port()
    with probes(library, port):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=20) as answer:
            assert answer.status == 200
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
            assert b"medfuse_healthy 1.0" in answer.read()
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/library.db", timeout=20)
        with pytest.raises(UserError, match="--health-port"), probes(library, port):
            pass


@pytest.mark.attack
def test_no_log_of_the_node_names_a_patient(home, patient_dicom, caplog):
    import pydicom

    library = Library(home)
    archive = Archive(library)
    said = []
    with caplog.at_level(logging.DEBUG, logger="medfuse"):
        for path in sorted(patient_dicom.rglob("*.dcm"))[:4]:
            ds = pydicom.dcmread(path)
            ds.PatientID = "PLANTED-4711"
            ds.PatientName = "Planted^Name"
            archive.store(Instance(path.read_bytes(), keys_of(ds), ds.file_meta.TransferSyntaxUID, "X"))
        Service(quiet_s=0.0, talk=said.append, library=library).step()
        archive.close()
    assert any("filed" in line for line in said)
    everything = "\n".join([*said, *caplog.messages])
    assert "PLANTED" not in everything
    assert "Planted" not in everything


@pytest.mark.attack
def test_a_new_password_ends_what_the_old_one_opened(home):
    library = Library(home)
    add_account(library, "anna", OLD, "author")
    seated = authenticate(library, "anna", OLD)
    assert seated in list_accounts(library)
    with pytest.raises(WrongUse, match="soon guessed"):
        change_password(library, "anna", "password1")
    with pytest.raises(WrongUse, match="no account bob"):
        change_password(library, "bob", NEW)
    change_password(library, "anna", NEW)
    assert seated not in list_accounts(library)  # what the viewer asks at every click
    with pytest.raises(UserError, match="wrong"):
        authenticate(library, "anna", OLD)
    assert authenticate(library, "anna", NEW).name == "anna"
