"""A running viewer and a real browser for tests: Debian's Chromium, WebGL in software."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import numpy as np
import psutil
from pacs import free_port
from PIL import Image as Picture

T = TypeVar("T")
CHROMIUM = shutil.which("chromium")
FIRST_WORD = "a word of tests"  # with which the first account is made; without one, medfuse prints its own
FLAGS = [
    "--no-sandbox",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
    # a page is put together by the processor itself: through SwiftShader it costs far more
    "--disable-gpu-compositing",
    "--disable-accelerated-2d-canvas",
]


def wait_for_answer(url: str) -> None:
    """Until a server that was just started answers, for a minute at most."""
    for _ in range(240):
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            time.sleep(0.25)


@contextmanager
def serving(home: Path, port: int | None = None) -> Iterator[str]:
    """The viewer as `medfuse view` starts it; its address."""
    port = port or free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "medfuse", "view", "--port", str(port)],
        env={**os.environ, "MEDFUSE_HOME": str(home), "MEDFUSE_FIRST_ACCOUNT": FIRST_WORD},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for_answer(f"{url}/_stcore/health")
        yield url
    finally:
        process.terminate()
        process.wait(timeout=20)


def predicted_library(home: Path, patient, patient_dicom: Path):
    """One case read in and predicted in the library at ``home``, with its CT's lesion at its true place."""
    from medfuse.bundles.bundle import load_bundle
    from medfuse.inference.lesions import place_of
    from medfuse.library import Library, results, store
    from medfuse.library.ingest import ingest
    from medfuse.prediction import LesionRecord
    from medfuse.workflows.predict import PredictOptions, predict_library_case

    (case_id,) = ingest(Library(), patient_dicom).cases
    done = predict_library_case(case_id, load_bundle(), home.parent / "out", PredictOptions())
    case = store.load_case(Library(), case_id)
    grid = patient.of("CT")[0].grid
    truth = patient.anatomy.lesions[0]
    corners = np.stack([truth.centre - truth.radii - grid.to_body, truth.centre + truth.radii - grid.to_body])
    index = next(i for i, image in enumerate(case.images) if image.modality == "CT")
    record = LesionRecord(
        id="CT-true",
        modality="CT",
        finding=truth.kind,
        probability=1.0,
        long_axis_mm=truth.diameter,
        short_axis_mm=truth.diameter,
        volume_ml=None,
        place=place_of(case, index, corners, case.images[index].frame_of_reference),
    )
    done.prediction.lesions = [record, *[x for x in done.prediction.lesions if x.modality != "CT"]]
    results.save_result(Library(), done.prediction, done.report)
    return home, done, case


def _end_browsers() -> None:
    """Kill the browsers that this process started."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it ended meanwhile
            if process.name().startswith("chrom"):
                process.kill()


@contextmanager
def browsing(
    url: str, *more_flags: str, width: int = 1600, height: int = 1000, patience_s: float = 600
) -> Iterator:
    """A page whose ``outside`` lists every request that left this machine, and ``problems`` every error of
    its programs. What the page itself waits for has no limit in Playwright: after ``patience_s`` the browser
    is killed, and the test fails instead of the whole suite waiting."""
    from playwright.sync_api import sync_playwright

    late = threading.Timer(patience_s, _end_browsers)
    late.daemon = True
    with sync_playwright() as play, ExitStack() as after:
        late.start()
        after.callback(late.cancel)
        browser = play.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *more_flags])
        page = browser.new_page(viewport={"width": width, "height": height}, accept_downloads=True)
        page.outside = []
        page.problems = []
        local = (url, url.replace("http", "ws"), "data:", "blob:")
        page.on("request", lambda r: page.outside.append(r.url) if not r.url.startswith(local) else None)
        page.on("pageerror", lambda e: page.problems.append(str(e)))
        page.set_default_timeout(60_000)  # a wait ends when its thing is there
        yield page
        browser.close()


def open_case(page, url: str, case_id: str) -> None:
    page.goto(f"{url}/read?case={case_id}")
    page.locator(".viewport[data-loaded='1']").nth(2).wait_for()


def viewport(page, modality: str, plane: str = "axial"):
    return page.locator(f".pane[data-modality={modality}] .viewport[data-plane={plane}]")


def settled(canvas) -> dict[str, float]:
    """Where the canvas lies, once the page around it has stopped moving."""
    canvas.evaluate(
        """el => new Promise((done, fail) => {
          let [last, same] = ['', 0]
          const until = performance.now() + 60000
          const look = () => {
            if (performance.now() > until) return fail(new Error('the image did not settle in a minute'))
            const b = el.getBoundingClientRect()
            const now = [b.x, b.y, b.width, b.height, el.dataset.fit].join()
            same = now === last && el.dataset.loaded === '1' ? same + 1 : 0
            last = now
            if (same >= 12) done()
            else setTimeout(look, 50)
          }
          look()
        })"""
    )
    return canvas.bounding_box()


def take_tool(page, tool: str) -> None:
    """Press the tool's button, and see it pressed."""
    page.locator(f"[data-tool={tool}]").click()
    page.locator(f"[data-tool={tool}][aria-pressed=true]").wait_for()


