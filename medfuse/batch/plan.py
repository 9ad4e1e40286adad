"""What a batch works on: a folder, a manifest or the library → one job a case. Headers are read here, pixels
by the workers."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ..case import Case, Refusal
from ..errors import UserError, WrongUse
from ..io.cases import plan_cases
from ..io.manifest import ManifestRow, read_manifest
from ..io.read import open_case
from ..io.scan import Scan, scan_files
from ..library import Library, store

LIBRARY = "library"


@dataclass(frozen=True)
class Job:
    """One case: its name, the hash of its inputs (paths, sizes, times), and one of three places that it is
    read from."""

    case_id: str
    input_hash: str
    files: tuple[str, ...] = ()
    row: ManifestRow | None = None
    library: bool = False
    window: int = 30

    def read(self, library: Library | None = None) -> Case:
        """Read the pixels, of a library's case from ``library``; runs in a worker."""
        if self.library:
            return store.load_case(library or Library(), self.case_id)
        files = [Path(f) for f in self.files]
        case = open_case(self.row or files, window=self.window, allow_empty=True)
        case.case_id = self.case_id
        return case


@dataclass
class Plan:
    """Jobs, and what cannot become one: (case or path, reason). scan: of a folder; what was unpacked of its
    archives is there as long as this is."""

    jobs: list[Job] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    scan: Scan | None = None


def stat_hash(paths: list[Path], *more: object) -> str:
    """SHA-256 over names, sizes and times of files (or of all files below folders): cheap, and moved by any
    change."""
    digest = hashlib.sha256(json.dumps([str(m) for m in more]).encode())
    for path in paths:
        below = sorted(p for p in path.rglob("*") if os.path.isfile(p)) if os.path.isdir(path) else [path]
        for p in below:
            try:
                stat = os.stat(p)
            except OSError:  # gone, or a link that cannot be followed
                digest.update(f"{p}|gone".encode())
                continue
            digest.update(f"{p}|{stat.st_size}|{stat.st_mtime_ns}".encode())
    return digest.hexdigest()


def plan_batch(
    source: str,
    *,
    window: int = 30,
    with_modality: tuple[str, ...] = (),
    without: tuple[str, ...] = (),
    progress: Callable[[int, int], None] = lambda done, total: None,
    library: Library | None = None,
) -> Plan:
    """Jobs of a folder, a manifest.jsonl or .csv, or of ``library``. Raises UserError where there is
    nothing."""
    if source == LIBRARY:
        plan = _from_library(library or Library(), with_modality, without)
    else:
        path = Path(source)
        if not path.exists():
            raise WrongUse(f"{source}: no such folder or manifest; give one, or library")
        plan = (
            _from_manifest(path)
            if path.suffix in (".jsonl", ".csv")
            else _from_folder(path, window, progress)
        )
    if not plan.jobs and not plan.refused:
        raise UserError(f"{source}: holds no case; give a folder with DICOM, a manifest, or library")
    return plan


def _from_library(library: Library, with_modality: tuple[str, ...], without: tuple[str, ...]) -> Plan:
    plan = Plan()
    for row in store.list_cases(library, with_modality, without):
        if row.conflict:
            plan.refused.append(Refusal(row.case_id, f"{row.conflict}; waits for medfuse cases --confirm"))
            continue
        files = store.files_of(library, row.case_id)
        plan.jobs.append(Job(row.case_id, hashlib.sha256("|".join(files).encode()).hexdigest(), library=True))
    return plan


def _from_manifest(path: Path) -> Plan:
    """Rows whose files are gone are refused one by one; a damaged manifest is refused whole."""
    plan = Plan()
    for row in read_manifest(path):
        if not row.case_id or "/" in row.case_id or row.case_id.startswith("."):
            plan.refused.append(
                Refusal(row.case_id, "the case_id cannot be a folder name; use letters, digits and - _ .")
            )
            continue
        files = [Path(row.root) / i.path for i in row.images]
        gone = [p for p in files if not p.exists()]
        if not files or len(gone) == len(files):
            reason = f"{gone[0]} does not exist" if gone else "names no image"
            plan.refused.append(Refusal(row.case_id, f"{reason}; mend the manifest"))
            continue
        # nothing of the truth
        slim = row.model_copy(update={"report": "", "reports": {}, "labels": {}, "lesions": []})
        slim.root = row.root
        plan.jobs.append(Job(row.case_id, stat_hash(files, row.model_dump_json()), row=slim))
    return plan


def _from_folder(path: Path, window: int, progress: Callable[[int, int], None]) -> Plan:
    from ..io.folder import files_under

    scanned = scan_files(files_under(path), progress=progress)
    plan = Plan(refused=list(scanned.refused), scan=scanned)
    for one in plan_cases(scanned, window=window, folder=str(path)):
        if one.conflict:
            plan.refused.append(Refusal(one.case_id, f"{one.conflict}; ingest it and confirm by hand"))
            continue
        entries = [e for key in one.series for e in scanned.series[key]] + one.volumes
        files = sorted(str(e.path) for e in entries)
        plan.jobs.append(Job(one.case_id, _input_hash(files, scanned), files=tuple(files), window=window))
    return plan


def _input_hash(files: list[str], scanned: Scan) -> str:
    """Of files as they lie; of those that were unpacked, which lie elsewhere each time, by their archive."""
    within = scanned.within
    outer = {within[Path(f)][0] if Path(f) in within else Path(f) for f in files}
    inner = sorted(within[Path(f)][1] for f in files if Path(f) in within)
    return stat_hash(sorted(outer), *inner)
