"""The peer of benchmarks/viewer.py that is fetched: cornerstone3D, from npm, bundled for the browser."""

from __future__ import annotations

import shutil
import statistics
import subprocess
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Error as PlaywrightError

PEER_PACKAGES = ("@cornerstonejs/core@5.14.0", "events@3.3.0", "url@0.11.4")  # the last two for a browser
Note = Callable[[str, object], None]


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
