"""Reports over MLLP: what is acknowledged is on disk, whoever sends, floods or hangs up."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest
from hl7.client import MLLPClient

from medfuse.cohort import listen as module
from medfuse.cohort.hl7v2 import read_hl7
from medfuse.cohort.listen import Listener, ListenOptions, acknowledgement
from medfuse.errors import UserError, WrongUse


def oru(n, kind="ORU^R01"):
    return "\r".join(
        [
            f"MSH|^~\\&|RIS|H|MF|H|202401051200||{kind}|M{n}|P|2.5.1||||||UNICODE UTF-8",
            "PID|1||P7^^^HIS-A^MR||DOE^JANE||19500102|F",
            f"OBR|1||A{n}|CTAB^CT ABDOMEN|||202401051000||||||||||||||||||F",
            f"OBX|1|TX|CTAB&GDT^CT||無膽結石 {n}.||||||F",
        ]
    )


@contextmanager
def listening(folder, **more):
    """A listener in a thread; it and its port."""
    listener = Listener(ListenOptions(folder=folder, port=0, **more))
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    up = threading.Event()
    ports = []

    def ready(port):
        ports.append(port)
        up.set()

    thread = threading.Thread(target=lambda: loop.run_until_complete(listener.run(stop, ready=ready)))
    thread.start()
    try:
        assert up.wait(10)
        yield listener, ports[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def test_what_is_acknowledged_is_on_disk(tmp_path):
    with listening(tmp_path / "in") as (listener, port):
        with MLLPClient("127.0.0.1", port) as client:
            answers = [client.send_message(oru(n)).decode() for n in (1, 2, 2)]
        assert all("MSA|AA|M" in a for a in answers)
        assert "MSA|AA|M2" in answers[2]
    assert (listener.counts.kept, listener.counts.again, listener.counts.cut) == (3, 1, 0)
    files = sorted((tmp_path / "in").glob("*.hl7"))
    assert len(files) == 2
    rows = [row for f in files for row in read_hl7(f).rows]
    assert {r.accession for r in rows} == {"A1", "A2"}
    assert all("無膽結石" in r.text for r in rows)
    assert files[0].stat().st_mode & 0o777 == 0o600


def test_a_flood_loses_nothing(tmp_path):
    def send(start):
        with MLLPClient("127.0.0.1", port) as client:
            return [b"|AA|" in client.send_message(oru(n)) for n in range(start, start + 25)]

    with listening(tmp_path) as (listener, port), ThreadPoolExecutor(8) as pool:
        assert all(all(x) for x in pool.map(send, range(0, 200, 25)))
    assert len(list(tmp_path.glob("*.hl7"))) == listener.counts.kept == 200
    assert not list(tmp_path.glob(".*.part"))


def test_the_same_message_from_many_at_once_is_one_file(tmp_path):
    def send(_):
        with MLLPClient("127.0.0.1", port) as client:
            return [b"|AA|" in client.send_message(oru(n)) for n in range(20)]

    with listening(tmp_path) as (listener, port), ThreadPoolExecutor(8) as pool:
        assert all(all(x) for x in pool.map(send, range(8)))
    assert (len(list(tmp_path.iterdir())), listener.counts.kept, listener.counts.failed) == (20, 160, 0)


@pytest.mark.attack
def test_what_is_no_report_leaves_no_file(tmp_path):
    with listening(tmp_path, most_bytes=5_000, silence_s=0.5) as (listener, port):
        with MLLPClient("127.0.0.1", port) as client:
            assert b"|AR|" in client.send_message(oru(1, "ADT^A01"))
            assert b"|AR|" in client.send_message(oru(1, "../../ORU"))
            assert b"|AR|" in client.send_message("no HL7 at all")
        for bad in (b"\x0b" + oru(1).encode(), b"GET / HTTP/1.1\r\n\x1c\r", b"\x0b" + b"x" * 9_000, b""):
            with socket.create_connection(("127.0.0.1", port)) as s:
                s.sendall(bad)
                s.settimeout(5)
                assert s.recv(100) == b""  # cut or silent: closed, never acknowledged
    assert listener.counts.rejected == 3
    assert listener.counts.cut == 4
    assert not list(tmp_path.iterdir())


@pytest.mark.attack
def test_a_header_of_a_million_fields_keeps_nobody_waiting(tmp_path):
    """Each was parsed for half a minute, and the answer to it while everybody else waited."""
    header = oru(1).split("\r")[0].encode()
    with listening(tmp_path) as (_, port), MLLPClient("127.0.0.1", port) as client:
        began = time.monotonic()
        assert b"|AR|" in client.send_message(header + b"|" * 1_000_000)
        assert b"|AR|" in client.send_message(b"MSH|^~\\&|" + b"^&~" * 300_000)
        assert b"|AA|" in client.send_message(oru(1))
        assert time.monotonic() - began < 5
    (tmp_path / "endless.hl7").write_bytes(oru(2).encode() + b"|~^&" * 300_000)
    (refused,) = read_hl7(tmp_path / "endless.hl7").refused
    assert "fields and parts" in refused.reason
    assert time.monotonic() - began < 8


@pytest.mark.attack
def test_silent_connections_keep_no_sender_out(tmp_path, monkeypatch):
    """All places taken by one that says nothing: for five minutes nobody else could send."""
    monkeypatch.setattr(module, "IDLE_S", 0.05)
    with listening(tmp_path, connections=3) as (_, port), ExitStack() as ends:
        silent = [ends.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(3)]
        silent[0].sendall(b"\x0bMSH|^~")
        time.sleep(0.3)
        with MLLPClient("127.0.0.1", port) as client:
            assert b"|AA|" in client.send_message(oru(1))


def test_a_full_disk_is_an_error_that_the_sender_keeps(tmp_path, monkeypatch):
    def full(path, data):
        raise OSError(28, "No space left on device")

    with listening(tmp_path) as (listener, port), MLLPClient("127.0.0.1", port) as client:
        with monkeypatch.context() as patch:
            patch.setattr(module, "write_durably", full)
            assert b"|AE|" in client.send_message(oru(1))
        assert b"|AA|" in client.send_message(oru(1))
    assert (listener.counts.failed, listener.counts.kept) == (1, 1)


def test_only_those_who_may_send_are_taken(tmp_path):
    with pytest.raises(WrongUse, match="name who may send with --allow"):
        ListenOptions(folder=tmp_path, address="0.0.0.0")
    with pytest.raises(WrongUse, match="does not appear to be"):
        ListenOptions(folder=tmp_path, allow=("hospital",))
    with listening(tmp_path, allow=("192.0.2.1",)) as (_, port):
        with socket.create_connection(("127.0.0.1", port)) as s:
            s.settimeout(5)
            assert s.recv(10) == b""
        taken = Listener(ListenOptions(folder=tmp_path, port=port))
        with pytest.raises(UserError, match="cannot be listened on"):
            asyncio.run(taken.run(asyncio.Event()))


def test_a_header_too_short_is_answered():
    assert b"MSA|AR|" in acknowledgement(b"MSH|^~\\&", "AR")


def test_the_command_ends_with_its_counts(tmp_path):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    line = [sys.executable, "-m", "medfuse", "cohort", "listen", str(tmp_path / "in"), "--port", str(port)]
    process = subprocess.Popen([*line, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr.readline().startswith("ready: 127.0.0.1:")
    with MLLPClient("127.0.0.1", port) as client:
        assert b"|AA|" in client.send_message(oru(1))
    os.kill(process.pid, signal.SIGTERM)
    said = json.loads(process.communicate(timeout=20)[0])
    assert said == {"kept": 1, "again": 0, "rejected": 0, "failed": 0, "cut": 0}
    assert process.returncode == 0
