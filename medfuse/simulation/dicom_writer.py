"""Simulated patients as real DICOM: three studies a patient, each with its own UIDs, accession and date.

Every header says SIMULATED (ImageType value 3, ImageComments, PatientName, SeriesDescription). UIDs derive
from hashes, so the same patient always has the same UIDs.
"""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from ..affine import Affine
from ..io.manifest import ManifestImage
from .grid import Grid
from .parameters import digest
from .patient import Acquisition, SimulatedPatient

SOP = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "US": "1.2.840.10008.5.1.4.1.1.3.1",
}
DESCRIPTION = {
    "unenhanced": "Liver unenhanced",
    "arterial": "Liver arterial phase",
    "portal": "Liver portal venous phase",
    "delayed": "Liver delayed phase",
    "t1_in": "T1 GRE in phase",
    "t1_opposed": "T1 GRE opposed phase",
    "t2": "T2 TSE",
    "dwi": "DWI b800",
    "t1_arterial": "T1 GRE fs arterial phase",
    "t1_portal": "T1 GRE fs portal venous phase",
    "t1_delayed": "T1 GRE fs delayed phase",
    "cine": "Abdomen cine sweep",
}
# TE and TR in ms, scanning sequence
MR_TIMES = {
    "t1_in": (4.6, 150, "GR"),
    "t1_opposed": (2.3, 150, "GR"),
    "t2": (85, 3000, "SE"),
    "dwi": (60, 4000, "EP"),
}
WITH_CONTRAST = ("arterial", "portal", "delayed", "t1_arterial", "t1_portal", "t1_delayed")
CT_INTERCEPT = -1024  # HU of stored value 0


def uid(*parts: object) -> UID:
    """A UID that the parts always give again."""
    return generate_uid(entropy_srcs=["medfuse-simulation", *[str(p) for p in parts]])


def write(patient: SimulatedPatient, folder: Path) -> list[ManifestImage]:
    """Write all studies under ``folder``; return the manifest's image entries (one folder a series)."""
    entries = []
    start = date(2024, 1, 8) + timedelta(days=int(patient.seed * 7 + patient.number) % 600)
    for offset, modality in ((0, "US"), (3, "CT"), (9, "MR")):
        when = start + timedelta(days=offset)
        for number, a in enumerate(patient.of(modality), 1):
            name = f"{a.modality}_{a.role}"
            target = folder / modality / name
            target.mkdir(parents=True, exist_ok=True)
            if a.cine is not None:
                _write_cine(patient, a, when, target / "cine.dcm")
            else:
                _write_slices(patient, a, number, when, target)
            path = f"{folder.name}/{modality}/{name}"
            entries.append(ManifestImage(path=path, modality=a.modality, role=a.role))
    return entries


def _base(
    patient: SimulatedPatient, a: Acquisition, when: date, instance: int, path: Path, number: int = 1
) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(SOP[a.modality])
    meta.MediaStorageSOPInstanceUID = uid(patient.case_id, a.modality, a.role, instance)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "SIMULATED"] + (
        [{"t1_in": "IN_PHASE", "t1_opposed": "OPP_PHASE"}[a.role]]
        if a.role in ("t1_in", "t1_opposed")
        else []
    )
    ds.SOPClassUID = SOP[a.modality]
    ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    ds.StudyDate = ds.SeriesDate = ds.ContentDate = when.strftime("%Y%m%d")
    ds.StudyTime = ds.SeriesTime = ds.ContentTime = "090000"
    ds.AccessionNumber = f"S{patient.seed % 10**6:06d}{patient.number:05d}{a.modality}"[:16]
    ds.Modality = a.modality
    ds.Manufacturer = "medfuse simulator"
    ds.ManufacturerModelName = "SIMULATED"
    ds.SoftwareVersions = digest()[:12]
    ds.StudyDescription = f"SIMULATED {a.modality} upper abdomen"
    ds.SeriesDescription = f"SIMULATED {DESCRIPTION[a.role]}"
    ds.ReferringPhysicianName = ""
    ds.ReasonForStudy = patient.indication
    ds.AdditionalPatientHistory = patient.risk
    ds.PatientName = f"SIMULATED^{patient.case_id}"
    ds.PatientID = patient.case_id
    ds.IssuerOfPatientID = "medfuse-simulation"
    ds.PatientBirthDate = f"{1960 + patient.anatomy.age % 40}0101"
    ds.PatientSex = patient.anatomy.sex
    ds.PatientIdentityRemoved = "YES"
    ds.DeidentificationMethod = "SIMULATED, never a patient"
    ds.BodyPartExamined = "ABDOMEN"
    ds.StudyInstanceUID = uid(patient.case_id, a.modality)
    ds.SeriesInstanceUID = uid(patient.case_id, a.modality, a.role)
    ds.StudyID = "1"
    ds.SeriesNumber = number
    ds.InstanceNumber = instance
    ds.ImageComments = "SIMULATED by medfuse: computed from a mathematical phantom, not a patient"
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    return ds