def measure(page, canvas, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Draw a distance between two points, in pixels of the page from the middle of the canvas."""
    take_tool(page, "distance")
    before = measurements(page)
    box = settled(canvas)
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x + start[0], y + start[1])
    page.mouse.down()
    page.mouse.move(x + end[0], y + end[1], steps=4)
    page.mouse.up()
    page.get_by_text(f"Measurements ({before + 1})").wait_for()


def measurements(page) -> int:
    """How many the page lists."""
    found = page.get_by_text(re.compile(r"Measurements \(\d+\)")).first.inner_text()
    return int(found.rpartition("(")[2].rstrip(") \n"))


def until(look: Callable[[], T], what: str, page=None, seconds: float = 90) -> T:
    """What ``look`` gives, once it gives something; a machine that is busy is waited for."""
    from playwright.sync_api import TimeoutError as PlaywrightTimeout

    end = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > end:
            raise PlaywrightTimeout(f"{what}: not within {seconds:.0f} s")
        if page is None:
            time.sleep(0.25)
        else:
            page.wait_for_timeout(250)  # the browser goes on meanwhile
    return found


def kept_measurements(case_id: str, n: int = 1) -> list:
    """The measurements of a case in the library, once they are ``n``: the page lists a drawing earlier."""
    from medfuse.library import Library, workbench

    def enough() -> list:
        found = workbench.measurements(Library(), case_id)
        return found if len(found) >= n else []

    return until(enough, f"{n} measurements are kept")


def one_uploader(page):
    """The field for files, once the one that was emptied has gone."""
    page.wait_for_function("document.querySelectorAll('input[type=file]').length === 1")
    return page.locator("input[type=file]")


def drawn(canvas) -> np.ndarray:
    """(H, W, 3) what the canvas holds."""
    url = canvas.evaluate("c => c.toDataURL('image/png')")
    import base64
    from io import BytesIO

    return np.asarray(Picture.open(BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGB"))


def sampled(canvas, shape: tuple[int, int]) -> np.ndarray:
    """(H, W) grey levels that the canvas shows at the centre of every pixel of the plane."""
    picture = drawn(canvas)[..., 1].astype(int)
    x, y, sx, sy = (float(v) for v in canvas.get_attribute("data-fit").split(","))
    ratio = picture.shape[1] / canvas.evaluate("c => c.clientWidth")
    rows = np.clip(((y + (np.arange(shape[0]) + 0.5) * sy) * ratio).astype(int), 0, picture.shape[0] - 1)
    columns = np.clip(((x + (np.arange(shape[1]) + 0.5) * sx) * ratio).astype(int), 0, picture.shape[1] - 1)
    return picture[rows[:, None], columns[None]]


def sign_up(
    page,
    name: str = "anna",
    full: str = "Anna Lin",
    background: str = "radiologist, 12 years",
    password: str = "correct horse",
) -> None:
    """Make the first account, as a newcomer would."""
    page.get_by_text("Make the first account").click()
    for label, value in (
        ("Name", name),
        ("Full name (stands under a signature)", full),
        ("Background, such as “radiologist, 12 years”", background),
        ("Password", password),
        ("The word that medfuse view printed", FIRST_WORD),
    ):
        page.get_by_label(label, exact=True).fill(value)
    page.get_by_role("button", name="Make account").click()
    page.get_by_text(f"{full} (admin)").wait_for()


def sign_in(page, name: str, password: str) -> None:
    """A click that meets the page being drawn anew is lost, and a person clicks again."""
    from playwright.sync_api import TimeoutError as PlaywrightTimeout

    page.get_by_text("Sign in", exact=True).first.click()
    field = page.get_by_label("Password", exact=True)
    for _ in range(4):
        page.get_by_label("Name", exact=True).fill(name)
        field.fill(password)
        page.get_by_role("button", name="Sign in").click()
        with suppress(PlaywrightTimeout):
            field.wait_for(state="detached", timeout=15_000)
            break
    field.wait_for(state="detached")
    # until the run of the page ends, the guest's report stays beside the author's
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()


def choose_row(page, n: int = 0) -> None:
    """Tick a row of the worklist: it is one canvas, so by place."""
    page.locator("[data-testid=stDataFrame] canvas").first.wait_for()
    page.wait_for_timeout(700)  # it grows to its width after it appears
    box = page.locator("[data-testid=stDataFrame]").first.bounding_box()
    page.mouse.click(box["x"] + 22, box["y"] + 36 + 35 * n + 17)


def shot(page, name: str) -> None:
    """A picture for the docs, where somebody asks for them."""
    folder = os.environ.get("MEDFUSE_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.wait_for_timeout(700)
        path = Path(folder) / f"{name}.png"
        page.screenshot(path=str(path))
        with Picture.open(path) as picture:  # 256 colours: a third of the bytes
            picture.convert("RGB").quantize(256).save(path, optimize=True)


def as_earlier_study(source: Path, target: Path, date: str = "20190102") -> None:
    """The same patient's images under other identifiers, years before."""
    import pydicom
    from pydicom.uid import generate_uid

    target.mkdir()
    made: dict[str, str] = {}
    for n, path in enumerate(sorted(p for p in source.rglob("*") if p.is_file())):
        ds = pydicom.dcmread(path)
        for tag in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
            if tag in ds:
                uid = str(ds[tag].value)
                setattr(ds, tag, made.setdefault(uid, generate_uid(entropy_srcs=[uid, "earlier"])))
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        for tag in ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate"):
            if tag in ds:
                setattr(ds, tag, date)
        ds.save_as(target / f"{n}.dcm")
