"""Backup, restore and verify: a drill on SQLite and PostgreSQL, with kills in the middle of each, and
damage of every kind."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pacs import free_port
from slices import write_stack
from sqlalchemy import select
from typer.testing import CliRunner

from medfuse.cli import app
from medfuse.errors import UserError, WrongUse
from medfuse.library import Library, accounts, audit, integrity, store
from medfuse.library.audit_check import differences
from medfuse.library.backup import MANIFEST, backup, content_path, read_manifest
from medfuse.library.catalogue import SeriesRow
from medfuse.library.image_files import content_hash, stored_path
from medfuse.library.ingest import ingest
from medfuse.library.restoration import restore, verify_backup
from medfuse.network.answers import commitment_result
from medfuse.network.client import send_files
from medfuse.network.node import Node, NodeOptions, Peer

STEP = 2.5


def stack(folder: Path, n: int = 3, **kwargs) -> Path:
    write_stack(folder, [(0, 0, STEP * k) for k in range(n)], **kwargs)
    return folder


@pytest.fixture
def library(database, home, tmp_path):
    """One case of three files, an account, and something of the user's own."""
    with Library() as library:
        ingest(library, stack(tmp_path / "in"))
        accounts.add_account(library, "ann", "correct horse", "author")
        (home / "bundles" / "own").mkdir(parents=True)
        (home / "bundles" / "own" / "config.json").write_text("{}")
        (home / "cache").mkdir()
        (home / "cache" / "big").write_text("made anew")
        yield library


@pytest.fixture
def elsewhere(request, database, tmp_path, monkeypatch):
    """An empty home (and database) to restore into."""
    if database == "postgresql":
        monkeypatch.setenv("MEDFUSE_DATABASE_URL", request.getfixturevalue("postgres")())
    monkeypatch.setenv("MEDFUSE_HOME", str(tmp_path / "new"))
    with Library() as new:
        yield new


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def images(library) -> list[Path]:
    return sorted(p for p in (library.home / "images").rglob("*") if p.is_file())


def test_a_restored_library_is_the_one_that_was_backed_up(library, elsewhere, tmp_path):
    done = backup(library, tmp_path / "copy")
    assert (done.images, done.damaged, done.skipped) == (3, (), ())
    assert verify_backup(tmp_path / "copy") == integrity.Verified(images=3, damaged=())
    got = restore(elsewhere, tmp_path / "copy")
    assert (got.images, got.damaged, got.differences) == (3, (), ())
    assert [asdict(c) for c in store.list_cases(elsewhere)] == [asdict(c) for c in store.list_cases(library)]
    case_id = store.list_cases(library)[0].case_id
    old, new = (store.load_case(x, case_id) for x in (library, elsewhere))
    assert [i.source.sha256 for i in old.images] == [i.source.sha256 for i in new.images]
    assert not new.refused
    assert accounts.authenticate(elsewhere, "ann", "correct horse").role == "author"
    assert [e.event for e in audit.entries(elsewhere)][-2:] == ["library backed up", "library restored"]
    assert (elsewhere.home / "bundles" / "own" / "config.json").exists()
    assert not (elsewhere.home / "cache").exists()
    others = [
        p for p in (elsewhere.home, *elsewhere.home.rglob("*")) if p.is_file() and p.stat().st_mode & 0o77
    ]
    assert [p for p in others if not p.name.endswith(".lock")] == []


def test_a_second_backup_copies_what_is_new_and_keeps_the_first_until_it_is_whole(
    library, tmp_path, monkeypatch
):
    copy = tmp_path / "copy"
    backup(library, copy)
    first = read_manifest(copy)
    ingest(
        library,
        stack(tmp_path / "more", 2, PatientID="other", StudyInstanceUID="1.2.77", SeriesInstanceUID="1.2.78"),
    )
    full = shutil.disk_usage(copy)._replace(free=0)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: full)
        with pytest.raises(UserError, match="free space or choose another folder"):
            backup(library, copy)
    assert read_manifest(copy) == first
    assert verify_backup(copy).damaged == ()
    done = backup(library, copy)
    assert (done.images, done.copied) == (5, 4)  # two images, the database, an anchor
    assert {p.name for p in (copy / "content").glob("*/*")} == {
        f.sha256 for m in [read_manifest(copy)] for f in (m.snapshot, *m.files.values())
    }


