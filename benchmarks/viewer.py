"""The viewer in headless Chromium: first paint of a long worklist, opening a case, moving slices, memory,
several readers, what the model's process answers.

python benchmarks/viewer.py [--cases 5000] [--opened 200] [--tab 200] [--readers 5] [--no-peer] [--only PART]
prints a table and writes OUT/viewer.json; what was not run is named.

The opened case has a generated CT of 512 × 512 × 200 (noise: it compresses worse than a patient), an MR of
256 × 256 × 60 and a cine of 60 frames, as DICOM. "cold": nobody has opened it, DICOM is decoded and encoded
for the browser; "warm": a later time. A slice change runs from the key to the drawn pixels, read back.
"wheel": a notch every 16 ms, each timed from its event to the drawn pixels. Beside it the same CT in the same
browser by niivue and, where npm can fetch it, by cornerstone3D (both WebGL, here in software), asked for one
slice after the other.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psutil
from viewer_cases import many_rows, write_series
from viewer_page import FIRST, OPEN, PEER, STEPS, WHEEL
from viewer_peer import Note, cornerstone

from medfuse.library import Library

PARTS = ("worklist", "speed", "weight", "tab", "memory", "answers")
FLAGS = [
    "--no-sandbox",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-background-networking",
    "--no-first-run",
]


@contextmanager
def viewer(home: Path, **environment: str) -> Iterator[tuple[str, psutil.Process]]:
    """A running viewer: its address and the web server's process."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    env = {**os.environ, "MEDFUSE_HOME": str(home), **environment}
    process = subprocess.Popen(
        [sys.executable, "-m", "medfuse", "view", "--port", str(port)],
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{url}/_stcore/health", timeout=1).close()
                break
            except OSError:
                time.sleep(0.25)
        (server,) = psutil.Process(process.pid).children()
        yield url, server
    finally:
        process.terminate()
        process.wait(timeout=30)


def seconds(work) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def watched(page, problems: list[str]):
    page.on("pageerror", lambda e: problems.append(str(e)))
    page.on("response", lambda r: problems.append(f"{r.status} {r.url}") if r.status >= 500 else None)
    return page


def worklist(browser, home: Path, note: Note, problems: list[str]) -> None:
    """Seconds until the worklist is painted: for a browser that was never here, and the median of five times
    more."""
    with viewer(home) as (url, _):
        page = watched(browser.new_page(viewport={"width": 1600, "height": 1000}), problems)

        def paint() -> None:
            page.goto(url)
            page.locator("[data-testid=stDataFrame] canvas").first.wait_for(timeout=60_000)

        note("worklist_first_s", round(seconds(paint), 2))
        note("worklist_again_s", round(statistics.median(seconds(paint) for _ in range(5)), 2))
        page.close()


def speed(
    browser,
    home: Path,
    heavy: str,
    small: list[str],
    options: argparse.Namespace,
    note: Note,
    problems: list[str],
) -> None:
    """Seconds until a case is seen, and milliseconds a slice."""
    with viewer(home) as (url, _):
        page = watched(browser.new_page(viewport={"width": 1600, "height": 1000}), problems)
        page.goto(url)
        page.locator("[data-testid=stDataFrame] canvas").first.wait_for(timeout=60_000)

        def opened(until: str = OPEN) -> None:
            page.goto(f"{url}/read?case={heavy}")
            page.wait_for_function(until, timeout=120_000, polling=20)

        note("open_cold_s", round(seconds(opened), 2))
        note("first_image_warm_s", round(seconds(lambda: opened(FIRST)), 2))
        page.wait_for_function(OPEN, timeout=120_000, polling=20)
        note("open_warm_s", round(seconds(opened), 2))
        page.wait_for_timeout(4000)  # the rest of the volume arrives
        steps = page.evaluate(STEPS, 80)
        note("slice_median_ms", round(statistics.median(steps), 1))
        note("slice_worst_ms", round(max(steps), 1))
        wheel = page.evaluate(WHEEL, 200)
        note("wheel_median_ms", round(statistics.median(wheel), 1))
        note("wheel_worst_ms", round(max(wheel), 1))
        if not options.no_peer:
            peer = page.evaluate(PEER)
            note("niivue_load_s", round(peer["open"] / 1000, 1))
            note("niivue_slice_median_ms", round(statistics.median(peer["times"]), 1))
            cornerstone(page, home.parent, note)
        pages = [watched(browser.new_context().new_page(), problems) for _ in range(options.readers)]
        for n, p in enumerate(pages):
            p.goto(f"{url}/read?case={small[n]}", wait_until="commit")
        for p in pages:
            p.wait_for_function(OPEN, timeout=120_000, polling=50)
            p.evaluate(STEPS, 20)
        note(
            "readers_errors",
            len(problems) + sum(p.locator("[data-testid=stException]").count() for p in pages),
        )
        for p in pages:
            p.close()


def weight(browser, home: Path, case_id: str, note: Note) -> None:
    """Bytes over the wire until a newcomer sees the worklist, and then a case without its pixels."""
    with viewer(home) as (url, _):
        page = browser.new_context().new_page()
        told = page.context.new_cdp_session(page)
        told.send("Network.enable")
        urls: dict[str, str] = {}
        sizes: dict[str, float] = {}
        told.on("Network.responseReceived", lambda e: urls.update({e["requestId"]: e["response"]["url"]}))
        told.on("Network.loadingFinished", lambda e: sizes.update({e["requestId"]: e["encodedDataLength"]}))
        page.goto(url)
        page.locator("[data-testid=stDataFrame] canvas").first.wait_for(timeout=60_000)
        note("weight_worklist_mib", round(sum(sizes.values()) / 2**20, 2))
        page.goto(f"{url}/read?case={case_id}")
        page.wait_for_function(OPEN, timeout=120_000, polling=50)
        rest = sum(v for k, v in sizes.items() if "/pixels/" not in urls.get(k, ""))
        note("weight_reading_mib", round(rest / 2**20, 2))
        page.context.close()


def tab(browser, home: Path, case_id: str, opened: int, note: Note) -> None:
    """How a tab grows over openings of the reading page without loading it anew: slopes of the last half."""
    with viewer(home) as (url, _):
        page = browser.new_context().new_page()
        page.goto(f"{url}/read?case={case_id}")
        page.wait_for_function(OPEN, timeout=120_000, polling=50)
        told = page.context.new_cdp_session(page)
        told.send("Performance.enable")
        rows = []
        for _ in range(opened):
            page.locator("[data-testid=stSidebarNav] a").nth(0).click()
            page.locator("[data-testid=stDataFrame] canvas").first.wait_for()
            page.wait_for_timeout(3200)  # a part that does not come back is closed
            told.send("HeapProfiler.collectGarbage")
            now = {x["name"]: x["value"] for x in told.send("Performance.getMetrics")["metrics"]}
            rows.append([now["JSHeapUsedSize"] / 2**10, now["JSEventListeners"], now["Nodes"]])
            page.locator("[data-testid=stSidebarNav] a").nth(1).click()
            page.wait_for_function(OPEN, timeout=120_000, polling=50)
        half = np.array(rows[len(rows) // 2 :])
        slopes = np.polyfit(np.arange(len(half)), half, 1)[0]
        for name, slope in zip(("heap_kib", "listeners", "nodes"), slopes, strict=True):
            note(f"tab_{name}_an_opening", round(float(slope), 2))
        note("tab_openings", opened)
        page.context.close()


def answers(home: Path, case_id: str, note: Note) -> None:
    """What the pages ask of the model's process, as they ask it: the first time, and the median of five
    more."""
    from apps.viewer import jobs
    from medfuse.bundles.bundle import load_bundle
    from medfuse.workflows.predict import PredictOptions, predict_library_case
    from medfuse.workflows.search_request import SearchRequest

    predict_library_case(case_id, load_bundle(), home.parent / "out", PredictOptions())
    asked = {
        "export_pdf": lambda: jobs.call(jobs.export, case_id, "pdf", "en"),
        "question": lambda: jobs.call(jobs.ask, case_id, "Is there steatosis?"),
        "search": lambda: jobs.call(jobs.search, SearchRequest(words="simple cyst of the liver")),
    }
    for name, ask in asked.items():
        note(f"{name}_first_s", round(seconds(ask), 2))
        note(f"{name}_again_s", round(statistics.median(seconds(ask) for _ in range(5)), 2))


def memory_of(
    browser, home: Path, small: list[str], options: argparse.Namespace, note: Note, problems: list[str]
) -> None:
    """How the web server grows over many opened cases."""
    # a cache too small for two cases: every opening decodes and encodes
    with viewer(home, MEDFUSE_VIEWER_CACHE_GIB="0.001") as (url, server):
        page = watched(browser.new_page(), problems)
        memory = []
        for n in range(40 + options.opened):
            page.goto(f"{url}/read?case={small[n % len(small)]}")
            page.wait_for_function(OPEN, timeout=60_000, polling=50)
            if n >= 39:
                memory.append(server.memory_info().rss / 2**20)
        note("memory_before_mib", round(float(np.mean(memory[:10]))))
        note("memory_growth_mib", round(float(np.mean(memory[-10:]) - np.mean(memory[:10])), 1))


def _read_in(folder: Path, parts: Sequence[str]) -> tuple[str, list[str]]:
    """The large case and twenty small ones, as far as the parts need them."""
    from medfuse.library.ingest import ingest
    from medfuse.simulation.dicom_writer import write
    from medfuse.simulation.patient import simulate

    heavy, small = "", []
    if "speed" in parts:
        write_series(folder / "heavy")
        (heavy,) = ingest(Library(), folder / "heavy").cases
    if set(parts) - {"worklist"}:
        for n in range(20):
            write(simulate(4711, n), folder / "small" / str(n))
        small = ingest(Library(), folder / "small").cases
    return heavy, small


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--opened", type=int, default=200)
    parser.add_argument("--readers", type=int, default=5)
    parser.add_argument("--tab", type=int, default=200, help="Openings in one tab.")
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS, help="Of the whole run.")
    parser.add_argument(
        "--no-peer", action="store_true", help="Leave niivue out: in software it takes half a minute."
    )
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")

    def note(name: str, value: object) -> None:
        result[name] = value
        print(f"{name} {value}", file=sys.stderr, flush=True)

    result: dict = {"cases": options.cases, "opened": options.opened, "readers": options.readers}
    result["load_before"] = round(os.getloadavg()[0], 1)
    problems: list[str] = []
    with TemporaryDirectory(prefix="medfuse-viewer-") as folder, sync_playwright() as play:
        home = Path(folder) / "home"
        os.environ["MEDFUSE_HOME"] = str(home)
        many_rows(options.cases)
        browser = play.chromium.launch(executable_path=chromium, args=FLAGS)
        if "worklist" in options.only:
            worklist(browser, home, note, problems)
        heavy, small = _read_in(Path(folder), options.only)
        if "speed" in options.only:
            speed(browser, home, heavy, small, options, note, problems)
        if "weight" in options.only:
            weight(browser, home, small[0], note)
        if "tab" in options.only:
            tab(browser, home, small[0], options.tab, note)
        if "memory" in options.only:
            memory_of(browser, home, small, options, note, problems)
        browser.close()
        if "answers" in options.only:
            answers(home, small[0], note)
    result["not_run"] = [p for p in PARTS if p not in options.only]
    result["load_after"] = round(os.getloadavg()[0], 1)
    result["problems"] = problems[:5]
    result["machine"] = (
        f"{platform.machine()}, {os.cpu_count()} cores, {Path(chromium or '').name} headless, software "
        "rendering"
    )
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "viewer.json").write_text(json.dumps(result, indent=1))
    print("| What | Figure |\n|---|---|")
    for name, value in result.items():
        print(f"| {name.replace('_', ' ')} | {value} |")


if __name__ == "__main__":
    main()
