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