def test_a_damaged_or_changed_backup_is_refused_by_name(library, elsewhere, tmp_path):
    copy = tmp_path / "copy"
    backup(library, copy)
    manifest = read_manifest(copy)
    name, file = next((n, f) for n, f in manifest.files.items() if n.startswith("images/"))
    for spoil in (damage, Path.unlink):
        whole = content_path(copy, file.sha256).read_bytes()
        spoil(content_path(copy, file.sha256))
        with pytest.raises(UserError, match=f"backup is damaged: {name}"):
            restore(elsewhere, copy)
        assert [d.file for d in verify_backup(copy).damaged] == [name]
        content_path(copy, file.sha256).write_bytes(whole)
    text = (copy / MANIFEST).read_text()
    for old, new, said in (
        (f'"{name}"', '"../../escaped"', "no path below"),
        ('"bundles/own/config.json"', '"bundles/own/other.json"', "the backup was changed"),
        ('"with_key": true', '"with_key": "perhaps"', "backup.json: is damaged"),
        (f'"revision": "{manifest.revision}"', '"revision": "9999"', "newer medfuse"),
    ):
        assert old in text
        (copy / MANIFEST).write_text(text.replace(old, new))
        with pytest.raises(UserError, match=said):
            restore(elsewhere, copy)
    (copy / MANIFEST).unlink()
    with pytest.raises(UserError, match="no whole backup"):
        restore(elsewhere, copy)
    assert not elsewhere.home.exists() or not list(elsewhere.home.iterdir())
    assert not (tmp_path.parent / "escaped").exists()


@pytest.mark.parametrize(
    "name", ["a" * 32 + ".part" + end for end in ("", "-journal", "-wal")] + [f"{MANIFEST}.part"]
)
def test_what_a_killed_backup_left_is_in_nobodys_way(library, tmp_path, name):
    """SQLite's own file beside an unfinished copy closed the folder to every later backup."""
    copy = tmp_path / "copy"
    copy.mkdir()
    left = copy / f".{name}"
    left.write_bytes(b"x")
    backup(library, copy)
    assert not left.exists()
    (copy / "letter.part").write_bytes(b"x")
    with pytest.raises(UserError, match="other files"):
        backup(library, copy)


def test_a_place_that_is_in_use_is_refused(library, home, tmp_path):
    copy = tmp_path / "copy"
    backup(library, copy)
    with pytest.raises(WrongUse, match="is not empty"):
        restore(library, copy)
    for wrong in (home / "inside", home.parent):
        with pytest.raises(WrongUse, match="the library's own home"):
            backup(library, wrong)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(WrongUse, match=r"holds other files \(thesis.txt\)"):
        backup(library, tmp_path / "full")
    with pytest.raises(WrongUse, match="holds no library"):
        backup(Library(tmp_path / "nothing", url=f"sqlite:///{tmp_path}/nothing.db"), copy)


def test_the_key_may_be_kept_apart(library, elsewhere, home, tmp_path):
    copy = tmp_path / "copy"
    backup(library, copy, with_key=False)
    with pytest.raises(WrongUse, match="--key FILE"):
        restore(elsewhere, copy)
    (tmp_path / "other.key").write_text("00" * 32)
    with pytest.raises(UserError, match=r"its key is not that of .*other.key"):
        restore(elsewhere, copy, key_file=tmp_path / "other.key")
    assert restore(elsewhere, copy, key_file=home / "audit.key").differences == ()


