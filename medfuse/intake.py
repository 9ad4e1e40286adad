"""What `medfuse ingest` and `medfuse deidentify` do; nothing here needs a network, so both start at once."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from .case import Image
from .deidentify.folder import deidentify_folder
from .deidentify.keys import load_key
from .deidentify.profile import Options
from .io.export import export_name, write_nifti
from .library.ingest import Ingested, ingest
from .settings import settings


@dataclass
class CommandResult:
    data: dict
    text: str
    exit_code: int


def deidentify_command(
    path: Path, out: Path, *, key: Path | None, retain_uids: bool, shift: bool, clean: bool, progress: Callable
) -> CommandResult:
    """`medfuse deidentify`: what was written, changed, masked and refused."""
    secret = load_key(key or settings().home / "deidentify.key")
    report = deidentify_folder(path, out, key=secret, options=Options(retain_uids, shift, clean), progress=progress)
    text = [f"{report['written']} written to {out}, {report['masked']} masked; changes in {out / 'report.json'}"]
    text += [f"refused {r['path']}: {r['reason']}" for r in report["refused"]]
    return CommandResult(report, "\n".join(text), 1 if not report["written"] else 3 if report["refused"] else 0)


def ingest_command(
    paths: list[Path], *, window: int, export: Path | None, progress: Callable, deidentify: bool = False, reuse: bool = True,
    ledger_file: Path | None = None,
) -> CommandResult:  # fmt: skip
    """`medfuse ingest`: the ledger of every file, the cases, the images with their geometry."""
    if deidentify:
        with TemporaryDirectory(prefix="medfuse-deid-") as folder:
            reports = []
            for n, p in enumerate(paths):
                show = progress(f"de-identifying {p}")
                changed = Path(folder) / str(n)
                reports.append(
                    deidentify_command(p, changed, key=None, retain_uids=False, shift=True, clean=True, progress=show)
                )
            there = [Path(folder) / str(n) for n in range(len(paths))]
            result = ingest_command(
                there, window=window, export=export, progress=progress, reuse=False, ledger_file=ledger_file
            )
            result.data["refused"] += [r for report in reports for r in report.data["refused"]]
            code = result.exit_code or (3 if result.data["refused"] else 0)
            return CommandResult(result.data, result.text, code)
    if export is not None:
        export.mkdir(parents=True, exist_ok=True)
    number = 0

    def write(image: Image) -> str | None:
        nonlocal number
        if export is None:
            return None
        number += 1
        return str(write_nifti(image, export / export_name(image, number)))

    done = Ingested()
    for path in paths:
        # an export needs the pixels, so nothing is skipped then
        one = ingest(path, window=window, reuse=reuse and export is None, each_image=write,
                     reading=progress(f"reading the headers of {path}"), adding=progress(f"adding the cases of {path}"))  # fmt: skip
        for name in ("cases", "new", "images", "refused", "files"):
            getattr(done, name).extend(getattr(one, name))
    if ledger_file is not None:
        with ledger_file.open("w", newline="") as f:
            csv.writer(f).writerows([("path", "status", "reason"), *done.files])
    ledger = done.ledger
    data = {
        "files": len(done.files),
        "ledger": ledger,
        "cases": done.cases,
        "new": done.new,
        "images": done.images,
        "refused": done.refused,
    }
    text = [f"{len(done.files)} files: " + ", ".join(f"{n} {k.replace('_', ' ')}" for k, n in ledger.items() if n)]
    text += [f"case {c}{' (new)' if c in done.new else ''}" for c in done.cases]
    text += [f"refused {r['path']}: {r['reason']}" for r in done.refused]
    return CommandResult(data, "\n".join(text), 1 if not done.cases else 3 if done.refused else 0)
