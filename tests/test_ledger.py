"""Every file under a path ends in one line: links, twins, members of one name, words in ImageType."""

from __future__ import annotations

import os
import tarfile
import warnings
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom.dataset import Dataset
from slices import write_slice, write_stack

from medfuse.errors import UserError
from medfuse.io import folder as folders
from medfuse.io.cases import find_cases
from medfuse.io.folder import files_under
from medfuse.io.scan import opened, scan
from medfuse.workflows.ingest import IngestRequest, ingest_command

HEIGHTS = [(0, 0, 2.0 * k) for k in range(4)]


def ingested(path: Path):
    return ingest_command(IngestRequest(paths=[path]), progress=lambda what: lambda done, total: None)


def test_a_linked_folder_is_read(tmp_path):
    write_stack(tmp_path / "store", HEIGHTS)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "series").symlink_to("../store")
    result = ingested(tmp_path / "in")
    assert (result.exit_code, result.data["ledger"]["read"]) == (0, 4)
    again = ingested(tmp_path / "in")  # of unchanged files too
    assert (again.exit_code, again.data["ledger"]["read"]) == (0, 4)


def test_a_broken_link_has_a_line_whatever_its_ending(tmp_path):
    write_stack(tmp_path, HEIGHTS)
    for name in ("broken.dcm", "broken.nii.gz", "broken.json"):
        (tmp_path / name).symlink_to("nowhere")
    result = ingested(tmp_path)
    assert (result.exit_code, result.data["files"]) == (3, 7)
    assert [r["reason"] for r in result.data["refused"]] == ["is a link to nowhere, which does not exist"] * 3


@pytest.mark.parametrize("name", ["loop", "loop.dcm", "loop.zip", "loop.nii.gz"])
@pytest.mark.parametrize("target", ["", "x" * 300])
def test_a_link_that_cannot_be_followed_has_a_line(tmp_path, name, target):
    """To itself, or to a name that no file can have: neither is a missing file, and neither ends the scan."""
    write_stack(tmp_path, HEIGHTS)
    (tmp_path / name).symlink_to(target or name)
    result = ingested(tmp_path)
    assert (result.exit_code, result.data["files"]) == (3, 5)
    (refused,) = result.data["refused"]
    assert "which cannot be followed (" in refused["reason"]


def test_what_is_no_file_is_not_called_an_empty_one(tmp_path):
    write_stack(tmp_path, HEIGHTS)
    os.mkfifo(tmp_path / "pipe.nii")
    (tmp_path / "device.dcm").symlink_to("/dev/zero")
    found = find_cases(tmp_path)
    said = {e.path.name: (e.status, e.reason) for e in found.scan.entries if e.status != "read"}
    why = ("set_aside", "is a pipe, a socket or a device, and no file; not followed")
    assert said == {"pipe.nii": why, "device.dcm": why}


def test_a_sidecar_is_said_to_be_read_with_its_volume(tmp_path):
    nib.save(nib.Nifti1Image(np.ones((8, 8, 4), np.float32), np.eye(4)), tmp_path / "a.nii.gz")
    (tmp_path / "A.JSON").write_text('{"Modality": "CT"}')
    (tmp_path / "notes.json").write_text("{}")
    said = {e.path.name: (e.status, e.reason) for e in scan(tmp_path).entries}
    assert said["a.nii.gz"][0] == "read"
    assert said["A.JSON"] == ("set_aside", "what is stated of a.nii.gz, read with it")
    assert said["notes.json"] == ("set_aside", ".json file: not an image with a stated modality")


@pytest.mark.parametrize("target", [".", "..", "real"])
def test_a_link_in_a_circle_ends(tmp_path, target):
    root = tmp_path / "in"
    write_stack(root / "real", HEIGHTS)
    (root / "link").symlink_to(target)
    found = scan(root)
    assert (found.ledger["read"], found.ledger["set_aside"]) == (4, 1)
    assert sum(found.ledger.values()) == 5


def test_two_links_to_one_folder_read_it_once(tmp_path):
    write_stack(tmp_path / "store", HEIGHTS)
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        (tmp_path / "in" / name).symlink_to(tmp_path / "store")
    assert [p.name for p in files_under(tmp_path / "in")] == ["b", "001.dcm", "002.dcm", "003.dcm", "004.dcm"]


def test_a_folder_that_cannot_be_listed_has_a_line(tmp_path, monkeypatch):
    write_stack(tmp_path / "a", HEIGHTS)
    (tmp_path / "locked").mkdir()
    listed = os.scandir

    def scandir(path):
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(folders.os, "scandir", scandir)
    found = scan(tmp_path)
    assert found.ledger["read"] == 4
    assert [r.reason for r in found.refused] == ["is a folder that cannot be listed; check its permissions"]