def test_a_backup_of_the_other_database_is_refused(home, tmp_path, postgres, monkeypatch):
    ingest(Library(), stack(tmp_path / "in"))
    backup(Library(), tmp_path / "copy")
    with pytest.raises(WrongUse, match="holds a sqlite database, and MEDFUSE"):
        restore(Library(tmp_path / "new", url=postgres()), tmp_path / "copy")


# Called with a folder, and a number: it kills itself (SIGKILL) at this report of its progress.
KILLED = """
import os, signal, sys
from pathlib import Path
from medfuse.library import Library
from medfuse.library.backup import backup
from medfuse.library.restoration import restore
act, folder, least, most = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
for last in range(least, most):
    if os.fork() == 0:
        left = last
        def progress(done, total):
            global left
            left -= 1
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
        {"backup": backup, "restore": restore}[act](Library(), folder, progress=progress)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""


def killed(act: str, folder: Path, least: int, most: int) -> list[int]:
    command = [sys.executable, "-c", KILLED, act, str(folder), str(least), str(most)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [int(line) for line in done.stdout.split()]


def test_killed_in_the_middle_nothing_is_half(library, elsewhere, tmp_path, monkeypatch):
    """SIGKILL at every image of a backup and at every file of a restore."""
    copy = tmp_path / "copy"
    with monkeypatch.context() as patch:
        patch.setenv("MEDFUSE_HOME", str(library.home))
        patch.setenv("MEDFUSE_DATABASE_URL", library.url)
        assert killed("backup", copy, 1, 4) == [-signal.SIGKILL] * 3
        assert read_manifest(copy) is None
        backup(library, copy)
        whole = read_manifest(copy)
        ingest(
            library,
            stack(
                tmp_path / "more", 2, PatientID="other", StudyInstanceUID="1.2.77", SeriesInstanceUID="1.2.78"
            ),
        )
        assert killed("backup", copy, 1, 6) == [-signal.SIGKILL] * 5
    assert read_manifest(copy) == whole
    assert verify_backup(copy).damaged == ()
    total = 1 + 2 * len(whole.files)  # each is checked, then restored
    ends = killed("restore", copy, 2, total)
    assert ends == [-signal.SIGKILL] * (total - 2)
    with pytest.raises(UserError, match="a restore was stopped in the middle"):
        store.list_cases(elsewhere)
    assert restore(elsewhere, copy).differences == ()
    assert integrity.verify(elsewhere) == integrity.Verified(images=3, damaged=())


# Adds cases and says so once each is kept.
WRITER = """
import sys
from medfuse.library import Library, accounts, audit
from medfuse.library.catalogue import CaseRow
library = Library()
for n in range(100000):
    with library.session() as s:
        s.add(CaseRow(id=f"{sys.argv[1]}-{n}"))
        audit.enter(s, "case added", case_id=f"{sys.argv[1]}-{n}")
    if n % 5 == 0:
        accounts.add_account(library, f"{sys.argv[1]}-{n}", "long enough word", "reader")
    print(f"{sys.argv[1]}-{n}", flush=True)
