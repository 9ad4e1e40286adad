"""The cases of benchmarks/viewer.py: one with a large CT, an MR and a cine, and a worklist of any length."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import MRImageStorage, UltrasoundMultiFrameImageStorage, generate_uid

from medfuse.library import Library


def write_series(folder: Path) -> None:
    """CT, MR and cine of one generated patient."""
    write_ct = runpy.run_path(str(Path(__file__).with_name("io.py")))["write_ct"]
    write_ct(folder / "CT", 200, 512)
    write_ct(folder / "MR", 60, 256)
    for path in (folder / "MR").iterdir():
        ds = pydicom.dcmread(path)
        ds.Modality = "MR"
        ds.SOPClassUID = MRImageStorage
        ds.file_meta.MediaStorageSOPClassUID = MRImageStorage
        del ds.RescaleSlope, ds.RescaleIntercept
        ds.save_as(path, enforce_file_format=True)
    ds.Modality = "US"
    ds.SOPClassUID = UltrasoundMultiFrameImageStorage
    ds.file_meta.MediaStorageSOPClassUID = UltrasoundMultiFrameImageStorage
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    ds.StudyInstanceUID = generate_uid()
    ds.SeriesInstanceUID = generate_uid()
    for name in (
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
        "FrameOfReferenceUID",
        "SliceThickness",
    ):
        delattr(ds, name)
    ds.Rows = 480
    ds.Columns = 640
    ds.NumberOfFrames = 60
    ds.FrameTime = 40
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit = 7
    ds.PixelRepresentation = 0
    ds.PixelData = np.random.default_rng(0).integers(0, 255, (60, 480, 640), dtype=np.uint8).tobytes()
    (folder / "US").mkdir()
    ds.save_as(folder / "US" / "cine.dcm", enforce_file_format=True)


def many_rows(n: int) -> None:
    """A worklist of n cases that were predicted, as rows of the catalogue."""
    from medfuse.library.catalogue import CaseRow, ResultRow, SeriesRow

    rng = np.random.default_rng(1)
    findings = ("steatosis", "cirrhosis", "ascites", "simple_cyst", "hcc_like", "gallstone")
    with Library().session() as s:
        for i in range(n):
            case_id = f"GEN-{i:05d}"
            s.add(
                CaseRow(
                    id=case_id,
                    patient_id=f"GEN{i:05d}",
                    simulated=True,
                    study_date=f"2024{1 + i % 12:02d}{1 + i % 28:02d}",
                )
            )
            kinds = [m for m in ("US", "CT", "MR") if rng.random() < 0.8] or ["CT"]
            for m in kinds:
                s.add(
                    SeriesRow(
                        uid=f"1.2.{i}.{m}", case_id=case_id, modality=m, role="portal", role_confidence=0.9
                    )
                )
            summary = {
                "states": {m: "present" if m in kinds else "absent" for m in ("US", "CT", "MR")},
                "in_domain": True,
                "cannot_tell": [],
                "findings": {f: round(float(rng.random()), 3) for f in findings},
            }
            s.add(
                ResultRow(
                    case_id=case_id,
                    bundle_hash="0" * 64,
                    language="en",
                    prediction={},
                    report={},
                    summary=summary,
                )
            )
