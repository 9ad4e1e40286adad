"""Archives that people send: inside a folder, inside each other, damaged, locked, hostile."""

from __future__ import annotations

import gzip
import io
import lzma
import random
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest
from slices import write_stack

from medfuse.batch.plan import plan_batch
from medfuse.deidentify.folder import deidentify_folder
from medfuse.deidentify.profile import Options
from medfuse.errors import UserError
from medfuse.io import unpack as module
from medfuse.io.archives import with_unpacked
from medfuse.io.cases import find_cases
from medfuse.io.read import open_case
from medfuse.io.scan import scan, scan_files
from medfuse.io.unpack import is_archive, unpack


@pytest.fixture
def stack(tmp_path):
    write_stack(tmp_path / "ct", [(0, 0, 2.0 * k) for k in range(4)])
    return tmp_path / "ct"


def packed(stack: Path, path: Path) -> Path:
    """The stack as an archive of the kind that the name says."""
    files = sorted(stack.iterdir())
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for f in files:
                archive.write(f, f"in/{f.name}")
    elif path.suffix == ".7z":
        py7zr = pytest.importorskip("py7zr")
        with py7zr.SevenZipFile(path, "w") as archive:
            for f in files:
                archive.write(f, f"in/{f.name}")
    else:
        coded = {"z2": "w:bz2", "bz": "w:bz2", "xz": "w:xz", "gz": "w:gz"}.get(path.name[-2:].lower(), "w")
        with tarfile.open(path, coded) as archive:
            for f in files:
                archive.add(f, f"in/{f.name}")
    return path


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.7z", "a.TXZ", "a.tbz", "a.tbz2"])
def test_an_archive_inside_a_folder_is_read(stack, tmp_path, name):
    folder = tmp_path / "sent"
    folder.mkdir()
    packed(stack, folder / name)
    found = find_cases(folder)
    (case,) = found.cases
    assert case.images[0].pixels.shape == (5, 6, 4)
    assert found.scan.ledger["read"] == 4
    assert found.scan.ledger["set_aside"] == 1  # the archive itself
    assert open_case(folder / name).images[0].pixels.shape == (5, 6, 4)


def test_archives_in_archives_end(stack, tmp_path):
    inner = packed(stack, tmp_path / "0.zip").read_bytes()
    for depth in range(6):
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w") as archive:
            archive.writestr("inner.zip", inner)
        inner = data.getvalue()
        folder = tmp_path / f"deep{depth}"
        folder.mkdir()
        (folder / "x.zip").write_bytes(inner)
        found = scan(folder)
        assert found.ledger["read"] == (4 if depth < 2 else 0)
        assert bool(found.refused) == (depth >= 2)
    assert "unpack it yourself" in found.refused[0].reason


def test_what_was_unpacked_goes_with_the_scan(stack, tmp_path):
    folder = tmp_path / "sent"
    folder.mkdir()
    packed(stack, folder / "a.zip")
    found = scan(folder)
    inside = next(e.path for e in found.entries if e.status == "read")
    assert inside.exists()
    del found
    assert not inside.exists()


def test_a_list_that_outlives_the_scan_refuses_archives_by_name(stack, tmp_path):
    archive = packed(stack, tmp_path / "a.zip")
    found = scan_files([archive], archives=False)
    assert "an archive inside a folder; unpack it" in found.refused[0].reason


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.7z"])
def test_damaged_archives_are_named(stack, tmp_path, name):
    """Cut short, and with bytes changed at random: one sentence each, nothing but UserError."""
    data = packed(stack, tmp_path / name).read_bytes()
    dice = random.Random(5)
    for n in range(60):
        hurt = bytearray(data[: dice.randrange(1, len(data))] if n % 3 == 0 else data)
        for _ in range(dice.randint(1, 8)):
            hurt[dice.randrange(len(hurt))] = dice.randrange(256)
        folder = tmp_path / f"hurt{n}"
        folder.mkdir()
        (folder / name).write_bytes(bytes(hurt))
        found = scan(folder)
        long = [r.reason for r in found.refused if len(r.reason) > 300 or "\n" in r.reason]
        assert not long
        assert found.refused or found.ledger["set_aside"] >= 1


