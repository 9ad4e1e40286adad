"""The viewer in a real browser: open a case, move a slice, read the report. A screenshot is kept."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from medfuse.library import store
from medfuse.library.ingest import ingest
from medfuse.models.bundle import load_bundle
from medfuse.models.lesions import place_of
from medfuse.pipeline import PredictOptions, predict_library_case
from medfuse.prediction import LesionRecord

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM = shutil.which("chromium")
FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--no-first-run", "--disable-quic"]  # fmt: skip


@pytest.fixture(scope="module")
def library(patient, patient_dicom, tmp_path_factory):
    """A library with one predicted case, and beside what the model found one lesion at its true place in the CT."""
    home = tmp_path_factory.mktemp("viewer") / "home"
    before = os.environ.get("MEDFUSE_HOME")
    os.environ["MEDFUSE_HOME"] = str(home)
    try:
        (case_id,) = ingest(patient_dicom).cases
        done = predict_library_case(case_id, load_bundle(), home.parent / "out", PredictOptions())
        case = store.load_case(case_id)
        grid = patient.of("CT")[0].grid
        truth = patient.anatomy.lesions[0]
        corners = np.stack([truth.centre - truth.radii - grid.to_body, truth.centre + truth.radii - grid.to_body])
        index = next(i for i, image in enumerate(case.images) if image.modality == "CT")
        place = place_of(case, index, corners, case.images[index].frame_of_reference)
        record = LesionRecord(id="CT-true", modality="CT", finding=truth.kind, probability=1.0, long_axis_mm=truth.diameter,
                              short_axis_mm=truth.diameter, volume_ml=None, place=place)  # fmt: skip
        done.prediction.lesions = [record, *[x for x in done.prediction.lesions if x.modality != "CT"]]
        store.save_result(done.prediction, done.report)
    finally:
        if before is None:
            del os.environ["MEDFUSE_HOME"]
        else:
            os.environ["MEDFUSE_HOME"] = before
    return home, done


@pytest.fixture(scope="module")
def server(library):
    """The viewer as `medfuse view` starts it."""
    home, _ = library
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    env = {**os.environ, "MEDFUSE_HOME": str(home)}
    process = subprocess.Popen(
        [sys.executable, "-m", "medfuse", "view", "--port", str(port)],
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    for _ in range(120):
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=1):
                break
        except OSError:
            time.sleep(0.5)
    yield url
    process.terminate()
    process.wait(timeout=20)


@pytest.fixture
def page(server):
    if CHROMIUM is None:
        pytest.skip("Debian's chromium is not installed")
    from playwright.sync_api import expect, sync_playwright

    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1600, "height": 1500})
        outside: list[str] = []
        page.on(
            "request",
            lambda r: (
                outside.append(r.url)
                if not r.url.startswith((server, server.replace("http", "ws"), "data:", "blob:"))
                else None
            ),
        )
        page.goto(server)
        page.get_by_text("Lesions", exact=True).first.wait_for(timeout=90_000)
        expect(page.locator("[data-testid='stImage'] img")).to_have_count(3, timeout=60_000)
        page.outside = outside  # type: ignore[attr-defined]
        yield page
        browser.close()


def position(slider) -> int:
    return int(slider.get_attribute("aria-valuenow") or slider.input_value())


def yellow(picture: np.ndarray) -> int:
    """Pixels of the evidence boxes, also where the browser has blended them."""
    red, green, blue = (picture[..., c].astype(int) for c in range(3))
    return int(((red > 150) & (green > 100) & (blue < 80) & (red - blue > 110)).sum())


def screenshot(page, path: Path) -> np.ndarray:
    page.screenshot(path=str(path))
    return np.asarray(Picture.open(path).convert("RGB"))


@pytest.mark.browser
def test_open_a_case_move_a_slice_read_the_report(page, library, tmp_path):
    _, done = library
    assert page.get_by_text("Research draft, not for clinical use").first.is_visible()
    assert page.get_by_text("Simulated patient").first.is_visible()
    images = page.locator("[data-testid='stImage'] img")
    # ultrasound, CT, MRI side by side
    for n in range(3):
        images.nth(n).wait_for(timeout=30_000)
    # the report on the page is the report on disk, sentence by sentence
    shown = page.locator("#report").inner_text()
    for section in done.report.sections:
        for sentence in section.sentences:
            assert sentence.text in shown
    # the CT slider moves by one slice and the picture follows
    before = images.nth(1).get_attribute("src")
    handle = page.get_by_role("slider", name="Slice").first
    at, last = position(handle), int(handle.get_attribute("max") or handle.get_attribute("aria-valuemax"))
    handle.focus()
    handle.press("ArrowRight" if at < last else "ArrowLeft")
    page.wait_for_function(
        "([i, src]) => document.querySelectorAll(\"[data-testid='stImage'] img\")[i].src !== src",
        arg=[1, page.evaluate("src => new URL(src, location.href).href", before)],
        timeout=30_000,
    )
    assert abs(position(page.get_by_role("slider", name="Slice").first) - at) == 1
    page.wait_for_timeout(1000)
    out = Path(os.environ.get("MEDFUSE_SCREENSHOTS", tmp_path))
    out.mkdir(parents=True, exist_ok=True)
    picture = screenshot(page, out / "viewer.png")
    assert picture.std() > 20
    assert not page.outside  # no request leaves this machine


@pytest.mark.browser
def test_evidence_can_be_hidden(page, tmp_path):
    page.wait_for_timeout(1500)
    with_boxes = yellow(screenshot(page, tmp_path / "a.png"))
    page.get_by_text("Show evidence").click()
    page.wait_for_timeout(2500)
    assert with_boxes > yellow(screenshot(page, tmp_path / "b.png")) + 50


def test_empty_library_says_what_to_do():
    from streamlit.testing.v1 import AppTest

    app = AppTest.from_file(str(ROOT / "apps" / "viewer" / "app.py"), default_timeout=60).run()
    assert not app.exception
    assert "library is empty" in app.info[0].value


def test_a_case_not_predicted_yet_shows_its_images(patient_dicom):
    from streamlit.testing.v1 import AppTest

    ingest(patient_dicom)
    app = AppTest.from_file(str(ROOT / "apps" / "viewer" / "app.py"), default_timeout=90).run()
    assert not app.exception
    assert "Not predicted yet" in app.info[0].value
    assert len(app.slider) == 3


def test_a_registration_is_shown_and_a_failed_one_is_not(library, tmp_path, monkeypatch):
    import json
    import shutil as files

    import nibabel as nib
    from streamlit.testing.v1 import AppTest

    from medfuse.registration.volume import to_array, to_sitk

    home, done = library
    files.copytree(home, tmp_path / "home2")
    monkeypatch.setenv("MEDFUSE_HOME", str(tmp_path / "home2"))
    case = store.load_case(done.prediction.case_id)
    moving, fixed = [i for i in case.images if i.modality == "MR"][:2]
    folder = tmp_path / "reg"
    folder.mkdir()
    pixels, affine = to_array(to_sitk(fixed))
    nib.save(nib.Nifti1Image(pixels, affine), folder / "moved.nii.gz")
    (folder / "quality.json").write_text(
        json.dumps({"overlap": 0.9, "shared_information": 0.3, "inverse_consistency_mm": 0.4})
    )
    notes = tmp_path / "home2" / "registrations"
    notes.mkdir()
    row = {
        "moving": moving.source.series_uid,
        "fixed": fixed.source.series_uid,
        "folder": str(folder),
        "verdict": "check",
        "reasons": ["look at it"],
    }
    (notes / "a.json").write_text(json.dumps(row))
    page = AppTest.from_file(str(ROOT / "apps" / "viewer" / "app.py"), default_timeout=90).run()
    assert not page.exception
    assert any("check</span> look at it" in m.value for m in page.markdown)
    (how,) = [r for r in page.radio if r.label == "Shown as"]
    for kind in ("checkerboard", "fused", "overlay"):
        page = how.set_value(kind).run()
        assert not page.exception
        (how,) = [r for r in page.radio if r.label == "Shown as"]
    (notes / "a.json").write_text(json.dumps({**row, "verdict": "failed", "reasons": ["noise"]}))
    page = AppTest.from_file(str(ROOT / "apps" / "viewer" / "app.py"), default_timeout=90).run()
    assert any("failed and is not used" in w.value for w in page.warning)
    assert not [r for r in page.radio if r.label == "Shown as"]
