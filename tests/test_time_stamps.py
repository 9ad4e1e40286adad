"""The audit log stamped by an authority outside (RFC 3161): a real one, `openssl ts`, on loopback. Attacked
by somebody who has the home folder with every key in it."""

from __future__ import annotations

import json
import shutil
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from certificates import time_stamp_authority
from sqlalchemy import select
from typer.testing import CliRunner

from medfuse.cli import app
from medfuse.errors import UserError, WrongUse
from medfuse.library import Library, audit, audit_key
from medfuse.library.audit_check import Stamps, differences
from medfuse.library.audit_rows import AuditedSession
from medfuse.library.backup import backup
from medfuse.library.catalogue import AuditHeadRow, AuditRow
from medfuse.library.restoration import restore
from medfuse.library.time_stamps import stamp


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """(address, certificate) of the authority that is trusted."""
    folder = tmp_path_factory.mktemp("tsa")
    with time_stamp_authority(folder / "honest") as address:
        yield address, folder / "honest" / "ca.pem"


@pytest.fixture
def stamped(home, authority):
    """A library of three entries, of which the second was stamped."""
    with Library(home) as library:
        audit.record(library, "first")
        audit.record(library, "second", text="as it was")
        stamp(library, *authority)
        audit.record(library, "later")
        assert differences(library, Stamps(authority[1])) == []
        yield library


def said(library: Library, stamps: Stamps) -> str:
    found = differences(library, stamps)
    assert {d.kind for d in found} <= {"time stamp"}
    return "\n".join(d.what for d in found)


def stamps_of(library: Library) -> list[Path]:
    return sorted((library.home / "anchors").glob("*.tsr"))


def write_anew(library: Library) -> None:
    """The whole log with another second entry, sealed and anchored with the real key."""
    key = audit_key.need_key(library)
    with AuditedSession(library.engine) as s, s.begin():
        before = name = s.scalars(select(AuditHeadRow.log)).one()
        rows = list(s.scalars(select(AuditRow).order_by(AuditRow.seq)))
        for row in rows:
            row.details = row.details.replace("as it was", "otherwise")
            row.before = before
            before = row.seal = audit.seal_of(key, row)
        newest, month = rows[-1].seq, rows[-1].at[:7]
    for path in (library.home / "anchors").glob("*.json"):
        path.unlink()
    audit_key.begin_anchor(library, key, name, month, first=1, before=name)
    audit_key.anchor(library, key, name, month, newest=newest, head=before)


def test_a_stamp_is_kept_and_verified_by_the_command(stamped, authority, monkeypatch, home, tmp_path):
    monkeypatch.setenv("MEDFUSE_TIMESTAMP_URL", authority[0])
    monkeypatch.setenv("MEDFUSE_TIMESTAMP_CA", str(authority[1]))
    done = CliRunner().invoke(app, ["audit", "--stamp", "--json"], catch_exceptions=False)
    assert done.exit_code == 0
    assert json.loads(done.stdout.splitlines()[-1])["ok"] is True
    assert len(stamps_of(stamped)) == 2
    assert {p.stat().st_mode & 0o777 for p in stamps_of(stamped)} == {0o600}
    assert b"first" not in stamps_of(stamped)[0].read_bytes()
    backup(stamped, tmp_path / "copy")
    restore(Library(tmp_path / "back"), tmp_path / "copy")
    assert len(stamps_of(Library(tmp_path / "back"))) == 2
    assert differences(Library(tmp_path / "back"), Stamps(authority[1])) == []


@pytest.mark.attack
def test_a_log_written_anew_with_the_real_key_is_not_the_stamped_one(stamped, authority, tmp_path):
    (copies := tmp_path / "copies").mkdir()
    shutil.copy(stamps_of(stamped)[0], copies / "of-november.tsr")
    write_anew(stamped)
    assert "is not this one" in said(stamped, Stamps(authority[1]))
    assert "is not this one" in said(stamped, Stamps())
    stamps_of(stamped)[0].unlink()
    assert "removed" in said(stamped, Stamps(authority[1]))
    assert "of-november.tsr: the log that was stamped" in said(stamped, Stamps(authority[1], copies))


@pytest.mark.attack
def test_a_stamp_that_was_changed_or_swapped_is_named(stamped, authority, tmp_path):
    (path,) = stamps_of(stamped)
    whole = path.read_bytes()
    for n in range(0, len(whole), len(whole) // 12):
        path.write_bytes(whole[:n] + bytes([whole[n] ^ 0xFF]) + whole[n + 1 :])
        assert "changed or removed" in said(stamped, Stamps(authority[1]))
    path.write_bytes(b"")
    assert "holds no time stamp" in said(stamped, Stamps(authority[1]))


@pytest.mark.attack
def test_a_stamp_of_the_insiders_own_authority_is_none(stamped, authority, tmp_path):
    with time_stamp_authority(tmp_path / "insider") as address:
        with pytest.raises(UserError, match="not to be trusted"):
            stamp(stamped, address, authority[1])
        assert len(stamps_of(stamped)) == 1
        write_anew(stamped)
        stamps_of(stamped)[0].unlink()
        stamp(stamped, address, tmp_path / "insider" / "ca.pem")
    assert "is no time stamp of the authority" in said(stamped, Stamps(authority[1]))


@pytest.mark.attack
def test_copies_tell_of_a_library_that_is_gone(stamped, authority, tmp_path):
    (copies := tmp_path / "copies").mkdir()
    shutil.copy(stamps_of(stamped)[0], copies)
    assert "is not this one" in said(Library(tmp_path / "new"), Stamps(authority[1], copies))
    with Library(tmp_path / "other") as other:
        audit.record(other, "first")
        assert "is not this one" in said(other, Stamps(authority[1], copies))


@pytest.mark.attack
@pytest.mark.parametrize("data", [b"", b"<html>", b"0" * 10**6, None])
def test_an_answer_that_is_none_or_of_another_day_is_refused(stamped, authority, data):
    answer = stamps_of(stamped)[0].read_bytes() if data is None else data

    class Junk(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Junk) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(UserError, match=r"not to be trusted|too much"):
            stamp(stamped, f"http://127.0.0.1:{server.server_port}/", authority[1])
        server.shutdown()
    assert len(stamps_of(stamped)) == 1


def test_who_stamps_must_be_stated_and_there(stamped, authority, tmp_path):
    with pytest.raises(WrongUse, match="MEDFUSE_TIMESTAMP_URL"):
        stamp(stamped, "", None)
    with pytest.raises(WrongUse, match="MEDFUSE_TIMESTAMP_CA"):
        stamp(stamped, authority[0], None)
    with pytest.raises(UserError, match="no time stamp comes from there"):
        stamp(stamped, "http://127.0.0.1:9/", authority[1])
    with pytest.raises(UserError, match="cannot be used as certificates"):
        stamp(stamped, authority[0], tmp_path / "none.pem")
    with pytest.raises(WrongUse, match="nothing to stamp"):
        stamp(Library(tmp_path / "new"), *authority)
