"""What `medfuse ingest` does with files on disk; medfuse/network/service.py does it with remote ones."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from ..case import Image
from ..io.cells import harmless_line, harmless_row
from ..io.export import export_name, write_nifti
from ..io.temporary import temporary_folder
from ..library import Library
from ..library.ingest import Ingested, ingest
from .deidentify import deidentify_command
from .outputs import check_file, check_folder
from .result import CommandResult


@dataclass(frozen=True, kw_only=True)
class IngestRequest:
    """What `medfuse ingest` is asked. window: days within which studies are one case. export: a folder for
    one NIfTI an image. deidentify: only changed copies are added. reuse: files that an earlier ingest saw
    unchanged are not opened. ledger: a CSV file of what became of each file. captures: the modality that
    Secondary Captures are taken for."""

    paths: list[Path]
    window: int = 30
    export: Path | None = None
    deidentify: bool = False
    reuse: bool = True
    ledger: Path | None = None
    captures: str = ""


def ingest_command(
    request: IngestRequest, *, progress: Callable, library: Library | None = None
) -> CommandResult:
    """`medfuse ingest`: the ledger of every file, the cases, the images with their geometry."""
    library = library or Library()
    if request.ledger is not None:
        check_file(request.ledger, "--ledger")
    if request.export is not None:
        check_folder(request.export)
    if not request.deidentify:
        return _told(_ingested(request, progress, library))
    with temporary_folder("deid") as folder:
        copies, refused = _deidentified(request.paths, folder, progress, library)
        done = _ingested(replace(request, paths=copies, reuse=False), progress, library)
    done.refused += refused
    return _told(done)


def _deidentified(
    paths: list[Path], folder: Path, progress: Callable, library: Library
) -> tuple[list[Path], list[dict]]:
    """A folder of changed copies for each path, by the library's key, and what was refused on the way."""
    key = library.home / "deidentify.key"
    copies = [folder / str(n) for n in range(len(paths))]
    refused: list[dict] = []
    for path, copy in zip(paths, copies, strict=True):
        show = progress(f"de-identifying {path}")
        report = deidentify_command(
            path, copy, key=key, retain_uids=False, shift=True, clean=True, progress=show
        )
        refused += report.data["refused"]
    return copies, refused


def _ingested(request: IngestRequest, progress: Callable, library: Library) -> Ingested:
    """Every path into the library, images into the folder of ``export``, and the ledger's file."""
    export = request.export
    if export is not None:
        export.mkdir(parents=True, exist_ok=True)
    numbers = count(1)

    def write(image: Image, case_id: str) -> str | None:
        if export is None:
            return None
        return str(write_nifti(image, export / export_name(image, next(numbers)), case_id))

    done = Ingested()
    for path in request.paths:
        # an export needs the pixels, so nothing is skipped then
        one = ingest(
            library,
            path,
            window=request.window,
            reuse=request.reuse and export is None,
            captures=request.captures,
            each_image=write,
            reading=progress(f"reading the headers of {path}"),
            adding=progress(f"adding the cases of {path}"),
        )
        for name in ("cases", "new", "images", "refused", "objects", "files"):
            getattr(done, name).extend(getattr(one, name))
    if request.ledger is not None:
        with request.ledger.open("w", newline="", errors="backslashreplace", encoding="utf-8") as f:
            csv.writer(f).writerows(harmless_row(r) for r in [("path", "status", "reason"), *done.files])
    return done


def _told(done: Ingested) -> CommandResult:
    """As data, as text, and the exit code."""
    ledger = done.ledger
    data = {
        "files": len(done.files),
        "ledger": ledger,
        "cases": done.cases,
        "new": done.new,
        "images": done.images,
        "refused": done.refused,
        "objects": done.objects,
    }
    text = [
        f"{len(done.files)} files: " + ", ".join(f"{n} {k.replace('_', ' ')}" for k, n in ledger.items() if n)
    ]
    text += [f"case {c}{' (new)' if c in done.new else ''}" for c in done.cases]
    text += [harmless_line(f"refused {r['path']}: {r['reason']}") for r in done.refused]
    return CommandResult(data, "\n".join(text), 1 if not done.cases else 3 if done.refused else 0)