"""


@pytest.mark.parametrize("turns", [2, pytest.param(40, marks=pytest.mark.slow)])
def test_what_was_acknowledged_is_in_the_next_backup(database, turns, home, tmp_path, monkeypatch, request):
    """Two writers are killed while a backup is made, again and again."""
    acknowledged: list[str] = []
    urls = [request.getfixturevalue("postgres")() for _ in range(turns)] if database == "postgresql" else []
    for turn in range(turns):
        command = [sys.executable, "-c", WRITER, str(turn)]
        writers = [
            subprocess.Popen([*command[:-1], f"{turn}{name}"], stdout=subprocess.PIPE, text=True)
            for name in "ab"
        ]
        seen = [w.stdout.readline().strip() for w in writers]  # both are at work
        timer = threading.Timer(0.05 * (turn % 5), lambda ws=writers: [w.kill() for w in ws])
        timer.start()
        backup(Library(), tmp_path / "copy")
        timer.join()
        late = [line.strip() for w in writers for line in w.communicate()[0].splitlines() if line.strip()]
        acknowledged += seen
        new = Library(tmp_path / f"new{turn}", url=urls[turn] if urls else None)
        got = restore(new, tmp_path / "copy")
        assert got.differences == ()
        there = {c.case_id for c in store.list_cases(new)}
        assert set(acknowledged) <= there
        acknowledged += late
        assert set(acknowledged) <= {c.case_id for c in store.list_cases(Library())}
    assert differences(Library()) == []


def test_a_damaged_image_is_set_aside_and_said(library, home, tmp_path):
    case_id = store.list_cases(library)[0].case_id
    first, second, _ = images(library)
    damage(first)
    second.unlink()
    result = CliRunner().invoke(app, ["verify", "--json"])
    said = json.loads(result.stdout)
    assert (result.exit_code, said["images"]) == (1, 3)
    assert [(d["file"], d["cases"]) for d in said["damaged"]] == [
        (first.name, [case_id]),
        (second.name, [case_id]),
    ]
    assert "not what was stored" in said["damaged"][0]["what"]
    assert not first.exists()
    assert (home / "quarantine" / f"{first.name}.damaged").exists()
    assert [e.event for e in audit.entries(library)][-1] == "image set aside"
    assert differences(library) == []
    refused = store.load_case(library, case_id).refused
    assert len(refused) == 1
    assert refused[0].reason.startswith("2 of its 3 files: ")
    assert refused[0].reason.endswith("ingest it again, or restore a backup")
    ingest(library, tmp_path / "in")  # the files are looked at again
    assert integrity.verify(library).damaged == ()
    assert not store.load_case(library, case_id).refused


def test_a_damaged_image_is_not_used_unless_the_check_is_off(library, home, monkeypatch):
    case_id = store.list_cases(library)[0].case_id
    damage(images(library)[0])
    monkeypatch.setenv("MEDFUSE_CHECK_IMAGES", "false")
    assert len(store.load_case(Library(), case_id).images) == 1
    monkeypatch.setenv("MEDFUSE_CHECK_IMAGES", "true")
    case = store.load_case(Library(), case_id)
    assert not case.images
    assert case.refused[0].reason.startswith("1 of its 3 files: damaged (its content is not what was stored)")


def test_an_image_that_the_disk_cannot_read_is_named(library, monkeypatch):
    bad = images(library)[0]
    real = Path.open

    def broken(self, *args, **kwargs):
        if self == bad:
            raise OSError(5, "Input/output error")
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", broken)
    assert "cannot be read: Input/output error" in integrity.verify(library).damaged[0].what


def test_a_backup_says_which_images_it_could_not_take(library, elsewhere, tmp_path):
    bad = images(library)[0]
    damage(bad)
    assert backup(library, tmp_path / "copy").damaged == (bad.name,)
    assert restore(elsewhere, tmp_path / "copy").damaged == (bad.name,)


def test_the_node_sends_no_damaged_object_and_takes_it_again(home, tmp_path):
    files = sorted(stack(tmp_path / "in").rglob("*.dcm"))
    node = Node(NodeOptions(port=free_port()))
    node.start()
    try:
        peer = Peer("MEDFUSE", "127.0.0.1", node.options.port)
        assert send_files(peer, files).sent == 3
        library = node.archive.library
        damage(images(library)[0])
        asked = pydicom.Dataset()
        asked.TransactionUID = "1.2.3"
        asked.ReferencedSOPSequence = []
        for file in files:
            ds = pydicom.dcmread(file)
            item = pydicom.Dataset()
            item.ReferencedSOPClassUID = ds.SOPClassUID
            item.ReferencedSOPInstanceUID = ds.SOPInstanceUID
            asked.ReferencedSOPSequence.append(item)
        assert len(commitment_result(library, asked).FailedSOPSequence) == 1
        assert len(images(library)) == 2
        assert send_files(peer, files).sent == 3
        assert "FailedSOPSequence" not in commitment_result(library, asked)
    finally:
        node.stop()


def test_backup_and_restore_say_what_they_did(home, tmp_path, monkeypatch):
    ingest(Library(), stack(tmp_path / "in"))
    run = CliRunner()
    made = run.invoke(app, ["backup", str(tmp_path / "copy")])
    assert made.exit_code == 0
    assert "keep it as private as the library" in made.stdout
    assert run.invoke(app, ["verify", str(tmp_path / "copy")]).stdout.strip() == "3 images, 0 damaged"
    monkeypatch.setenv("MEDFUSE_HOME", str(tmp_path / "new"))
    got = run.invoke(app, ["restore", str(tmp_path / "copy")])
    assert (got.exit_code, "the audit log is whole" in got.stdout) == (0, True)
    assert stored_path(Library(), images(Library())[0].name).exists()


STATED = {
    "Modality": "PT",
    "Units": "Bq/ml",
    "DecayCorrection": "ADMIN",
    "CorrectedImage": ["DECY", "ATTN"],
    "PatientWeight": 70,
    "RadionuclideTotalDose": 350e6,
}


@pytest.fixture
def uptake(tmp_path):
    """A volume of PET whose unit stands in the JSON beside it alone."""
    path = tmp_path / "pet.nii.gz"
    nib.save(nib.Nifti1Image(np.full((4, 4, 4), 1000, np.float32), np.diag([4.0, 4, 4, 1])), path)
    (tmp_path / "pet.json").write_text(json.dumps(STATED))
    return path


def test_the_json_beside_a_volume_comes_back_with_it(uptake, home, tmp_path):
    old, new = Library(home), Library(tmp_path / "new")
    case_id = store.add_nifti(old, [(uptake, "PT")])
    done = backup(old, tmp_path / "copy")
    assert done.images == 1
    assert verify_backup(tmp_path / "copy").images == 1
    restore(new, tmp_path / "copy")
    (image,) = store.load_case(new, case_id).images
    assert image.pixels.max() == pytest.approx(0.2)
    assert differences(new) == []


def test_the_json_beside_a_volume_of_an_older_library_is_in_the_backup(uptake, home, tmp_path):
    old, new = Library(home), Library(tmp_path / "new")
    case_id = store.add_nifti(old, [(uptake, "PT")])
    store.load_case(old, case_id)  # puts it beside the volume, where it was kept before
    with old.session() as s:
        row = s.scalars(select(SeriesRow)).one()
        stored_path(old, row.files[1]).unlink()
        row.files = row.files[:1]
    backup(old, tmp_path / "copy")
    restore(new, tmp_path / "copy")
    assert store.load_case(new, case_id).images[0].pixels.max() == pytest.approx(0.2)


@pytest.mark.attack
def test_a_weight_changed_in_the_library_changes_no_uptake(uptake, home):
    """A tenth of the patient's weight in the JSON beside the volume, and every SUV was a tenth."""
    library = Library(home)
    case_id = store.add_nifti(library, [(uptake, "PT")])
    (image,) = store.load_case(library, case_id).images
    before = image.pixels.max()
    sides = [p for p in images(library) if p.suffix == ".json"]
    beside = next(p for p in sides if content_hash(p) != p.name[:64])
    beside.write_text(json.dumps(STATED | {"PatientWeight": 7}))
    (image,) = store.load_case(library, case_id).images
    assert image.pixels.max() == before
    kept = next(p for p in sides if p != beside)
    kept.write_text(json.dumps(STATED | {"PatientWeight": 7}))
    assert [d.file for d in integrity.verify(library).damaged] == [kept.name]
    assert not store.load_case(library, case_id).images
