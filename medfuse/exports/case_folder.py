"""The folder of one case: OUT/<case_id>/ written to a temporary folder and renamed whole, or not at all."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from .. import __version__
from ..case import Case
from ..display.key_images import key_images
from ..errors import OutputError, os_fault
from ..inference.predictor import Predicted
from ..io.names import plain_name, shown
from ..report import Report
from ..task import Task
from .request import ExportRequest, write_exports


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid")


class BundleName(_Record):
    """The bundle that predicted a case: its name, and the SHA-256 over its files."""

    name: str
    hash: str


class BatchNote(_Record):
    """What a case of a batch was made from: hashes of its inputs, its bundle and the batch's settings.

    input: of the case's files. bundle: of the bundle's files. settings: of the options.
    """

    input: str
    bundle: str
    settings: str


class RunRecord(_Record):
    """run.json of a case: when, where and from what it was made, and what could not be made.

    inputs: path of each image → SHA-256. seconds: of each stage. written: when, UTC. batch: only in a batch.
    """

    written: str
    medfuse: str
    python: str
    machine: str
    bundle: BundleName
    inputs: dict[str, str]
    not_made: list[str]
    batch: BatchNote | None = None
    seconds: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class CaseFolder:
    """A written case: its folder, and its files relative to it, sorted."""

    folder: Path
    files: list[str]


def write_case(
    out: Path,
    predicted: Predicted,
    report: Report,
    case: Case,
    task: Task,
    *,
    seconds: dict[str, float],
    formats: tuple[str, ...] | None = None,
    batch: BatchNote | None = None,
) -> CaseFolder:
    """Write prediction.json, the report in ``formats`` (default: all), overlays/ and run.json.

    What cannot be made (a DICOM object of images that came without identifiers) is named in run.json under
    "not_made". Raises OutputError where the folder cannot be written; nothing is left of it then.
    """
    prediction = predicted.prediction
    name = plain_name(prediction.case_id)
    final = out / name
    part = out / f".{name}.{os.getpid()}.part"
    try:
        out.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        (part / "prediction.json").write_text(prediction.model_dump_json(indent=1), encoding="utf-8")
        pictures = key_images(prediction, case)
        request = ExportRequest(
            folder=part,
            prediction=prediction,
            report=report,
            case=case,
            task=task,
            masks=predicted.masks,
            pictures=pictures,
        )
        made = write_exports(request, formats)
        (part / "overlays").mkdir()
        for one in pictures:
            (part / "overlays" / f"{one.name}.png").write_bytes(one.png)
        run = RunRecord(
            written=datetime.now(UTC).isoformat(timespec="seconds"),
            medfuse=__version__,
            python=platform.python_version(),
            machine=platform.machine(),
            bundle=BundleName(name=prediction.bundle, hash=prediction.bundle_hash),
            inputs={shown(i.source.path): i.source.sha256 for i in case.images},
            not_made=[shown(p) for p in made.problems],
            batch=batch,
            seconds={k: round(v, 3) for k, v in seconds.items()},
        )
        (part / "run.json").write_text(run.model_dump_json(indent=1, exclude_none=True), encoding="utf-8")
        shutil.rmtree(final, ignore_errors=True)
        part.rename(final)
    except BaseException as e:  # whatever went wrong, no half of a result stays
        shutil.rmtree(part, ignore_errors=True)
        if not isinstance(e, OSError):
            raise
        raise OutputError(
            f"{out}: the result cannot be written ({os_fault(e)}); free space or choose another --out"
        ) from e
    files = sorted(str(p.relative_to(final)) for p in final.rglob("*") if p.is_file())
    return CaseFolder(folder=final, files=files)
