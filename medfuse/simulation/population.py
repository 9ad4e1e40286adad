"""Many simulated patients to disk, with the manifest that training and evaluation read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from ..case import Lab
from ..errors import UserError
from ..io.manifest import TrueLesion
from .doppler import write_doppler
from .parameters import digest
from .patient import USUAL, SimulatedPatient, Variant, simulate


def _one(seed: int, index: int, out: Path, file_format: str, variant: Variant) -> dict:
    patient = simulate(seed, index, variant)
    folder = out / patient.case_id
    if file_format == "dicom":
        from .dicom_writer import write
    else:
        from .nifti_writer import write
    images = write(patient, folder) if patient.acquisitions else []
    heard = write_doppler(patient.sounds, folder) if patient.sounds else []
    return {
        "case_id": patient.case_id,
        "patient_id": patient.case_id,
        "split": "val" if index % 6 == 5 else "train",
        "simulated": True,
        "simulator": digest()[:12],
        "images": [image.model_dump(exclude_unset=True) for image in images],
        "labels": patient.labels,
        "report": patient.report,
        "rephrased": patient.rephrased,
        "reports": patient.reports,
        "indication": patient.indication,
        "labs": [_lab_row(lab) for lab in patient.labs],
        "risk": patient.risk,
        "lesions": [lesion.model_dump(mode="json") for lesion in lesions_of(patient)],
        **({"sounds": heard} if heard else {}),
    }


def _lab_row(lab: Lab) -> dict[str, str | float]:
    return {"name": lab.name, "loinc": lab.loinc, "value": lab.value, "unit": lab.unit, "date": lab.date}


def lesions_of(patient: SimulatedPatient) -> list[TrueLesion]:
    """Every true lesion with its centre in the scanner frame (RAS+ mm) of CT and of MR, before breathing
    moves it by some mm."""
    grids = {a.modality: a.grid for a in patient.acquisitions if a.grid is not None}
    return [
        TrueLesion(
            kind=x.kind,
            diameter_mm=round(x.diameter, 1),
            centre_mm={m: _rounded(x.centre - g.to_body) for m, g in grids.items()},
        )
        for x in patient.anatomy.lesions
    ]


def _rounded(mm: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (round(float(v), 1) for v in mm)
    return x, y, z


def write_population(
    out: Path,
    *,
    cases: int,
    seed: int,
    file_format: str = "dicom",
    variant: Variant = USUAL,
    workers: int = 1,
    split: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Simulate ``cases`` patients of stream ``seed`` into ``out`` and return the path of manifest.jsonl."""
    if cases < 1:
        raise UserError(f"--cases {cases}: ask for at least one patient")
    out.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(out).free < cases * 12e6:
        raise UserError(f"{out}: about {cases * 12} MB are needed for {cases} patients; free some space")
    rows: dict[int, dict] = {}
    if workers <= 1:
        for i in range(cases):
            rows[i] = _one(seed, i, out, file_format, variant)
            progress(len(rows), cases)
    else:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            futures = {pool.submit(_one, seed, i, out, file_format, variant): i for i in range(cases)}
            for future in as_completed(futures):
                rows[futures[future]] = future.result()
                progress(len(rows), cases)
    manifest = out / "manifest.jsonl"
    with manifest.open("w", encoding="utf-8") as f:
        for i in sorted(rows):
            row = rows[i] if split is None else {**rows[i], "split": split}
            f.write(json.dumps(row) + "\n")
    return manifest
