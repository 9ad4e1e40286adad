"""Names of files that are not UTF-8: any bytes are a name on Linux, and a CD of Windows has them."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
from slices import write_slice
from test_report import TASK, prediction

from apps.viewer import pixels
from medfuse.case import Case, Image, Refusal, Source
from medfuse.drafting.compose import compose
from medfuse.exports import case_folder
from medfuse.exports.case_folder import write_case
from medfuse.inference.predictor import Predicted, _refused


@pytest.fixture
def folder(tmp_path):
    """Two slices and a NIfTI with its sidecar, in a folder and under names of Latin-1."""
    inside = tmp_path / os.fsdecode("M\xfcller".encode("latin-1"))
    inside.mkdir()
    for n in range(2):
        write_slice(tmp_path / "x.dcm", position=(0, 0, 3.0 * n), number=n + 1)
        (tmp_path / "x.dcm").rename(inside / os.fsdecode(f"Schicht \xe4{n}.dcm".encode("latin-1")))
    nib.save(nib.Nifti1Image(np.zeros((3, 3, 3), np.int16), np.eye(4)), tmp_path / "x.nii")
    (tmp_path / "x.nii").rename(inside / os.fsdecode("Sch\xe4del.nii".encode("latin-1")))
    (inside / os.fsdecode("Sch\xe4del.json".encode("latin-1"))).write_text('{"Modality": "CT"}')
    (inside / os.fsdecode("\xe4.dcm".encode("latin-1"))).write_bytes(b"nothing" * 100)
    return inside


@pytest.mark.parametrize("again", [False, True])
def test_names_that_are_not_utf_8_are_read_and_written_down(folder, tmp_path, again):
    env = {**os.environ, "MEDFUSE_HOME": str(tmp_path / "home"), "PYTHONPATH": os.pathsep.join(sys.path)}
    ledger = tmp_path / "ledger.csv"
    command = [sys.executable, "-m", "medfuse", "ingest", str(folder), "--ledger", str(ledger)]
    command += [] if again else ["--json"]
    for _ in range(1 + again):
        done = subprocess.run(command, capture_output=True, env=env, text=True)
    assert "Traceback" not in done.stderr
    with ledger.open(newline="") as f:
        rows = list(csv.reader(f))[1:]
    assert len(rows) == 5
    statuses = sorted(status for _, status, _ in rows)
    assert statuses.count("read") == 3
    if not again:
        found = json.loads(done.stdout)
        assert len(found["cases"]) == 2
        for case in found["cases"]:
            case.encode("utf-8")


def case_of_latin_1():
    image = Image(
        "CT", np.zeros((4, 4, 4), np.float32), Source(os.fsdecode(b"/M\xfcller.dcm"), "ab"), np.eye(4)
    )
    return Case("c", images=[image], refused=[Refusal(image.source.path, "as " + image.source.path)])


def test_a_result_names_its_files_whatever_their_bytes(tmp_path):
    case = case_of_latin_1()
    p = prediction().model_copy(update={"refused": [_refused(case.refused[0])]})
    report = compose(p, case, TASK, "en")
    options = {"seconds": {}, "formats": ("text",)}
    done = write_case(tmp_path, Predicted(p, []), report, case, TASK, **options)
    run = json.loads((done.folder / "run.json").read_text())
    assert run["inputs"] == {"/M\\xfcller.dcm": "ab"}
    refused = json.loads((done.folder / "prediction.json").read_text())["refused"]
    assert refused == [{"path": "/M\\xfcller.dcm", "reason": "as /M\\xfcller.dcm"}]


def test_whatever_goes_wrong_leaves_no_half_of_a_result(tmp_path, monkeypatch):
    case = case_of_latin_1()
    p = prediction()
    report = compose(p, case, TASK, "en")

    def breaks(*args):
        raise ValueError("an export that nobody foresaw")

    monkeypatch.setattr(case_folder, "write_exports", breaks)
    with pytest.raises(ValueError, match="nobody foresaw"):
        write_case(tmp_path, Predicted(p, []), report, case, TASK, seconds={})
    assert not list(tmp_path.iterdir())


def test_a_refused_name_reaches_the_viewer(tmp_path):
    pixels.write_case(case_of_latin_1(), tmp_path / "case")
    assert "M\\\\xfcller" in (tmp_path / "case" / "case.json").read_text()


@pytest.mark.slow
def test_a_study_in_such_a_folder_is_predicted(folder, tmp_path):
    env = {**os.environ, "MEDFUSE_HOME": str(tmp_path / "home"), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "medfuse", "predict", str(folder), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, env=env, text=True, errors="replace")
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "out").glob(".*.part"))
    assert list((tmp_path / "out").glob("*/prediction.json")), done.stderr
