"""Many readers at once, uploads, a node that receives and a batch beside them, all on loopback.

    python benchmarks/load.py [--readers 50] [--uploads 10] [--seconds 180] [--look 30] [--batch 4]

Each reader is a session of its own over a websocket, as a browser opens it: in turn the worklist and a
case, with `--look` seconds for each. A page counts from the request to the end of its script; it fails
where an exception stands on it, the connection ends, or nothing comes for a minute. Uploads are zips of a
simulated study; the node takes simulated objects; the batch predicts simulated patients. Printed: pages and
errors, times of a page, what the others did, and by how much the web server grew a minute in the second
half.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from pathlib import Path

import numpy as np
import psutil
import pydicom
import websockets
from pydicom.uid import generate_uid
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from pacs import free_port
from viewers import serving

from medfuse.library import Library, store
from medfuse.library.ingest import ingest
from medfuse.network.client import send_files
from medfuse.network.node import Peer
from medfuse.simulation.population import write_population

PATIENCE_S = 60.0
XSRF = "_streamlit_xsrf"


@dataclass
class Seen:
    """What all readers saw. times: seconds of a page, by its name."""

    times: dict[str, list[float]] = field(default_factory=lambda: {"worklist": [], "read": []})
    errors: Counter[str] = field(default_factory=Counter)
    uploads: Counter[str] = field(default_factory=Counter)
    sent: Counter[str] = field(default_factory=Counter)
    memory: list[tuple[float, float]] = field(default_factory=list)


def cookie_of(url: str) -> dict[str, str]:
    """What the server names a new browser, and its word against forged uploads."""
    found: dict[str, str] = {}
    for path in ("/", "/_stcore/health"):
        asked = urllib.request.Request(url + path, headers={"Accept": "text/html"})
        with urllib.request.urlopen(asked, timeout=PATIENCE_S) as answer:
            for line in answer.headers.get_all("Set-Cookie") or []:
                found |= {name: m.value for name, m in SimpleCookie(line).items()}
    return found


def header(cookies: dict[str, str]) -> str:
    return "; ".join(f"{name}={value}" for name, value in cookies.items())


async def page(socket: websockets.ClientConnection, name: str, query: str) -> str:
    """Ask for a page and wait until its script is done; the session's id, where it was said. Raises
    RuntimeError where an exception stands on the page."""
    asked = BackMsg()
    asked.rerun_script.page_name = name
    asked.rerun_script.query_string = query
    await socket.send(asked.SerializeToString())
    session = ""
    wrong = ""
    while True:
        message = ForwardMsg()
        message.ParseFromString(await asyncio.wait_for(socket.recv(), PATIENCE_S))
        kind = message.WhichOneof("type")
        if kind == "new_session":
            session = message.new_session.initialize.session_id
        elif kind == "delta" and message.delta.new_element.WhichOneof("type") == "exception":
            wrong = message.delta.new_element.exception.message
        elif kind == "script_finished":
            if wrong:
                raise RuntimeError(wrong)
            return session


async def reader(url: str, cases: list[str], n: int, look_s: float, until: float, seen: Seen) -> None:
    """One person who looks at one case after the other; they come in one after the other."""
    await asyncio.sleep(look_s * (n * 0.618 % 1))
    cookies = await asyncio.to_thread(cookie_of, url)
    while time.monotonic() < until:
        try:
            async with websockets.connect(
                url.replace("http", "ws") + "/_stcore/stream",
                additional_headers={"Cookie": header(cookies)},
                subprotocols=[websockets.Subprotocol("streamlit")],
                origin=websockets.Origin(url),
                max_size=None,
            ) as socket:
                while time.monotonic() < until:
                    case = cases[n % len(cases)]
                    for name, query in (("worklist", ""), ("read", f"case={case}")):
                        started = time.monotonic()
                        await page(socket, name, query)
                        seen.times[name].append(time.monotonic() - started)
                        await asyncio.sleep(look_s)
                    n += 1
        except (OSError, RuntimeError, TimeoutError, websockets.WebSocketException) as e:
            seen.errors[f"{type(e).__name__}: {e}"[:100]] += 1
            await asyncio.sleep(look_s)


async def upload(url: str, data: bytes, seen: Seen) -> None:
    """One zip into a session of its own."""
    cookies = await asyncio.to_thread(cookie_of, url)
    async with websockets.connect(
        url.replace("http", "ws") + "/_stcore/stream",
        additional_headers={"Cookie": header(cookies)},
        subprotocols=[websockets.Subprotocol("streamlit")],
        origin=websockets.Origin(url),
        max_size=None,
    ) as socket:
        session = await page(socket, "worklist", "")
        part = (
            b'--x\r\nContent-Disposition: form-data; name="f"; filename="a.zip"\r\n\r\n'
            + data
            + b"\r\n--x--\r\n"
        )
        asked = urllib.request.Request(
            f"{url}/_stcore/upload_file/{session}/a",
            data=part,
            method="PUT",
            headers={
                "Cookie": header(cookies),
                "X-Xsrftoken": cookies.get(XSRF, ""),
                "Content-Type": "multipart/form-data; boundary=x",
            },
        )

        def put() -> int:
            with urllib.request.urlopen(asked, timeout=PATIENCE_S) as answer:
                return answer.status

        try:
            seen.uploads[str(await asyncio.to_thread(put))] += 1
        except OSError as e:
            seen.uploads[str(e)] += 1


async def watch(server: psutil.Process, until: float, seen: Seen) -> None:
    """The server's memory, every second."""
    while time.monotonic() < until:
        seen.memory.append((time.monotonic(), server.memory_info().rss / 2**20))
        await asyncio.sleep(1)


