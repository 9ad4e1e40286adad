"""What the machine may do to medfuse: each a state that is said in one sentence, from which it goes on."""

from __future__ import annotations

import errno
import json
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy.exc import OperationalError
from test_cli import run

from medfuse.errors import UserError, os_fault
from medfuse.faults import DATABASE, DISK, GONE, fault_sentence
from medfuse.io import child
from medfuse.library import Library, audit, health, library, store
from medfuse.library.accounts import add_account
from medfuse.library.audit_check import differences
from medfuse.library.backup import backup


@pytest.fixture
def cli(monkeypatch, capsys):
    return lambda *args: run(monkeypatch, capsys, *args)


@pytest.mark.parametrize("number", DISK)
def test_a_disk_that_refuses_is_one_sentence(cli, home, monkeypatch, number):
    def refuse(*_args: object, **_named: object) -> None:
        raise OSError(number, "refused", str(home / "x"))

    monkeypatch.setattr(store, "list_cases", refuse)
    code, _, err = cli("cases")
    assert code == 1
    assert err == f"medfuse: {home / 'x'}: {DISK[number]}\n"


@pytest.mark.parametrize("command", ["ingest {}", "predict {}", "deidentify {} --out o", "batch {} --out o"])
def test_a_name_that_no_file_can_have_is_one_sentence(cli, home, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    code, _, err = cli(*command.format("x" * 300).split())
    assert code in (1, 2)
    assert "long a name" in err or "check the path" in err or "no such" in err


def test_too_little_memory_is_one_sentence(cli, home, monkeypatch):
    def refuse(*_args: object, **_named: object) -> None:
        raise MemoryError

    monkeypatch.setattr(store, "list_cases", refuse)
    code, _, err = cli("cases")
    assert code == 1
    assert "too little memory" in err


@pytest.mark.parametrize("word", DATABASE)
def test_what_a_database_says_is_one_sentence(word):
    said = fault_sentence(OperationalError("select", {}, Exception(f"x {word} y")))
    assert said == f"the library's database: {DATABASE[word]}"


def test_a_mistake_of_ours_is_no_fault_of_the_machine():
    for error in (ValueError("x"), KeyError("x"), OSError(errno.ENOENT, "no such file"), OSError("x")):
        assert fault_sentence(error) is None


def test_a_damaged_database_is_named_and_keeps_its_bytes(cli, home):
    home.mkdir(exist_ok=True)
    damaged = b"not a database" * 400
    (home / "library.db").write_bytes(damaged)
    code, _, err = cli("cases")
    assert code == 1
    assert f"{home / 'library.db'}: it is damaged; bring a backup back" in err
    assert (home / "library.db").read_bytes() == damaged


def test_a_locked_database_is_waited_for_then_named_and_used_afterwards(cli, home, monkeypatch):
    cli("account", "list")
    add_account(Library(), "ann", "correct horse battery", "author")
    monkeypatch.setattr(library, "LOCK_WAIT_S", 0.2)
    monkeypatch.setenv("MEDFUSE_PASSWORD", "a long enough password")
    with sqlite3.connect(home / "library.db", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        code, _, err = cli("account", "add", "bo")
        assert code == 1
        assert "another program holds it" in err
        other.execute("ROLLBACK")
    assert cli("account", "add", "bo")[0] == 0
    assert not differences(Library())


def test_a_database_server_that_is_gone_is_named(cli, home, monkeypatch):
    monkeypatch.setenv("MEDFUSE_DATABASE_URL", "postgresql+psycopg://x@127.0.0.1:1/x")
    code, _, err = cli("cases")
    assert code == 1
    assert err == f"medfuse: the library's database x at 127.0.0.1: {GONE}\n"
    assert health.healthz(Library())[0] == 503


@pytest.mark.parametrize("url", ["nonsense://", "no url", "mssql+pymssql://x"])
def test_an_address_of_no_database_is_one_sentence(cli, monkeypatch, url):
    monkeypatch.setenv("MEDFUSE_DATABASE_URL", url)
    code, _, err = cli("cases")
    assert code == 1
    assert err.startswith("medfuse: MEDFUSE_DATABASE_URL: no such kind of database")


def test_readers_that_cannot_start_end_a_command_at_once(cli, tmp_path, monkeypatch, patient_dicom):
    """Each of a thousand files would start another, in vain."""
    monkeypatch.setattr(child, "_shared", None)
    monkeypatch.setenv("MEDFUSE_DECODE_MEMORY_GIB", "0.01")
    code, _, err = cli("ingest", str(patient_dicom))
    child.children().stop()
    assert code == 1
    assert "no process that reads files can start" in err


@pytest.mark.parametrize("command", ["simulate --cases 1", "train upper-abdomen --manifest m.jsonl"])
def test_an_output_that_is_a_file_is_named_first(cli, tmp_path, command):
    (tmp_path / "out").write_text("kept")
    code, _, err = cli(*command.split(), "--out", str(tmp_path / "out"))
    assert code == 1
    assert "is a file, not a folder" in err


def test_a_backup_that_fails_leaves_no_part_of_it(home, tmp_path, monkeypatch):
    audit.record(Library(home), "something")

    def refuse(*_args: object, **_named: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr("medfuse.library.snapshot.sqlite_file", refuse)
    with pytest.raises(UserError, match="cannot be copied"):
        backup(Library(home), tmp_path / "copy")
    assert not list((tmp_path / "copy").glob(".*.part"))


def test_a_page_of_the_viewer_says_it_too(home, monkeypatch):
    from test_viewer import page

    home.mkdir(exist_ok=True)
    (home / "library.db").write_bytes(b"not a database" * 400)
    app = page()
    assert not app.exception
    assert any("damaged" in e.value for e in app.error)


@pytest.mark.parametrize("days", [-400, -31, 31, 400])
def test_a_clock_that_jumps_breaks_neither_log_nor_anchors(home, monkeypatch, days):
    here = Library(home)
    audit.record(here, "before")
    moved = datetime.now(UTC) + timedelta(days=days)
    monkeypatch.setattr(audit, "datetime", SimpleNamespace(now=lambda zone: moved))
    audit.record(here, "jumped")
    monkeypatch.undo()
    audit.record(Library(home), "after")
    assert not differences(Library(home))
    assert [e.event for e in audit.entries(Library(home))] == ["before", "jumped", "after"]


def test_the_system_s_words_are_found_inside_a_library_s():
    """pydicom adds the element that it wrote, and a traceback."""
    outer = OSError("With tag (7FE0,0010) got exception\nTraceback (most recent call last):")
    outer.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert os_fault(outer) == "No space left on device"
    assert os_fault(OSError("two\nlines")) == "two"


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_to_kills():
    script = Path(__file__).with_name("kills.py")
    done = subprocess.run([sys.executable, str(script), "--kills", "40"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert (said["kills"], said["lost"], said["half"]) == (40, 0, 0)
