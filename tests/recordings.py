"""The net under a change of form: what medfuse predicts, drafts, exports and learns, as digests.

    python tests/recordings.py record FILE     # write the digests of this tree
    python tests/recordings.py compare FILE    # record again, name each one that differs, exit 1 if any does
    python tests/recordings.py against REF     # the same between a commit and this tree, in one run

Predictions, reports and exports are those of twelve simulated patients; the weights are those of each
training stage after 50 seeded steps. JSON, text and PDF are compared byte by byte. DICOM is compared element
by element, without what must be new in each object: its UIDs, dates, times and software version. Digests
depend on the processor and on torch, so a file says which it was made with (``made_on``).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pydicom
import torch
from house import ROOT
from recorded_trainings import trainings

CASES = 12
STEPS = 50
NEW_EACH_TIME = {"DA", "TM", "DT", "UI"}  # value representations of dates, times and identifiers
VERSIONS = {"SoftwareVersions", "ManufacturerModelName"}


def made_on() -> dict[str, str]:
    """What the digests depend on beside the code: torch and the instructions it uses."""
    return {"torch": torch.__version__, "instructions": torch.backends.cpu.get_cpu_capability()}


def record(folder: Path) -> dict[str, str]:
    """Digest by name of everything that is recorded, made in the empty ``folder``."""
    learned = {f"weights of {name}": weights for name, weights in trainings(folder / "trainings", STEPS)}
    return dict(sorted({**dict(_cases(folder)), **learned}.items()))


def _run(folder: Path, *arguments: str) -> None:
    """medfuse of this tree, as a user runs it, with its library in ``folder``."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MEDFUSE_HOME": str(folder / "home")}
    command = [sys.executable, "-m", "medfuse", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")


def _cases(folder: Path) -> Iterator[tuple[str, str]]:
    """Predictions, reports and every export format of the demo's patients."""
    _run(folder, "demo", "--out", "demo", "--cases", str(CASES), "--seed", "7", "--no-viewer")
    results = folder / "demo" / "results"
    for path in sorted(p for p in results.rglob("*") if p.is_file() and p.name != "run.json"):
        yield str(path.relative_to(results)), digest(path, folder)


def digest(path: Path, folder: Path) -> str:
    """SHA-256 of a file, without what is new at each run: where it lies, and DICOM's own identifiers."""
    if path.suffix == ".dcm":
        text = json.dumps(_elements(pydicom.dcmread(path)), sort_keys=True).encode()
    else:
        text = path.read_bytes().replace(str(folder.resolve()).encode(), b"FOLDER")
    return hashlib.sha256(text).hexdigest()


def _elements(dataset: pydicom.Dataset) -> list[object]:
    """Tag, representation and value of each element that says something of the patient or the images."""
    found: list[object] = []
    for element in dataset:
        if element.VR in NEW_EACH_TIME or element.keyword in VERSIONS:
            continue
        if element.VR == "SQ":
            found.append([str(element.tag), [_elements(item) for item in element.value]])
        elif isinstance(element.value, bytes):
            found.append([str(element.tag), element.VR, hashlib.sha256(element.value).hexdigest()])
        else:
            found.append([str(element.tag), element.VR, str(element.value)])
    return found


def differences(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """A line for each recording that is missing, new or not the same."""
    lines = [f"missing: {name}" for name in before if name not in after]
    lines += [f"new: {name}" for name in after if name not in before]
    return lines + [f"differs: {name}" for name in before if after.get(name, before[name]) != before[name]]


def _record_to(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        digests = record(Path(folder))
    path.write_text(json.dumps({"made_on": made_on(), "digests": digests}, indent=1) + "\n")


def _record_of(ref: str, path: Path) -> None:
    """Let the commit record itself, with its own copy of this script."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        git = ["git", "-C", str(ROOT)]
        subprocess.run([*git, "worktree", "add", "--quiet", "--detach", str(tree), ref], check=True)
        try:
            script = tree / "tests" / "recordings.py"
            if not script.exists():
                raise SystemExit(f"{ref} has no tests/recordings.py; name a later commit")
            environment = {**os.environ, "PYTHONPATH": str(tree)}
            subprocess.run([sys.executable, str(script), "record", str(path)], env=environment, check=True)
        finally:
            subprocess.run([*git, "worktree", "remove", "--force", str(tree)], check=True)


def main() -> int:
    """Run one of the three commands; 0 when the recordings agree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("command", choices=["record", "compare", "against"])
    parser.add_argument("what", help="a file of digests, or with against a commit")
    given = parser.parse_args()
    if given.command == "record":
        _record_to(Path(given.what))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        before = Path(given.what) if given.command == "compare" else Path(folder) / "before.json"
        if given.command == "against":
            _record_of(given.what, before)
        after = Path(folder) / "after.json"
        _record_to(after)
        old = json.loads(before.read_text())
        new = json.loads(after.read_text())
    if old["made_on"] != new["made_on"]:
        print(f"not comparable: recorded on {old['made_on']}, this is {new['made_on']}")
        return 2
    lines = differences(old["digests"], new["digests"])
    print("\n".join(lines) or f"all {len(new['digests'])} recordings agree")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
