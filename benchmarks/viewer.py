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
import runpy
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psutil
import pydicom
from playwright.sync_api import Error as PlaywrightError
from pydicom.uid import MRImageStorage, UltrasoundMultiFrameImageStorage, generate_uid

from medfuse.library import Library

Note = Callable[[str, object], None]
PARTS = ("speed", "weight", "tab", "memory", "answers")
PEER_PACKAGES = ("@cornerstonejs/core@5.14.0", "events@3.3.0", "url@0.11.4")  # the last two for a browser
FLAGS = [
    "--no-sandbox",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-background-networking",
    "--no-first-run",
]
SHADOW = (
    "const all = (q) => [...document.querySelectorAll('*')].flatMap((e) => (e.shadowRoot ? "
    "[...e.shadowRoot.querySelectorAll(q)] : []));"
)
OPEN = f"() => {{ {SHADOW} return all('.viewport').filter((c) => c.dataset.loaded === '1').length === 3 }}"
STEPS = f"""async (n) => {{ {SHADOW}
  const canvas = all('.pane[data-modality=CT] .viewport')[0]
  canvas.dispatchEvent(new PointerEvent('pointerdown', {{ bubbles: true, pointerId: 1, button: 1 }}))
  const times = []
  for (let i = 0; i < n; i++) {{
    const before = canvas.dataset.index
    const started = performance.now()
    const key = i % 20 < 10 ? 'ArrowUp' : 'ArrowDown'
    document.dispatchEvent(new KeyboardEvent('keydown', {{ key, bubbles: true }}))
    while (canvas.dataset.index === before) await new Promise(requestAnimationFrame)
    canvas.getContext('2d').getImageData(canvas.width >> 1, canvas.height >> 1, 1, 1)
    times.push(performance.now() - started)
  }}
  return times }}"""
WHEEL = f"""async (n) => {{ {SHADOW}
  const canvas = all('.pane[data-modality=CT] .viewport')[0]
  const [waiting, times] = [[], []]
  const drawn = new MutationObserver(() => {{
    canvas.getContext('2d').getImageData(canvas.width >> 1, canvas.height >> 1, 1, 1)
    const now = performance.now()
    while (waiting.length) times.push(now - waiting.shift())
  }})
  drawn.observe(canvas, {{ attributeFilter: ['data-index'] }})
  for (let i = 0; i < n; i++) {{
    waiting.push(performance.now())
    const deltaY = i % 100 < 50 ? 100 : -100
    canvas.dispatchEvent(new WheelEvent('wheel', {{ deltaY, bubbles: true, cancelable: true }}))
    await new Promise((done) => setTimeout(done, 16))
  }}
  await new Promise((done) => setTimeout(done, 300))
  drawn.disconnect()
  return times }}"""
FIRST = f"() => {{ {SHADOW} return all('.viewport').some((c) => c.dataset.loaded === '1') }}"
PEER = f"""async () => {{ {SHADOW}
  const {{ Niivue, NVImage }} = await import(new URL('medfuse/ui/niivue.js', document.baseURI).href)
  const canvas = Object.assign(document.createElement('canvas'), {{ width: 900, height: 700 }})
  document.body.append(canvas)
  const [nx, ny, nz] = [512, 512, 200]
  const buffer = new ArrayBuffer(352 + 2 * nx * ny * nz)
  const header = new DataView(buffer)
  header.setInt32(0, 348, true)
  ;[3, nx, ny, nz, 1, 1, 1, 1].forEach((v, i) => header.setInt16(40 + 2 * i, v, true))
  header.setInt16(70, 4, true); header.setInt16(72, 16, true)
  ;[1, 0.78, 0.78, 1.25].forEach((v, i) => header.setFloat32(76 + 4 * i, v, true))
  header.setFloat32(108, 352, true); header.setFloat32(112, 1, true); header.setInt16(254, 1, true)
  ;[0.78, 0.78, 1.25].forEach((v, i) => header.setFloat32(280 + 16 * i + 4 * i, v, true))
  header.setUint32(344, 0x00312b6e, true)
  const values = new Int16Array(buffer, 352)
  for (let i = 0; i < values.length; i++) values[i] = (i * 2654435761) >>> 21
  const view = new Niivue({{ loadingText: '' }})
  await view.attachToCanvas(canvas)
  const pixel = new Uint8Array(4)
  const flush = () => view.gl.readPixels(0, 0, 1, 1, view.gl.RGBA, view.gl.UNSIGNED_BYTE, pixel)
  const started = performance.now()
  view.addVolume(await NVImage.new(
    buffer, 'v.nii', 'gray', 1, null, -160, 240, true, 0.02, false, false, '', 0, undefined, NaN, NaN, false,
    null, 0, null))
  view.setSliceType(view.sliceTypeAxial)
  flush()
  const open = performance.now() - started
  const times = []
  for (let i = 0; i < 40; i++) {{
    const at = performance.now()
    view.moveCrosshairInVox(0, 0, i < 20 ? 1 : -1)
    flush()
    times.push(performance.now() - at)
  }}
  canvas.remove()
  return {{ open, times }} }}"""


