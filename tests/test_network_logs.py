"""What a node says on stderr, at the most talkative level, names no patient: not in ids, odd UIDs, queries,
broken values, refusals, filed cases, nor in what its libraries log."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import threading

import pytest
from pacs import free_port
from pydicom import config, dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage, StudyRootQueryRetrieveInformationModelFind
from slices import write_stack

from medfuse.io.names import log_name

NAME = "PLANTED"


@pytest.fixture
def node(home):
    """(port, what it said so far) of a node of its own process."""
    port = free_port()
    line = [sys.executable, "-m", "medfuse", "node", "--port", str(port), "--quiet", "0.5", "-v", "-v"]
    process = subprocess.Popen(line, env=dict(os.environ), stderr=subprocess.PIPE, text=True)
    said: list[str] = []
    come = threading.Condition()

    def drain() -> None:
        for text in process.stderr:
            with come:
                said.append(text)
                come.notify_all()

    reader = threading.Thread(target=drain)
    reader.start()

    def wait_for(word: str) -> bool:
        with come:
            return come.wait_for(lambda: any(word in text for text in said), 60)

    assert wait_for("ready")
    yield port, said, wait_for
    process.terminate()
    process.wait(60)
    reader.join()
    process.stderr.close()


def objects(folder):
    """Slices of a planted patient, and such with a name where no name should be."""
    write_stack(folder, [(0, 0, 2.5 * k) for k in range(3)])
    whole = [dcmread(p) for p in sorted(folder.iterdir())]
    changes = [
        {"SOPInstanceUID": f"1.2.{NAME}.1"},
        {"SOPInstanceUID": f"1.2.{NAME}.1", "PatientComments": f"{NAME} again"},
        {"SOPInstanceUID": "1.2.7.1", "StudyInstanceUID": f"1.2.{NAME}"},
        {"SOPInstanceUID": "1.2.7.2", "PatientBirthDate": NAME, "StudyDate": NAME},
        {"SOPInstanceUID": "1.2.7.3", "Modality": f"{NAME} far too long for a code"},
        {"SOPInstanceUID": "1.2.7.4", "SliceThickness": None, "SeriesDescription": NAME * 20},
    ]
    odd = []
    for values in changes:
        ds = copy.deepcopy(whole[0])
        for key, value in values.items():
            setattr(ds, key, value)
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        odd.append(ds)
    for ds in [*whole, *odd]:
        ds.PatientID = f"{NAME}-4711"
        ds.PatientName = f"{NAME}^NAME"
    return [*whole, *odd]


@pytest.mark.attack
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_node_at_its_most_talkative_names_no_patient(node, tmp_path, monkeypatch):
    monkeypatch.setattr(config.settings, "reading_validation_mode", config.IGNORE)
    monkeypatch.setattr(config.settings, "writing_validation_mode", config.IGNORE)
    port, said, wait_for = node
    ae = AE(ae_title="SCANNER")
    ae.add_requested_context(CTImageStorage)
    ae.add_requested_context(StudyRootQueryRetrieveInformationModelFind)
    assoc = ae.associate("127.0.0.1", port, ae_title="MEDFUSE")
    statuses = [assoc.send_c_store(ds).Status for ds in objects(tmp_path / "in")]
    assert statuses.count(0) == 8
    for level, asked in (
        ("STUDY", {"PatientName": f"{NAME}*"}),
        ("STUDY", {"PatientID": f"{NAME}-4711"}),
        (NAME, {"PatientID": NAME}),
    ):
        query = Dataset()
        query.QueryRetrieveLevel = level
        for key, value in asked.items():
            setattr(query, key, value)
        assert list(assoc.send_c_find(query, StudyRootQueryRetrieveInformationModelFind))
    assoc.release()
    assert wait_for("filed")
    assert len(said) > 3
    assert [text for text in said if NAME.lower() in text.lower()] == []


def test_a_log_calls_a_case_by_its_hash():
    assert log_name("DOE-JANE-009becde91") == "…009becde91"
    assert "DOE" not in log_name("DOE")
    assert "19600312" not in log_name("19600312")
    assert log_name("DOE") == log_name("DOE") != log_name("ROE")
