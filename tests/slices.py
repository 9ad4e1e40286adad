"""Build classic CT slices with a known geometry, to see what the reader makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

AXIAL = (1.0, 0, 0, 0, 1, 0)


def write_slice(
    path: Path,
    *,
    position,
    orientation=AXIAL,
    series="1.2.3",
    number=1,
    value=0,
    spacing=(0.8, 0.7),
    size=(6, 5),
    slope=1.0,
    intercept=-1024.0,
    patient="P1",
    study="1.2.9",
    sop=None,
    **extra,
) -> FileDataset:
    """One slice of ``size`` (rows, columns); pixel value = 1000 + value + column + 10 * row before
    rescale."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    meta.MediaStorageSOPInstanceUID = sop or generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID = meta.MediaStorageSOPClassUID
    ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    ds.PatientID = patient
    ds.PatientName = "X"
    ds.StudyInstanceUID = study
    ds.SeriesInstanceUID = series
    ds.Modality = "CT"
    ds.InstanceNumber = number
    ds.FrameOfReferenceUID = "1.2.77"
    ds.ImagePositionPatient = [float(np.format_float_positional(v, 6)) for v in position]
    ds.ImageOrientationPatient = [round(float(v), 8) for v in orientation]
    ds.PixelSpacing = list(spacing)
    ds.SliceThickness = 2.5
    ds.Rows, ds.Columns = size
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit = 15
    ds.PixelRepresentation = 0
    ds.RescaleSlope = slope
    ds.RescaleIntercept = intercept
    row, column = np.mgrid[0 : size[0], 0 : size[1]]
    ds.PixelData = (1000 + value + column + 10 * row).astype(np.uint16).tobytes()
    for key, v in extra.items():
        setattr(ds, key, v)
    ds.save_as(path, enforce_file_format=True)
    return ds


def write_stack(folder: Path, positions, **kwargs) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for n, position in enumerate(positions, 1):
        write_slice(folder / f"{n:03d}.dcm", position=position, number=n, value=100 * n, **kwargs)
