"""`medfuse demo --real`: real patients of a copy of the public soft-tissue sarcoma set (CT, MR, PET), the
user's way."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from ..bundles.bundle import load_bundle
from ..drafting.draft import check_writer
from ..errors import WrongUse
from ..library import Library, store
from ..library.ingest import ingest
from .demo import DemoResult, predicted
from .outputs import check_folder
from .predict import PredictOptions
from .public_sets import SARCOMA, VOLUMES, lay_out_sarcoma, sarcoma_patients, split_of

REAL = "soft-tissue-mass-real"
INDICATION = "Known soft-tissue mass."  # which the bundle is told, and never asked
SEEN = {
    "train": "the bundle learned from this patient",
    "val": "the bundle was calibrated on this patient, and did not learn from it",
    "test": "the bundle never saw this patient",
}


def run_real_demo(
    folder: Path, out: Path, *, cases: int, language: str, log: Callable[[str], None]
) -> DemoResult:
    """Up to ``cases`` patients of the copy: those that lie there as DICOM, then those that the bundle did not
    learn from. Volumes are laid out in OUT/set, library in OUT/home, results in OUT/results. Replaces an
    earlier demo in the same place.

    Raises WrongUse where the folder is no copy of the set, before anything is made or taken away.
    """
    studies, volumes = chosen(folder, cases)
    bundle = load_bundle(REAL)
    options = PredictOptions(language=language)
    check_writer(bundle, options.writer, language, None)
    check_folder(out)
    for name in ("set", "home", "results"):
        shutil.rmtree(out / name, ignore_errors=True)
    os.environ["MEDFUSE_HOME"] = str((out / "home").resolve())
    library = Library()
    added: list[str] = []
    for patient in studies:
        log(f"{patient} as DICOM: {SEEN[split_of(patient)]}")
        added += ingest(library, folder / "dicom" / patient).cases
    if volumes:
        lay_out_sarcoma(folder, out / "set", patients=volumes)
    for patient in volumes:
        log(f"{patient} as NIfTI: {SEEN[split_of(patient)]}")
        home = out / "set" / patient
        files = [(home / f"{patient}_{m}.nii.gz", m) for m, _ in SARCOMA.values()]
        added.append(store.add_nifti(library, [(path, m) for path, m in files if path.exists()]))
    for case_id in dict.fromkeys(added):
        store.set_words(library, case_id, indication=INDICATION)
    rows = [predicted(case_id, bundle, out, options, library, log) for case_id in dict.fromkeys(added)]
    return DemoResult(cases=rows, bundle=bundle.name, home=str(out / "home"))


def chosen(folder: Path, cases: int) -> tuple[list[str], list[str]]:
    """Patients to take as DICOM and as volumes. Raises WrongUse where the folder is no copy of the set."""
    dicom = folder / "dicom"
    studies = sorted(p.name for p in dicom.glob("STS_[0-9][0-9][0-9]")) if dicom.is_dir() else []
    there = any((folder / name).is_dir() for name in VOLUMES)
    if not studies and not there:
        raise WrongUse(
            f"--real {folder}: no copy of the public soft-tissue sarcoma set: give the folder that holds its "
            "nifti/STS_001_CT.nii.gz and so on, or its dicom/STS_002 (docs/real.md says where to get it)"
        )
    studies = studies[:cases]
    order = {"test": 0, "val": 1, "train": 2}
    others = [p for p in sarcoma_patients(folder) if p not in studies] if there else []
    volumes = sorted(others, key=lambda p: (order[split_of(p)], p))[: cases - len(studies)]
    return studies, volumes