def node_beside(home: Path, source: list[Path], until: float, seen: Seen, folder: Path) -> None:
    """A node, and a peer that sends it objects of their own."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "medfuse", "node", "--port", str(port), "--quiet", "99999"],
        env={**os.environ, "MEDFUSE_HOME": str(home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("ready"):
            break
    threading.Thread(target=process.stderr.read, daemon=True).start()
    while time.monotonic() < until:
        ds = pydicom.dcmread(source[seen.sent["objects"] % len(source)])
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        ds.save_as(folder / "sent.dcm")
        done = send_files(Peer("MEDFUSE", "127.0.0.1", port), [folder / "sent.dcm"])
        seen.sent["objects"] += 1
        seen.sent["refused"] += not done.sent
        time.sleep(0.2)
    process.terminate()
    process.wait(timeout=60)


async def run(
    url: str, server: psutil.Process, cases: list[str], data: bytes, given: argparse.Namespace
) -> Seen:
    """Everything at once."""
    seen = Seen()
    until = time.monotonic() + given.seconds
    readers = [reader(url, cases, n, given.look, until, seen) for n in range(given.readers)]
    uploads = [upload(url, data, seen) for _ in range(given.uploads)]
    await asyncio.gather(*readers, *uploads, watch(server, until, seen))
    return seen


def slope(memory: list[tuple[float, float]]) -> float:
    """MiB a minute over the second half."""
    half = np.array(memory[len(memory) // 2 :])
    return float(np.polyfit(half[:, 0] / 60, half[:, 1], 1)[0])


def zipped(folder: Path) -> bytes:
    """A folder as a zip."""
    import io
    import zipfile

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(folder.rglob("*.dcm")):
            packed.write(path, path.relative_to(folder))
    return out.getvalue()


def report(seen: Seen, given: argparse.Namespace, batch: dict) -> None:
    """What is printed."""
    pages = sum(map(len, seen.times.values()))
    wrong = sum(seen.errors.values())
    print(
        f"{given.readers} readers who look for {given.look:g} s, {given.uploads} uploads, "
        f"{given.seconds} s, {os.cpu_count()} cores"
    )
    print("| page | n | median s | p95 s | worst s |")
    print("|---|---|---|---|---|")
    for name, times in seen.times.items():
        low, high = np.percentile(times, [50, 95]) if times else (np.nan, np.nan)
        print(f"| {name} | {len(times)} | {low:.2f} | {high:.2f} | {max(times, default=np.nan):.2f} |")
    print(f"pages: {pages}, errors: {wrong} {dict(seen.errors) or ''}")
    print(f"uploads by answer: {dict(seen.uploads)}; node: {dict(seen.sent)}; batch: {json.dumps(batch)}")
    grown = [m for _, m in seen.memory]
    print(
        f"web server: {grown[0]:.0f} MiB at first, {max(grown):.0f} at most, "
        f"{slope(seen.memory):+.1f} MiB/min in the second half"
    )


def main() -> None:
    """Set the hospital up, let everybody in, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--readers", type=int, default=50)
    parser.add_argument("--uploads", type=int, default=10)
    parser.add_argument("--seconds", type=int, default=180)
    parser.add_argument("--look", type=float, default=30.0, help="seconds that a reader looks at a page")
    parser.add_argument("--batch", type=int, default=4, help="patients")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="medfuse-load-") as name:
        folder = Path(name)
        home = folder / "home"
        os.environ["MEDFUSE_HOME"] = str(home)
        write_population(folder / "dicom", cases=given.batch, seed=7, file_format="dicom")
        (folder / "dicom" / "manifest.jsonl").unlink()
        library = Library(home)
        ingest(library, folder / "dicom")
        cases = [c.case_id for c in store.list_cases(library)]
        first = next(p for p in sorted((folder / "dicom").iterdir()) if p.is_dir())
        source = sorted(first.rglob("*.dcm"))[:40]
        with serving(home) as url:
            port = int(url.rpartition(":")[2])
            server = next(
                psutil.Process(c.pid)
                for c in psutil.net_connections("inet")
                if c.laddr.port == port and c.status == psutil.CONN_LISTEN
            )
            quiet = ["--out", str(folder / "out"), "--workers", "1", "--formats", "json", "--json"]
            batch = subprocess.Popen(
                [sys.executable, "-m", "medfuse", "batch", str(folder / "dicom"), *quiet],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            until = time.monotonic() + given.seconds
            made = Seen()
            beside = threading.Thread(target=node_beside, args=(home, source, until, made, folder))
            beside.start()
            seen = asyncio.run(run(url, server, cases, zipped(first), given))
            beside.join()
            seen.sent = made.sent
            said = batch.communicate()[0].splitlines()
        report(seen, given, json.loads(said[-1]) if said else {"ended": batch.returncode})


if __name__ == "__main__":
    main()