def _write_slices(patient: SimulatedPatient, a: Acquisition, number: int, when: date, folder: Path) -> None:
    assert a.grid is not None
    offset = CT_INTERCEPT if a.modality == "CT" else 0
    stored = np.round(a.pixels - offset).astype(np.uint16)
    for k in range(stored.shape[2]):
        path = folder / f"{k + 1:04d}.dcm"
        ds = _base(patient, a, when, k + 1, path, number)
        ds.FrameOfReferenceUID = uid(patient.case_id, a.modality, "frame")
        ds.PositionReferenceIndicator = ""
        _place_slice(ds, a.grid, k)
        ds.BitsAllocated = ds.BitsStored = 16
        ds.HighBit = 15
        ds.PixelRepresentation = 0
        ds.AcquisitionNumber = number
        if a.modality == "CT":
            _describe_ct(ds)
        else:
            _describe_mr(ds, a.role)
        if a.role in WITH_CONTRAST:
            ds.ContrastBolusAgent = "SIMULATED contrast agent"
        ds.PixelData = np.ascontiguousarray(stored[:, :, k].T).tobytes()
        ds.save_as(path, enforce_file_format=True)


def _place_slice(ds: Dataset, grid: Grid, k: int) -> None:
    """Where slice ``k`` lies in the patient, and its matrix."""
    lps = Affine(grid.affine).lps
    spacing = grid.spacing
    ds.ImagePositionPatient = [round(float(v), 6) for v in lps[:3, 3] + k * lps[:3, 2]]
    cosines = np.concatenate([lps[:3, 0] / spacing[0], lps[:3, 1] / spacing[1]])
    ds.ImageOrientationPatient = [round(float(v), 8) for v in cosines]
    ds.PixelSpacing = [round(spacing[1], 6), round(spacing[0], 6)]
    ds.SliceThickness = round(spacing[2], 6)
    ds.PatientPosition = "HFS"
    ds.Rows = grid.shape[1]
    ds.Columns = grid.shape[0]


def _describe_ct(ds: Dataset) -> None:
    """Hounsfield units, tube voltage and an abdominal window."""
    ds.RescaleSlope = 1.0
    ds.RescaleIntercept = float(CT_INTERCEPT)
    ds.RescaleType = "HU"
    ds.KVP = 120
    ds.WindowCenter = 60
    ds.WindowWidth = 360


def _describe_mr(ds: Dataset, role: str) -> None:
    """The sequence and its times; the b-value of diffusion."""
    te, tr, sequence = MR_TIMES.get(role, (1.2, 5.0, "GR"))
    ds.ScanningSequence = sequence
    ds.SequenceVariant = "SP"
    ds.ScanOptions = ""
    ds.MRAcquisitionType = "2D"
    ds.EchoTime = te
    ds.RepetitionTime = tr
    ds.EchoTrainLength = 1
    if role == "dwi":
        ds.DiffusionBValue = 800.0


def _write_cine(patient: SimulatedPatient, a: Acquisition, when: date, path: Path) -> None:
    assert a.cine is not None
    ds = _base(patient, a, when, 1, path)
    frames, rows, columns = a.pixels.shape
    ds.NumberOfFrames = frames
    ds.Rows = rows
    ds.Columns = columns
    ds.FrameTime = a.cine.frame_ms
    ds.FrameIncrementPointer = 0x00181063
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit = 7
    ds.PixelRepresentation = 0
    ds.LossyImageCompression = "00"
    ds.PatientOrientation = ""  # the probe is held freely: there is no plane to name
    region = Dataset()
    region.RegionSpatialFormat = 1
    region.RegionDataType = 1
    region.RegionFlags = 0
    x0, y0, x1, y1 = a.cine.region
    region.RegionLocationMinX0 = x0
    region.RegionLocationMinY0 = y0
    region.RegionLocationMaxX1 = x1
    region.RegionLocationMaxY1 = y1
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX = region.PhysicalDeltaY = round(a.cine.mm_per_pixel / 10, 8)
    ds.SequenceOfUltrasoundRegions = Sequence([region])
    data = np.ascontiguousarray(a.pixels).tobytes()
    ds.PixelData = data + b"\0" * (len(data) % 2)
    ds.save_as(path, enforce_file_format=True)
