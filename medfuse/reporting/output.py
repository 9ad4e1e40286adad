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
from ..errors import OutputError
from ..models.lesions import LesionMask
from ..prediction import Prediction
from ..report import Report
from ..task import Task
from .exports import FORMATS, write_exports
from .key_images import key_images


def write_case(
    out: Path, prediction: Prediction, seconds: dict[str, float], report: Report, case: Case, task: Task,
    masks: dict[str, LesionMask], *, formats: tuple[str, ...] = FORMATS, note: dict | None = None,
) -> tuple[Path, list[str]]:  # fmt: skip
    """Write prediction.json, the report in ``formats``, overlays/ and run.json; return the folder and its files.

    note: more for run.json, such as the batch it belongs to. What cannot be made (a DICOM object of images that came without identifiers) is named in run.json under "not_made".
    """
    final = out / prediction.case_id
    part = out / f".{prediction.case_id}.{os.getpid()}.part"
    try:
        out.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        (part / "prediction.json").write_text(prediction.model_dump_json(indent=1))
        pictures = key_images(prediction, case)
        _, not_made = write_exports(part, prediction, report, case, task, masks, formats, pictures=pictures)
        (part / "overlays").mkdir()
        for one in pictures:
            (part / "overlays" / f"{one.name}.png").write_bytes(one.png)
        run = {
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
            "medfuse": __version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
            "bundle": {"name": prediction.bundle, "hash": prediction.bundle_hash},
            "inputs": {i.source.path: i.source.sha256 for i in case.images},
            "not_made": not_made,
            **(note or {}),
            "seconds": {k: round(v, 3) for k, v in seconds.items()},
        }
        (part / "run.json").write_text(json.dumps(run, indent=1))
        shutil.rmtree(final, ignore_errors=True)
        part.rename(final)
    except OSError as e:
        shutil.rmtree(part, ignore_errors=True)
        raise OutputError(
            f"{out}: the result cannot be written ({e.strerror or e}); free space or choose another --out"
        ) from e
    files = sorted(str(p.relative_to(final)) for p in final.rglob("*") if p.is_file())
    return final, files
