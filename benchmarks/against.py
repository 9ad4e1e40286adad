"""`medfuse --help` and one demo case predicted, by this tree and by an older commit, in turn, in one run: how
much slower.

    python benchmarks/against.py c531de6 [--turns 5] [--json]

Whole commands are timed, start-up included: the same simulated patient, the same environment, each tree with
its own shipped bundle and an empty library. Of start-up the fastest turn counts, as other work on the machine
only adds to it, and its processor seconds stand beside; of the prediction the median, and its ratio turn by
turn.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


STARTUP_GOAL_S = 0.6


@dataclass(frozen=True)
class Took:
    """Seconds of a command: by the clock, and of the processor."""

    clock: float
    processor: float


def timed(tree: Path, work: Path, *arguments: str) -> Took:
    """What a medfuse command takes by the code of one tree."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "MEDFUSE_HOME": str(work / "home")}
    command = [sys.executable, "-m", "medfuse", *arguments]
    started = time.perf_counter()
    before = os.times()
    subprocess.run(command, cwd=work, env=environment, check=True, capture_output=True)
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return Took(time.perf_counter() - started, used)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("commit")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        older = Path(folder) / "older"
        subprocess.run(
            ["git", "worktree", "add", "-q", "--detach", str(older), a.commit], cwd=ROOT, check=True
        )
        try:
            from medfuse.simulation.population import write_population

            write_population(Path(folder) / "cases", cases=1, seed=7)
            (case,) = (p for p in (Path(folder) / "cases").iterdir() if p.is_dir())
            startup: dict[str, list[Took]] = {"this": [], "older": []}
            seconds: dict[str, list[float]] = {"this": [], "older": []}
            for turn in range(a.turns + 1):
                for name, tree in (("this", ROOT), ("older", older)):
                    work = Path(folder) / f"{name}{turn}"
                    work.mkdir()
                    startup[name].append(timed(tree, work, "--help"))
                    predicted = timed(tree, work, "predict", str(case), "--out", str(work / "out"))
                    seconds[name].append(predicted.clock)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(older)], cwd=ROOT, check=True)
    median = {k: statistics.median(v[1:]) for k, v in seconds.items()}  # the first turn warms the disk
    ratio = statistics.median(x / y for x, y in zip(seconds["this"][1:], seconds["older"][1:], strict=True))
    fastest = {k: min(t.clock for t in v[1:]) for k, v in startup.items()}
    least = {k: min(t.processor for t in v[1:]) for k, v in startup.items()}
    result = {
        "this_startup_s": round(fastest["this"], 2),
        "older_startup_s": round(fastest["older"], 2),
        "this_startup_processor_s": round(least["this"], 2),
        "older_startup_processor_s": round(least["older"], 2),
        "startup_ratio": round(least["this"] / least["older"], 3),
        "startup_goal_s": STARTUP_GOAL_S,
        "this_s": round(median["this"], 2),
        "older_s": round(median["older"], 2),
        "ratio": round(ratio, 3),
        "turns": a.turns,
        "commit": a.commit,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
    print(json.dumps(result) if a.json else "\n".join(f"{k:26} {v}" for k, v in result.items()))


if __name__ == "__main__":
    main()
