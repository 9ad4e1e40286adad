"""Files that are made to do harm: packed to fill memory or disk, or to run in whoever opens a table."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os.path
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from slices import write_stack
from test_cli import run

from medfuse.errors import UserError
from medfuse.foreign import foreign_json
from medfuse.io import unpack
from medfuse.io.cells import harmless
from medfuse.io.child import Child
from medfuse.io.unpack import unpack_zip
from medfuse.library.ratings import Rating, export


def overlapping_zip(path: Path, members: int, size: int) -> None:
    """Many names in the central directory for one packed member of zeros, as in Fifield's zip bomb."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(bytes(size)) + packer.flush()
    crc = zlib.crc32(bytes(size))
    local = struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 8, 0, 0, crc, len(packed), size, 1, 0) + b"a"
    entries = b"".join(
        struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 8, 0, 0, crc, len(packed), size, 4, 0, 0, 0, 0, 0, 0)
        + f"{n:04d}".encode()
        for n in range(members)
    )
    body = local + packed
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, members, members, len(entries), len(body), 0)
    path.write_bytes(body + entries + end)


@pytest.mark.attack
@pytest.mark.parametrize("members", [2, 50, 900])
def test_members_that_lie_on_one_another_are_refused(tmp_path, members):
    overlapping_zip(tmp_path / "a.zip", members, 2**20)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert sum(m.file_size for m in archive.infolist()) == members * 2**20  # the attack is real
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="lie on one another"):
        unpack_zip(tmp_path / "a.zip", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.attack
def test_a_zip_with_no_room_for_it_is_refused_before_a_byte(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.dcm", bytes(1000))
    monkeypatch.setattr(unpack.shutil, "disk_usage", lambda folder: unpack.shutil._ntuple_diskusage(1, 1, 10))
    with pytest.raises(UserError, match="less room"):
        unpack_zip(tmp_path / "a.zip", tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.attack
@pytest.mark.parametrize("name", ["../../escaped", "/etc/escaped", "a/../../escaped"])
def test_a_member_that_points_outside_is_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(name, b"x")
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="outside"):
        unpack_zip(tmp_path / "a.zip", tmp_path / "out")


READ = """
import resource, sys
from pathlib import Path
from medfuse.io.cases import find_cases
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = find_cases(Path(sys.argv[1]))
print(found.scan.entries[0].status, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def nifti_bomb(path: Path) -> None:
    """1 GiB of zeros in a good NIfTI of 1 MB."""
    header = nib.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape((1024, 1024, 1024))
    header.set_qform(np.eye(4), 1)
    header["vox_offset"] = 352
    header["magic"] = b"n+1"
    with gzip.open(path, "wb", compresslevel=1) as f:
        f.write(header.binaryblock + b"\0" * 4)
        for _ in range(64):
            f.write(bytes(2**24))
    path.with_name("a.json").write_text('{"Modality": "MR"}')


@pytest.mark.attack
@pytest.mark.slow
def test_a_small_nifti_takes_little_memory(tmp_path):
    nifti_bomb(tmp_path / "a.nii.gz")
    done = subprocess.run(
        [sys.executable, "-c", READ, str(tmp_path / "a.nii.gz")], capture_output=True, text=True, check=True
    )
    status, grown = done.stdout.split()
    assert status != "read"
    assert int(grown) < 512  # MiB; 2 GiB packed in 2 MB took 10 GiB before


@pytest.mark.attack
def test_a_header_that_says_more_than_a_picture_packs_to_is_refused(tmp_path):
    from medfuse.errors import UnreadableError
    from medfuse.io.volume_files import check_packing

    check_packing(tmp_path, packed=10**6, unpacked=150 * 10**6)  # a mask
    check_packing(tmp_path, packed=10**9, unpacked=8 * 10**9)  # a large volume
    with pytest.raises(UnreadableError, match="bomb"):
        check_packing(tmp_path, packed=2 * 10**6, unpacked=2 * 10**9)


FORMULAS = [
    "=1+1",
    "+1+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(A1)",
    '=HYPERLINK("http://attacker.example")',
    "\t=1",
]


@pytest.mark.attack
@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_of_a_table_is_a_formula(text):
    import pandas as pd

    from apps.viewer.pages.cohort import csv_of

    rating = Rating(**{f: text if t == "str" else 1 for f, t in Rating.__annotations__.items()})
    for table in (export([rating]), csv_of(pd.DataFrame({"case_id": [text], "p": [0.5]}))):
        cells = [c for row in list(csv.reader(io.StringIO(table)))[1:] for c in row]
        assert any(text in c for c in cells)
        assert not any(c.startswith(("=", "+", "-", "@", "\t")) for c in cells)


@pytest.mark.parametrize("value", ["-1.5", "+3", 0.5, -2, "plain", "", "a=b"])
def test_numbers_and_words_stay(value):
    assert harmless(value) == value


@pytest.mark.attack
@pytest.mark.parametrize("text", FORMULAS)
def test_the_ledger_of_an_ingest_holds_no_formula(tmp_path, monkeypatch, text):
    from typer.testing import CliRunner

    from medfuse.cli import app

    folder = tmp_path / "in"
    folder.mkdir()
    (folder / f"{text.replace('/', ' ').strip()}.txt").write_text("x")
    monkeypatch.chdir(folder)
    CliRunner().invoke(app, ["ingest", ".", "--ledger", str(tmp_path / "ledger.csv")])
    rows = list(csv.reader(io.StringIO((tmp_path / "ledger.csv").read_text())))
    assert len(rows) == 2
    assert not any(c.startswith(("=", "+", "@")) for row in rows for c in row)


def test_a_child_may_answer_a_value_and_a_word():
    child = Child()
    assert child.call(os.path.splitext, "a.dcm", limit=60) == ("a", ".dcm")  # was taken for an array's form
    child.stop()


ESCAPE = "\x1b]0;OWNED\x07\x1b[2J"


@pytest.mark.attack
@pytest.mark.parametrize(
    "name", [f"bad{ESCAPE}.dcm", "bad\nrefused nothing: all is well.nii.gz", "bad\u202emcd.dcm"]
)
@pytest.mark.parametrize("command", ["ingest", "deidentify"])
def test_a_files_name_commands_no_terminal_and_writes_no_line(
    home, tmp_path, monkeypatch, capsys, name, command
):
    write_stack(tmp_path / "in", [(0, 0, 2.0 * k) for k in range(3)])
    (tmp_path / "in" / name).write_bytes(b"\0" * 128 + b"DICM" + b"x" * 300)
    out = ["--out", str(tmp_path / "out")] if command == "deidentify" else []
    for path in (tmp_path / "in", tmp_path / "in" / name, tmp_path / "none" / name):
        _, said, err = run(monkeypatch, capsys, command, str(path), *out)
        for text in (said, err):
            assert not any(c in text for c in ("\x1b", "\x07", "\u202e"))
        assert "\nrefused nothing" not in said


@pytest.mark.attack
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"Modality":"MR","a":' + "[" * 90_000 + "]" * 90_000 + "}", "nested too deeply"),
        ('{"Modality":"MR","EchoTime":' + "1" * 6000 + "}", "too many digits"),
        ('{"Modality":"MR","SeriesDescription":"\\ud800"}', "half of a character"),
    ],
)
def test_a_sidecar_that_no_reader_can_hold_is_refused(home, tmp_path, monkeypatch, capsys, text, why):
    nib.save(nib.Nifti1Image(np.zeros((3, 4, 5), np.int16), np.eye(4)), tmp_path / "a.nii.gz")
    (tmp_path / "a.json").write_text(text)
    code, said, _ = run(monkeypatch, capsys, "ingest", str(tmp_path), "--json")
    assert code == 1
    assert why in json.loads(said)["refused"][0]["reason"]
    with pytest.raises(ValueError, match=why):
        foreign_json(text)
