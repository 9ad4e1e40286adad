"""The home is its owner's alone, and no file of a patient is left outside of it, whatever ends a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import zipfile

import pytest
from sqlalchemy import text

from medfuse.errors import UserError
from medfuse.io.temporary import temporary_folder, temporary_root
from medfuse.library import Library, accounts, audit, privacy


def mode(path):
    return path.stat().st_mode & 0o777


@pytest.fixture
def open_umask():
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.attack
def test_what_is_made_is_its_owners_alone_under_any_umask(home, open_umask):
    with Library() as library:
        accounts.add_account(library, "ann", "correct horse", "author")
        assert mode(home) == 0o700
        kept = ["library.db", "library.db-wal", "library.db-shm", "accounts.json", "audit.key"]
        assert {name: mode(home / name) for name in kept} == dict.fromkeys(kept, 0o600)
        assert mode(home / "anchors") == 0o700


@pytest.mark.attack
def test_what_others_could_read_is_closed_at_the_next_start(home, caplog):
    with Library() as library:
        accounts.add_account(library, "ann", "correct horse", "author")
    for name in ("library.db", "accounts.json", "audit.key", "."):
        (home / name).chmod(0o755)
    with Library() as library:
        assert [e.event for e in audit.entries(library)] == ["account added"]
    assert [mode(home / x) & 0o077 for x in ("library.db", "accounts.json", "audit.key", ".")] == [0] * 4
    assert "others could read it (755)" in caplog.text


@pytest.mark.attack
def test_a_home_that_cannot_be_closed_is_refused(home, monkeypatch):
    def refuse(path):
        raise PermissionError(1, "Operation not permitted", str(path))

    monkeypatch.setattr(privacy, "close_to_others", refuse)
    with pytest.raises(UserError, match="cannot be kept to its owner alone"):
        audit.record(Library(), "seen")


KILLED = """
import os, signal, sys
from pathlib import Path
from medfuse.io.scan import opened
with opened(Path(sys.argv[1])) as folder:
    assert (folder / "a" / "1.dcm").exists()
    os.kill(os.getpid(), int(sys.argv[2]))
"""


@pytest.mark.attack
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_process_leaves_nothing_in_tmp_and_the_next_start_sweeps(home, tmp_path, how):
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as z:
        z.writestr("a/1.dcm", b"PATIENT^NAME")
    (tmp_path / "tmp").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "study.zip"), str(int(how))],
        env=os.environ | {"TMPDIR": str(tmp_path / "tmp")},
        capture_output=True,
    )
    assert done.returncode == -how, done.stderr.decode()
    assert list((tmp_path / "tmp").iterdir()) == []
    (left,) = temporary_root().iterdir()
    assert mode(left) == mode(temporary_root()) == 0o700
    with temporary_folder("other") as mine:
        assert mine.is_dir()
        audit.record(Library(), "started")
        assert list(temporary_root().iterdir()) == [mine]  # the dead one's is gone, the living one's stays
    assert list(temporary_root().iterdir()) == []


def test_making_a_library_private_takes_no_lock_away(home):
    """Another process that opens and closes the database must not think itself the last: it would take the
    write-ahead log away under the first."""
    library = Library()
    with library.engine.connect() as held:
        held.execute(text("SELECT count(*) FROM cases")).all()
        privacy.make_private(library.home, library.home / "library.db")
        other = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT 1 FROM cases'); "
        path = str(library.home / "library.db")
        subprocess.run([sys.executable, "-c", other + "c.close()", path], check=True)
        library.home.joinpath("library.db-wal").stat()
        held.execute(text("SELECT count(*) FROM cases")).all()
