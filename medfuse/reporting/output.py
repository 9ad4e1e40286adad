"""The folder of one case: OUT/<case_id>/ written to a temporary folder and renamed whole, or not at all."""

from __future__ import annotations

import json
import os
import platform
import shutil
from datetime import UTC, datetime
from pathlib import Path

from .. import __version__
from ..case import Case
from ..errors import UserError
from ..prediction import Prediction
from ..report import Report
from .overlays import write_overlays
from .text import report_text


def write_case(
    out: Path, prediction: Prediction, seconds: dict[str, float], report: Report, case: Case
) -> tuple[Path, list[str]]:
    """Write prediction.json, report.json, report.txt, overlays/ and run.json; return the folder and its files."""
    final = out / prediction.case_id
    part = out / f".{prediction.case_id}.{os.getpid()}.part"
    try:
        out.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        (part / "prediction.json").write_text(prediction.model_dump_json(indent=1))
        (part / "report.json").write_text(report.model_dump_json(indent=1))
        (part / "report.txt").write_text(report_text(report))
        write_overlays(prediction, case, part / "overlays")
        run = {
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
            "medfuse": __version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
            "bundle": {"name": prediction.bundle, "hash": prediction.bundle_hash},
            "inputs": {i.source.path: i.source.sha256 for i in case.images},
            "seconds": {k: round(v, 3) for k, v in seconds.items()},
        }
        (part / "run.json").write_text(json.dumps(run, indent=1))
        shutil.rmtree(final, ignore_errors=True)
        part.rename(final)
    except OSError as e:
        shutil.rmtree(part, ignore_errors=True)
        raise UserError(
            f"{out}: the result cannot be written ({e.strerror or e}); free space or choose another --out"
        ) from e
    files = sorted(str(p.relative_to(final)) for p in final.rglob("*") if p.is_file())
    return final, files