def write_series(folder: Path) -> None:
    """CT, MR and cine of one generated patient."""
    write_ct = runpy.run_path(str(Path(__file__).with_name("io.py")))["write_ct"]
    write_ct(folder / "CT", 200, 512)
    write_ct(folder / "MR", 60, 256)
    for path in (folder / "MR").iterdir():
        ds = pydicom.dcmread(path)
        ds.Modality = "MR"
        ds.SOPClassUID = MRImageStorage
        ds.file_meta.MediaStorageSOPClassUID = MRImageStorage
        del ds.RescaleSlope, ds.RescaleIntercept
        ds.save_as(path, enforce_file_format=True)
    ds.Modality = "US"
    ds.SOPClassUID = UltrasoundMultiFrameImageStorage
    ds.file_meta.MediaStorageSOPClassUID = UltrasoundMultiFrameImageStorage
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    ds.StudyInstanceUID = generate_uid()
    ds.SeriesInstanceUID = generate_uid()
    for name in (
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
        "FrameOfReferenceUID",
        "SliceThickness",
    ):
        delattr(ds, name)
    ds.Rows = 480
    ds.Columns = 640
    ds.NumberOfFrames = 60
    ds.FrameTime = 40
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit = 7
    ds.PixelRepresentation = 0
    ds.PixelData = np.random.default_rng(0).integers(0, 255, (60, 480, 640), dtype=np.uint8).tobytes()
    (folder / "US").mkdir()
    ds.save_as(folder / "US" / "cine.dcm", enforce_file_format=True)


def many_rows(n: int) -> None:
    """A worklist of n cases that were predicted, as rows of the catalogue."""
    from medfuse.library.catalogue import CaseRow, ResultRow, SeriesRow

    rng = np.random.default_rng(1)
    findings = ("steatosis", "cirrhosis", "ascites", "simple_cyst", "hcc_like", "gallstone")
    with Library().session() as s:
        for i in range(n):
            case_id = f"GEN-{i:05d}"
            s.add(
                CaseRow(
                    id=case_id,
                    patient_id=f"GEN{i:05d}",
                    simulated=True,
                    study_date=f"2024{1 + i % 12:02d}{1 + i % 28:02d}",
                )
            )
            kinds = [m for m in ("US", "CT", "MR") if rng.random() < 0.8] or ["CT"]
            for m in kinds:
                s.add(
                    SeriesRow(
                        uid=f"1.2.{i}.{m}", case_id=case_id, modality=m, role="portal", role_confidence=0.9
                    )
                )
            summary = {
                "states": {m: "present" if m in kinds else "absent" for m in ("US", "CT", "MR")},
                "in_domain": True,
                "cannot_tell": [],
                "findings": {f: round(float(rng.random()), 3) for f in findings},
            }
            s.add(
                ResultRow(
                    case_id=case_id,
                    bundle_hash="0" * 64,
                    language="en",
                    prediction={},
                    report={},
                    summary=summary,
                )
            )


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


def speed(
    browser,
    home: Path,
    heavy: str,
    small: list[str],
    options: argparse.Namespace,
    note: Note,
    problems: list[str],
) -> None:
    """Seconds until something is seen, and milliseconds a slice."""
    with viewer(home) as (url, _):
        page = watched(browser.new_page(viewport={"width": 1600, "height": 1000}), problems)

        def paint() -> None:
            page.goto(url)
            page.locator("[data-testid=stDataFrame] canvas").first.wait_for(timeout=60_000)

        note("worklist_first_s", round(seconds(paint), 2))
        note("worklist_again_s", round(seconds(paint), 2))

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


def cornerstone(page, folder: Path, note: Note) -> None:
    """The same CT by cornerstone3D, fetched and bundled in ``folder``; why not, where it cannot be."""
    here = Path(__file__).parent
    esbuild = here.parent / "apps" / "viewer" / "frontend" / "node_modules" / ".bin" / "esbuild"
    if not shutil.which("npm") or not esbuild.exists():
        note("cornerstone_not_run", "npm ci in apps/viewer/frontend comes first")
        return
    peer = folder / "peer"
    peer.mkdir()
    (peer / "package.json").write_text('{"private": true}')
    shutil.copy(here / "viewer_cornerstone.mjs", peer)
    build = [
        str(esbuild),
        "viewer_cornerstone.mjs",
        "--bundle",
        "--format=iife",
        "--define:global=window",
        "--outfile=built.js",
    ]
    for command in (
        ["npm", "install", "--ignore-scripts", "--silent", *PEER_PACKAGES],
        build,
    ):
        done = subprocess.run(command, cwd=peer, capture_output=True, text=True, check=False)
        if done.returncode:
            note("cornerstone_not_run", (done.stderr or done.stdout).strip()[-200:])
            return
    try:
        page.evaluate((peer / "built.js").read_text(encoding="utf-8"))
        found = page.evaluate("() => window.cornerstonePeer([512, 512, 200], 40)")
    except PlaywrightError as e:
        note("cornerstone_not_run", str(e)[:200])
        return
    note("cornerstone_load_s", round(found["open"] / 1000, 1))
    note("cornerstone_slice_median_ms", round(statistics.median(found["times"]), 1))


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

    from medfuse.library.ingest import ingest
    from medfuse.simulation.dicom_writer import write
    from medfuse.simulation.patient import simulate

    chromium = shutil.which("chromium")

    def note(name: str, value: object) -> None:
        result[name] = value
        print(f"{name} {value}", file=sys.stderr, flush=True)

    result: dict = {"cases": options.cases, "opened": options.opened, "readers": options.readers}
    problems: list[str] = []
    with TemporaryDirectory(prefix="medfuse-viewer-") as folder, sync_playwright() as play:
        home = Path(folder) / "home"
        os.environ["MEDFUSE_HOME"] = str(home)
        write_series(Path(folder) / "heavy")
        (heavy,) = ingest(Library(), Path(folder) / "heavy").cases
        for n in range(20):
            write(simulate(4711, n), Path(folder) / "small" / str(n))
        small = ingest(Library(), Path(folder) / "small").cases
        many_rows(options.cases)
        browser = play.chromium.launch(executable_path=chromium, args=FLAGS)
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
    result["load"] = round(os.getloadavg()[1], 1)
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
