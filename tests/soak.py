"""The long versions of the tests of batch and node: `make soak`. Prints JSON; exits 1 where anything was
lost.

python tests/soak.py [--part node|batch] [--associations 20] [--instances 50] [--connects 10000] [--slow 200]
[--kills 50] [--cases 500] [--batch-kills 20]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pydicom
from pacs import free_port
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pynetdicom import build_context

from medfuse.errors import UserError
from medfuse.library import Library
from medfuse.network.archive import files_of
from medfuse.network.client import associate, echo, send_files
from medfuse.network.node import Peer
from medfuse.simulation.dicom_writer import write
from medfuse.simulation.patient import simulate
from medfuse.simulation.population import write_population

MR = "1.2.840.10008.5.1.4.1.1.4"
FLOOD = """
import socket, sys
for _ in range(int(sys.argv[2])):
    socket.create_connection(("127.0.0.1", int(sys.argv[1]))).close()
"""


def objects(folder: Path, n: int) -> list[tuple[str, Path]]:
    """n real objects with UIDs of their own."""
    write(simulate(5, 4), folder / "source")
    source = sorted((folder / "source" / "MR").rglob("*.dcm"))
    out = []
    for i in range(n):
        ds = pydicom.dcmread(source[i % len(source)])
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid(
            entropy_srcs=["soak", str(i)]
        )
        path = folder / f"{i}.dcm"
        ds.save_as(path)
        out.append((str(ds.SOPInstanceUID), path))
    return out


def body(path: Path) -> bytes:
    ds = pydicom.dcmread(path, stop_before_pixels=True)
    return path.read_bytes()[144 + ds.file_meta.FileMetaInformationGroupLength :]


def start_node(home: Path, port: int) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-m", "medfuse", "node", "--port", str(port), "--quiet", "99999"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "MEDFUSE_HOME": str(home)},
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("ready"):
            threading.Thread(target=process.stderr.read, daemon=True).start()  # keep the pipe empty
            return process
    raise RuntimeError("the node did not come up")


@contextlib.contextmanager
def timed_echoes(peer: Peer) -> Iterator[list[float]]:
    """Seconds from asking for a new association to its answer, one after another while the block runs."""
    taken: list[float] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            begun = time.monotonic()
            answered = False
            with contextlib.suppress(UserError):
                answered = echo(peer)
            taken.append(time.monotonic() - begun if answered else float("inf"))
            time.sleep(0.1)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield taken
    finally:
        done.set()
        thread.join()


def slow_connections(peer: Peer, n: int, seconds: float) -> dict:
    """Half of them say nothing, half send a byte a second of a request that they announced."""
    announced = b"\x01\x00" + (50_000).to_bytes(4, "big")
    with contextlib.ExitStack() as ends:
        held = [
            ends.enter_context(socket.create_connection((peer.host, peer.port), timeout=5)) for _ in range(n)
        ]
        with timed_echoes(peer) as taken:
            for second in range(int(seconds)):
                for s in held[::2]:
                    with contextlib.suppress(OSError):  # the node has closed it
                        s.sendall(announced if second == 0 else b"x")
                time.sleep(1)
    return {"n": n, "seconds": seconds, "new_associations": len(taken), "slowest_s": round(max(taken), 3)}


def node(folder: Path, a: argparse.Namespace) -> dict:
    home = folder / "home"
    port = free_port()
    os.environ["MEDFUSE_HOME"] = str(home)
    some = objects(folder, a.instances)
    peer = Peer("MEDFUSE", "127.0.0.1", port)
    process = start_node(home, port)
    result: dict = {}
    acknowledged: list[int] = []
    threads = [
        threading.Thread(
            target=lambda: acknowledged.extend(send_files(peer, [p for _, p in some]).sent for _ in range(5))
        )
        for _ in range(a.associations)
    ]
    started = time.monotonic()
    [t.start() for t in threads]
    [t.join() for t in threads]
    on_disk = [p for p in (home / "images").rglob("*") if p.is_file()]
    stored = {u: p for u, _, _, p in files_of(Library(), {"SOPInstanceUID": "\\".join(u for u, _ in some)})}
    same = sum(body(stored[u]) == body(p) for u, p in some if u in stored)
    result["resend"] = {
        "associations": a.associations,
        "acknowledged": sum(acknowledged),
        "files": len(on_disk),
        "exact": same,
        "of": len(some),
        "seconds": round(time.monotonic() - started, 1),
    }
    memory = psutil.Process(process.pid).memory_info().rss
    result["slow"] = slow_connections(peer, a.slow, 60)
    started = time.monotonic()
    with timed_echoes(peer) as taken:  # the flood is a process of its own, which holds up no echo of ours
        subprocess.run([sys.executable, "-c", FLOOD, str(port), str(a.connects)], check=True)
    time.sleep(2)
    result["bare_connects"] = {
        "n": a.connects,
        "grew_mb": round((psutil.Process(process.pid).memory_info().rss - memory) / 1e6, 2),
        "seconds": round(time.monotonic() - started, 1),
        "new_associations": len(taken),
        "slowest_s": round(max(taken), 3),
        "answers": echo(peer),
    }
    for k in range(200):
        with socket.create_connection(("127.0.0.1", port)) as s:
            s.sendall(b"\x01\x00" + (50_000).to_bytes(4, "big") + os.urandom(k * 97 % 4000))
    time.sleep(1)
    result["cut"] = {
        "n": 200,
        "partial_files": len([p for p in (home / "images").rglob("*.part")]),
        "files": len([p for p in (home / "images").rglob("*") if p.is_file()]),
        "answers": echo(peer),
    }
    process.kill()
    process.wait()
    result["kills"] = kills(folder, home, a.kills)
    return result


def kills(folder: Path, home: Path, n: int) -> dict:
    """kill -9 of the node while it receives, n times: every acknowledged UID is on disk, indexed,
    identical."""
    (folder / "kill").mkdir()
    many = dict(objects(folder / "kill", 600))
    acknowledged: set[str] = set()
    rng = random.Random(1)
    for _ in range(n):
        port = free_port()
        process = start_node(home, port)
        timer = threading.Timer(0.05 + 0.4 * rng.random(), process.send_signal, [signal.SIGKILL])
        try:
            assoc = associate(
                Peer("MEDFUSE", "127.0.0.1", port), [build_context(MR, [ExplicitVRLittleEndian])], "SOAK"
            )
            timer.start()
            for uid, path in many.items():
                if uid in acknowledged:
                    continue
                status = assoc.send_c_store(pydicom.dcmread(path))
                if not status or status.Status != 0:
                    break
                acknowledged.add(uid)
        except (UserError, RuntimeError):
            pass
        finally:
            timer.cancel()
            process.kill()
            process.wait()
    stored = {u: p for u, _, _, p in files_of(Library(), {"SOPInstanceUID": "\\".join(acknowledged)})}
    lost = [
        u
        for u in acknowledged
        if u not in stored or not stored[u].is_file() or body(stored[u]) != body(many[u])
    ]
    return {"n": n, "acknowledged": len(acknowledged), "lost_or_changed": len(lost)}


def run_command(folder: Path, out: Path) -> subprocess.Popen:
    line = [
        sys.executable,
        "-m",
        "medfuse",
        "batch",
        str(folder / "dicom"),
        "--out",
        str(out),
        "--workers",
        "2",
        "--formats",
        "json",
        "--json",
    ]
    return subprocess.Popen(
        line,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "MEDFUSE_HOME": str(folder / "home")},
    )


def outputs(out: Path) -> dict:
    return {
        p.parent.name: ((p.parent / "prediction.json").read_bytes(), p.read_bytes())
        for p in out.glob("*/report.json")
    }


def workers_of(process: subprocess.Popen) -> list[psutil.Process]:
    try:
        family = psutil.Process(process.pid).children(recursive=True)
        return [p for p in family if "spawn_main" in " ".join(p.cmdline())]
    except psutil.NoSuchProcess:
        return []


def kill_a_worker(process: subprocess.Popen, rng: random.Random) -> int:
    """kill -9 of one of the batch's workers, chosen at random; 0 where there is none."""
    workers = workers_of(process)
    if not workers:
        return 0
    with contextlib.suppress(psutil.NoSuchProcess):
        rng.choice(workers).kill()
    return 1


