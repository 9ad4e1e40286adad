"""A running viewer and a real browser for tests: Debian's Chromium, WebGL in software."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image as Picture

CHROMIUM = shutil.which("chromium")
FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--no-first-run", "--disable-quic"]  # fmt: skip


@contextmanager
def serving(home: Path) -> Iterator[str]:
    """The viewer as `medfuse view` starts it; its address."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "medfuse", "view", "--port", str(port)], env={**os.environ, "MEDFUSE_HOME": str(home)},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                with urllib.request.urlopen(f"{url}/_stcore/health", timeout=1):
                    break
            except OSError:
                time.sleep(0.25)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=20)


@contextmanager
def browsing(url: str, *more_flags: str, width: int = 1600, height: int = 1000) -> Iterator:
    """A page whose ``outside`` lists every request that left this machine, and ``problems`` every error of its programs."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *more_flags])
        page = browser.new_page(viewport={"width": width, "height": height}, accept_downloads=True)
        page.outside, page.problems = [], []
        local = (url, url.replace("http", "ws"), "data:", "blob:")
        page.on("request", lambda r: page.outside.append(r.url) if not r.url.startswith(local) else None)
        page.on("pageerror", lambda e: page.problems.append(str(e)))
        page.set_default_timeout(20_000)
        yield page
        browser.close()


def open_case(page, url: str, case_id: str) -> None:
    page.goto(f"{url}/read?case={case_id}")
    page.locator(".viewport[data-loaded='1']").nth(2).wait_for()


def viewport(page, modality: str, plane: str = "axial"):
    return page.locator(f".pane[data-modality={modality}] .viewport[data-plane={plane}]")


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
    for label, value in (("Name", name), ("Full name (stands under a signature)", full), ("Background, such as “radiologist, 12 years”", background), ("Password", password)):  # fmt: skip
        page.get_by_label(label, exact=True).fill(value)
    page.get_by_role("button", name="Make account").click()
    page.get_by_text(f"{full} (admin)").wait_for()


def sign_in(page, name: str, password: str) -> None:
    page.get_by_text("Sign in", exact=True).first.click()
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_role("button", name="Sign in").click()


def choose_row(page, n: int = 0) -> None:
    """Tick a row of the worklist: it is one canvas, so by place."""
    page.locator("[data-testid=stDataFrame] canvas").first.wait_for()
    page.wait_for_timeout(700)  # it grows to its width after it appears
    box = page.locator("[data-testid=stDataFrame]").first.bounding_box()
    page.mouse.click(box["x"] + 22, box["y"] + 36 + 35 * n + 17)
