"""`medfuse demo`: simulate, forget, and go the user's way."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from ..bundles.bundle import Bundle, load_bundle
from ..drafting.draft import check_writer
from ..library import Library
from ..library.ingest import ingest
from ..simulation.population import write_population
from .demo_sound import FoundBySound, sound_of_demo
from .outputs import check_folder
from .predict import PredictOptions, predict_library_case


@dataclass(frozen=True, kw_only=True)
class DemoCase:
    """One predicted case of the demo: its folder, the modalities that were used, seconds."""

    case_id: str
    folder: str
    modalities: list[str]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """The cases, the bundle that predicted them, the library's home, and the patient found by a sound."""

    cases: list[DemoCase]
    bundle: str
    home: str
    sound: FoundBySound | None = None  # of simulated patients, where there are several

    def as_json(self) -> dict[str, object]:
        """As JSON data."""
        return asdict(self)


def run_demo(out: Path, *, cases: int, seed: int, language: str, log: Callable[[str], None]) -> DemoResult:
    """DICOM in OUT/dicom, library in OUT/home, results in OUT/results. Replaces an earlier demo in the same
    place."""
    bundle = load_bundle()
    options = PredictOptions(language=language)
    check_writer(bundle, options.writer, language, None)  # before an earlier demo is taken away
    check_folder(out)
    for name in ("dicom", "home", "results", "sound"):
        shutil.rmtree(out / name, ignore_errors=True)
    log(f"simulating {cases} patients as DICOM (not patients: every header says SIMULATED)")
    write_population(out / "dicom", cases=cases, seed=seed, file_format="dicom")
    (out / "dicom" / "manifest.jsonl").unlink()  # the truth is forgotten: from here on only DICOM speaks
    os.environ["MEDFUSE_HOME"] = str((out / "home").resolve())
    library = Library()
    ingested = ingest(library, out / "dicom")
    log(f"ingested {len(ingested.files)} files into {len(ingested.cases)} cases")
    rows = [predicted(case_id, bundle, out, options, library, log) for case_id in sorted(ingested.cases)]
    sound = sound_of_demo(bundle, out, seed=seed, folders={r.case_id: Path(r.folder) for r in rows})
    if sound is not None:
        log(sound.sentence)
    return DemoResult(cases=rows, bundle=bundle.name, home=str(out / "home"), sound=sound)


def predicted(
    case_id: str,
    bundle: Bundle,
    out: Path,
    options: PredictOptions,
    library: Library,
    log: Callable[[str], None],
) -> DemoCase:
    """Predict a case of the library into OUT/results, and say how long it took."""
    started = time.perf_counter()
    done = predict_library_case(case_id, bundle, out / "results", options, library=library)
    there = [m for m, state in done.prediction.modalities.items() if state in ("present", "limited")]
    seconds = round(time.perf_counter() - started, 2)
    log(f"predicted {case_id} in {seconds:.1f} s")
    return DemoCase(case_id=case_id, folder=str(done.folder), modalities=there, seconds=seconds)
