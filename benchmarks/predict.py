"""One `medfuse predict` on a case with all three modalities: seconds by stage, peak memory, share of the
network.

python benchmarks/predict.py [--out DIR] [--seed S]     prints a table and writes OUT/predict.json
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

CODE = """
import resource, sys, json, time
from medfuse.__main__ import main
sys.argv = ["medfuse", "predict", sys.argv[1], "--out", sys.argv[2], "--device", "cpu", "--json"]
try:
    main()
except SystemExit:
    pass
print(json.dumps({"peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}), file=sys.stderr)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("--seed", type=int, default=424242)
    options = parser.parse_args()
    from medfuse.simulation.dicom_writer import write
    from medfuse.simulation.patient import simulate

    with TemporaryDirectory() as folder:
        patient = simulate(options.seed, 0)
        write(patient, Path(folder) / "case")
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", CODE, str(Path(folder) / "case"), str(Path(folder) / "out")],
            capture_output=True,
            text=True,
            check=True,
        )
        wall = time.perf_counter() - started
        data = json.loads(done.stdout)
        run = json.loads((Path(folder) / "out" / data["case_id"] / "run.json").read_text())
    peak = json.loads(done.stderr.strip().splitlines()[-1])["peak_mib"]
    stages = run["seconds"]
    inside = sum(stages.values())
    import torch

    result = {
        "seconds_whole_command": round(wall, 2),
        "seconds_by_stage": stages,
        "network_share": round(stages["network"] / inside, 3),
        "network_share_of_command": round(stages["network"] / wall, 3),
        "peak_mib": round(peak),
        "series": len(data["images"]),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "seed": options.seed,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "predict.json").write_text(json.dumps(result, indent=1))
    print("| stage | seconds |\n|---|---|")
    for name, seconds in stages.items():
        print(f"| {name} | {seconds:.2f} |")
    print(f"| whole command, start-up and writing included | {wall:.2f} |")
    print(
        f"\nnetwork: {result['network_share']:.0%} of the stages, "
        f"{result['network_share_of_command']:.0%} of the command; peak memory {peak:.0f} MiB; "
        f"{result['series']} series; {result['machine']}"
    )


if __name__ == "__main__":
    main()
