"""What `medfuse deidentify` does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from ..deidentify.folder import deidentify_folder
from ..deidentify.keys import load_key
from ..deidentify.profile import Options
from ..deidentify.report import DeidentificationReport
from ..io.cells import harmless_line
from .result import CommandResult


def deidentify_command(
    path: Path,
    out: Path,
    *,
    key: Path,
    retain_uids: bool,
    shift: bool,
    clean: bool,
    progress: Callable,
) -> CommandResult:
    """`medfuse deidentify`: what was written, changed, masked and refused; paths of refused files only
    here, not in OUT/report.json."""
    secret = load_key(key)
    found = deidentify_folder(
        path, out, key=secret, options=Options(retain_uids, shift, clean), progress=progress
    )
    report = found.report
    data = report.model_dump(mode="json")
    data["refused"] = [{"path": str(r.path), "reason": r.reason} for r in found.refused]
    text = [f"{report.written} written to {out}, {report.masked} masked; changes in {out / 'report.json'}"]
    text += [f"{count} of them: not judged: {what}" for what, count in _unjudged(report).items()]
    text += [harmless_line(f"refused {r.path}: {r.reason}") for r in found.refused]
    code = 1 if not report.written else 3 if found.refused else 0
    return CommandResult(data, "\n".join(text), code)


def _unjudged(report: DeidentificationReport) -> Counter[str]:
    """What could not be judged, by how many copies."""
    return Counter(what for file in report.files for what in file.unjudged)