def batch(folder: Path, a: argparse.Namespace) -> dict:
    if not (folder / "dicom").exists():
        write_population(folder / "dicom", cases=a.cases, seed=31, workers=2)
        (folder / "dicom" / "manifest.jsonl").unlink()
    undisturbed = run_command(folder, folder / "one").communicate()[0].splitlines()[-1]
    rng = random.Random(2)
    out = folder / "two"
    killed = {"parent": 0, "worker": 0}
    orphans = 0
    for _ in range(a.batch_kills):  # in each round first a worker dies, and a little later the parent
        process = run_command(folder, out)
        before = len(list(out.glob("*/run.json")))
        while process.poll() is None and len(list(out.glob("*/run.json"))) == before:
            time.sleep(0.2)  # headers are being read, models loaded
        time.sleep(6 * rng.random())
        killed["worker"] += kill_a_worker(process, rng)
        time.sleep(1 + 8 * rng.random())
        if process.poll() is not None:
            break  # everything is done: there is nothing left to disturb
        family = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.communicate()
        orphans += len(psutil.wait_procs(family, timeout=10)[1])
        killed["parent"] += 1
    last = run_command(folder, out).communicate()[0].splitlines()[-1]
    a_ = outputs(folder / "one")
    b_ = outputs(out)
    return {
        "cases": a.cases,
        "undisturbed": json.loads(undisturbed),
        "last": json.loads(last),
        "killed": killed,
        "orphans": orphans,
        "one_output_a_case": len(b_) == a.cases,
        "identical": a_ == b_,
        "left_over": len(list(out.glob(".*.part"))),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=("node", "batch"))
    parser.add_argument(
        "--folder", type=Path, help="kept, and gone on with: a part that was stopped need not begin again"
    )
    for name, value in (
        ("associations", 20),
        ("instances", 50),
        ("connects", 10_000),
        ("slow", 200),
        ("kills", 50),
        ("cases", 500),
        ("batch-kills", 20),
    ):
        parser.add_argument(f"--{name}", type=int, default=value)
    a = parser.parse_args()
    result: dict = {}
    for part in ("node", "batch"):
        if a.part in (None, part):
            with contextlib.ExitStack() as stack:
                folder = a.folder or Path(
                    stack.enter_context(tempfile.TemporaryDirectory(prefix="medfuse-soak-"))
                )
                result[part] = {"node": node, "batch": batch}[part](folder, a)
    print(json.dumps(result, indent=1))
    n = result.get("node")
    b = result.get("batch")
    good = (
        n is None
        or (
            n["resend"]["files"] == n["resend"]["exact"] == a.instances
            and not n["cut"]["partial_files"]
            and n["bare_connects"]["grew_mb"] < 5
            and max(n["slow"]["slowest_s"], n["bare_connects"]["slowest_s"]) < 1
            and not n["kills"]["lost_or_changed"]
        )
    ) and (
        b is None or (b["identical"] and b["one_output_a_case"] and not b["orphans"] and not b["left_over"])
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