def test_a_tar_that_points_outside_or_holds_links_is_refused(tmp_path):
    for name, kind in (
        ("../../evil", tarfile.REGTYPE),
        ("/etc/evil", tarfile.REGTYPE),
        ("x", tarfile.SYMTYPE),
    ):
        member = tarfile.TarInfo(name)
        member.type = kind
        member.linkname = "/etc/passwd"
        with tarfile.open(tmp_path / "a.tar", "w") as archive:
            archive.addfile(member)
        with pytest.raises(UserError, match=r"points outside|is a link"):
            unpack(tmp_path / "a.tar", tmp_path / "out")
    assert not (tmp_path.parent / "evil").exists()


def test_two_members_of_one_name_are_both_kept(stack, tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for f in sorted(stack.iterdir()):
            archive.add(f, "same.dcm")
    unpack(tmp_path / "a.tar", tmp_path / "out")
    assert len([p for p in (tmp_path / "out").rglob("*") if p.is_file()]) == 4


def test_a_zip_that_lost_its_end_is_called_so(stack, tmp_path):
    """It was said to hold no image."""
    data = packed(stack, tmp_path / "whole.zip").read_bytes()
    for left in (len(data) // 2, len(data) - 10):
        cut = tmp_path / "cut.zip"
        cut.write_bytes(data[:left])
        (refused,) = scan(cut).refused
        assert "ends too early" in refused.reason


def test_a_batch_reads_the_archives_of_its_folder(stack, tmp_path):
    """They were refused, while ingest read them; a second plan finds the same work."""
    folder = tmp_path / "sent"
    folder.mkdir()
    archive = packed(stack, folder / "a.zip")
    plan = plan_batch(str(folder))
    (job,) = plan.jobs
    assert not plan.refused
    assert job.read().images[0].pixels.shape == (5, 6, 4)
    assert plan_batch(str(folder)).jobs[0].input_hash == job.input_hash
    with zipfile.ZipFile(archive, "a") as more:
        more.writestr("note.txt", "changed")
    assert plan_batch(str(folder)).jobs[0].input_hash != job.input_hash


def test_the_archives_of_a_folder_are_deidentified(stack, tmp_path):
    """They were skipped without a word."""
    folder = tmp_path / "sent"
    folder.mkdir()
    packed(stack, folder / "a.zip")
    packed(stack, folder / "b.tar")  # the same slices again
    (folder / "DOE_JANE.zip").write_bytes(b"PK\3\4 cut short")
    with tarfile.open(folder / "c.tar", "w") as hostile:
        hostile.addfile(tarfile.TarInfo("../../DOE_JANE"))
    out = tmp_path / "out"
    done = deidentify_folder(folder, out, key=bytes(32), options=Options(False, True, True))
    assert done.report.written == 4
    assert done.report.skipped["archive"] == 2
    reasons = {r.path.name: r.reason for r in done.refused}
    assert "ends too early" in reasons["DOE_JANE.zip"]
    assert "points outside" in reasons["c.tar"]
    assert len(done.refused) == 2 + 4
    assert "DOE" not in (out / "report.json").read_text()


def test_what_is_packed_otherwise_is_named(stack, tmp_path):
    """A RAR or a packed slice was "not a DICOM file", and deidentify passed it over; packed text still is."""
    slice_ = next(stack.iterdir()).read_bytes()
    folder = tmp_path / "sent"
    folder.mkdir()
    (folder / "a.rar").write_bytes(b"Rar!\x1a\7\1\0" + bytes(300))
    (folder / "b.dcm.gz").write_bytes(gzip.compress(slice_))
    (folder / "c.dcm.xz").write_bytes(lzma.compress(slice_))
    (folder / "notes.txt.gz").write_bytes(gzip.compress(b"nothing"))
    found = scan(folder)
    assert found.ledger["unsupported"] == 3
    assert found.ledger["not_dicom"] == 1
    assert all(r.reason.endswith("unpack it") for r in found.refused)
    options = Options(False, True, True)
    done = deidentify_folder(folder, tmp_path / "out", key=bytes(32), options=options)
    assert len(done.refused) == 3


@pytest.mark.parametrize("start", [b"", bytes(128) + b"DICM"])
def test_a_file_that_begins_with_zeros_is_no_empty_tar(tmp_path, start):
    """A damaged slice was taken for one, and had no line in the ledger."""
    path = tmp_path / "a.dcm"
    path.write_bytes(start + bytes(10240))
    assert not is_archive(path)
    (entry,) = find_cases(path).scan.entries
    assert entry.status in ("not_dicom", "damaged")


def padded(path, header: tarfile.TarInfo, content: bytes, times: int) -> None:
    """A packed tar of one header, content again and again, and a member."""
    with gzip.open(path, "wb", 1) as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        for _ in range(times):
            file.write(content)
        file.write(tarfile.TarInfo("x").tobuf() + bytes(1024))


@pytest.mark.attack
@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_a_tar_with_a_name_without_end_is_refused(tmp_path, monkeypatch, kind):
    """2 MB that were read as a name of 400 MB took 3 GiB, already when it was asked whether it is a tar."""
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = kind, 64 * 2**20
    padded(tmp_path / "a.tar.gz", header, b"a" * 2**20, 64)
    most = []
    read = gzip.GzipFile.read
    monkeypatch.setattr(gzip.GzipFile, "read", lambda self, n=-1: most.append(n) or read(self, n))
    with pytest.raises(UserError, match="cannot be unpacked"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "out")
    assert max(most) < 2**21


@pytest.mark.attack
def test_a_tar_whose_files_have_holes_is_refused(tmp_path):
    """A map of holes of any length was kept in memory."""
    header = tarfile.TarInfo("s")
    header.type = tarfile.GNUTYPE_SPARSE
    padded(tmp_path / "a.tar.gz", header, b"", 0)
    with pytest.raises(UserError, match="cannot be unpacked"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "out")


@pytest.mark.attack
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_of_one_name_take_no_hours(tmp_path, monkeypatch):
    """Each looked for a place from the first on: 50,000 of them, 4 MB, more than a billion times."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for n in range(1500):
            archive.writestr("a", str(n % 10))
    asked = []
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda self, **more: asked.append(1) or exists(self, **more))
    with pytest.raises(UserError, match="have one name"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    assert len(asked) < 10_000


@pytest.mark.attack
@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz", "a.7z"])
def test_an_archive_of_too_many_files_is_refused(tmp_path, monkeypatch, name):
    """Empty members are no bytes, and still a file each."""
    (tmp_path / "in").mkdir()
    for n in range(6):
        (tmp_path / "in" / str(n)).write_bytes(b"")
    packed(tmp_path / "in", tmp_path / name)
    monkeypatch.setattr(module, "MOST_MEMBERS", 5)
    with pytest.raises(UserError, match="more than 5 files"):
        unpack(tmp_path / name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.attack
def test_many_archives_of_one_name_take_no_hours(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "inner.zip", "w") as archive:
        archive.writestr("x", "y")
    files = []
    for n in range(60):
        files.append(tmp_path / str(n) / "a.zip")
        files[-1].parent.mkdir()
        shutil.copy(tmp_path / "inner.zip", files[-1])
    asked = []
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda self, **more: asked.append(1) or exists(self, **more))
    (tmp_path / "room").mkdir()
    found = with_unpacked(files, lambda: tmp_path / "room")
    assert len(found.files) == 120
    assert len(asked) < 1000