def test_a_twin_with_other_bytes_is_refused_and_one_with_the_same_is_not(tmp_path):
    write_slice(tmp_path / "a.dcm", position=(0, 0, 0), sop="1.2.5")
    (tmp_path / "b.dcm").write_bytes((tmp_path / "a.dcm").read_bytes())
    assert ingested(tmp_path).exit_code == 0
    write_slice(tmp_path / "c.dcm", position=(0, 0, 2), sop="1.2.5")
    for _ in range(2):  # the second time, nothing is opened
        result = ingested(tmp_path)
        assert result.exit_code == 3
        (refused,) = result.data["refused"]
        assert refused["path"].endswith("c.dcm")
        assert "same SOP Instance UID as a.dcm (series 1.2.3), but other bytes" in refused["reason"]


def zip_of(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore")  # zipfile warns of a name that is taken
        for name, data in members:
            archive.writestr(name, data)
    return path


def test_members_of_one_name_are_all_read(tmp_path):
    write_stack(tmp_path / "in", HEIGHTS)
    data = [p.read_bytes() for p in sorted((tmp_path / "in").iterdir())]
    names = ["d/a.dcm", "d/a.dcm", "d", "d/a.dcm/x"]  # one name twice, and files where folders are due
    found = find_cases(zip_of(tmp_path / "z.zip", list(zip(names, data, strict=True))))
    assert found.scan.ledger["read"] == 4
    assert found.cases[0].images[0].pixels.shape[2] == 4


def test_a_damaged_member_is_named_without_a_traceback(tmp_path):
    path = tmp_path / "z.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.dcm", bytes(range(256)) * 40)
    data = bytearray(path.read_bytes())
    data[40:60] = b"\xff" * 20
    path.write_bytes(bytes(data))
    with pytest.raises(UserError, match="cannot be unpacked"), opened(path):
        pass


@pytest.mark.parametrize(
    ("image_type", "status"),
    [
        (["ORIGINAL", "PRIMARY", "MPR"], "read"),
        (["ORIGINAL", "PRIMARY", "REFORMATTED"], "read"),
        (["original", "PRIMARY", "MIP"], "read"),
        (["DERIVED", "SECONDARY", "MPR"], "set_aside"),
        (["DERIVED", "PRIMARY", "AXIAL", "MIP"], "set_aside"),
        (["MPR"], "set_aside"),
        (["ORIGINAL", "PRIMARY", "LOCALIZER"], "set_aside"),
        (["ORIGINAL", "PRIMARY", "SCREENSHOT"], "set_aside"),
    ],
)
def test_a_word_sets_aside_only_what_the_scanner_did_not_make(tmp_path, image_type, status):
    write_slice(tmp_path / "a.dcm", position=(0, 0, 0), ImageType=image_type)
    assert scan(tmp_path).ledger[status] == 1


def test_a_table_of_values_is_told(tmp_path):
    for k in range(3):
        ds = write_slice(tmp_path / f"{k}.dcm", position=(0, 0, 2.0 * k))
        del ds.RescaleSlope, ds.RescaleIntercept
        table = Dataset()
        table.LUTDescriptor = [3, 0, 16]
        table.ModalityLUTType = "HU"
        table.LUTData = bytes([0, 0, 100, 0, 200, 0])
        ds.ModalityLUTSequence = [table]
        ds.save_as(tmp_path / f"{k}.dcm", enforce_file_format=True)
    (case,) = find_cases(tmp_path).cases
    assert "its Modality LUT Sequence is not applied" in case.images[0].warnings[0]


@pytest.mark.shared
def test_reported_inputs(shared, tmp_path):
    reports = shared / "reports_of_others"
    if not reports.is_dir():
        pytest.skip("the reported inputs are not here")
    with tarfile.open(reports / "symlinked-folder" / "input.tar") as archive:
        archive.extractall(tmp_path, filter="data")
    result = ingested(tmp_path / "input")
    assert (result.exit_code, result.data["ledger"]["read"], result.data["files"]) == (3, 4, 5)
    result = ingested(reports / "same-sop-uid" / "input")
    assert (result.exit_code, len(result.data["refused"])) == (3, 5)
    assert scan(reports / "original-primary-mpr" / "input").ledger["read"] == 6
    with opened(reports / "zip-duplicate-names" / "input" / "dupnames.zip") as inside:
        assert sum(scan(inside).ledger.values()) == 4
    (case,) = find_cases(reports / "us-frame-time-vector" / "input").cases
    assert case.images[0].frame_ms == 55
