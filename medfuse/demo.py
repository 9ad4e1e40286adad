"""`medfuse demo`: simulate, forget, and go the user's way."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from .library.ingest import ingest
from .models.bundle import load_bundle
from .pipeline import PredictOptions, predict_library_case
from .simulation.population import write_population


def run_demo(out: Path, *, cases: int, seed: int, language: str, log: Callable[[str], None]) -> dict:
    """DICOM in OUT/dicom, library in OUT/home, results in OUT/results. Replaces an earlier demo in the same place."""
    for name in ("dicom", "home", "results"):
        shutil.rmtree(out / name, ignore_errors=True)
    bundle = load_bundle()
    log(f"simulating {cases} patients as DICOM (not patients: every header says SIMULATED)")
    write_population(out / "dicom", cases=cases, seed=seed, file_format="dicom")
    (out / "dicom" / "manifest.jsonl").unlink()  # the truth is forgotten: from here on only DICOM speaks
    os.environ["MEDFUSE_HOME"] = str((out / "home").resolve())
    ingested = ingest(out / "dicom")
    log(f"ingested {len(ingested.files)} files into {len(ingested.cases)} cases")
    rows = []
    for case_id in sorted(ingested.cases):
        started = time.perf_counter()
        done = predict_library_case(case_id, bundle, out / "results", PredictOptions(language=language))
        there = [m for m, state in done.prediction.modalities.items() if state in ("present", "limited")]
        rows.append(
            {
                "case_id": case_id,
                "folder": str(done.folder),
                "modalities": there,
                "seconds": round(time.perf_counter() - started, 2),
            }
        )
        log(f"predicted {case_id} in {rows[-1]['seconds']:.1f} s")
    return {"cases": rows, "bundle": bundle.name, "home": str(out / "home")}
