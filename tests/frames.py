"""Build enhanced multi-frame objects whose frames say what a test chooses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
LEGACY_MR = "1.2.840.10008.5.1.4.1.1.4.4"
SIZE = (4, 5)  # rows, columns


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One frame: height in mm, its one pixel value, and (group, attribute) → value of its functional
    groups."""

    z: float
    value: int
    says: dict[tuple[str, str], object] = field(default_factory=dict)


def item_of(says: dict[tuple[str, str], object]) -> Dataset:
    """One item of functional groups."""
    out = Dataset()
    for (group, key), value in says.items():
        if group not in out:
            setattr(out, group, [Dataset()])
        setattr(out[group].value[0], key, value)
    return out


def write_enhanced(
    path: Path, frames: Sequence[Frame], *, sop_class: str = ENHANCED_MR, **extra
) -> FileDataset:
    """One object of these frames, in their order. Orientation axial, pixels of 1 mm unless a frame says
    otherwise."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID = sop_class
    ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    ds.PatientID = "P1"
    ds.PatientName = "X"
    ds.StudyInstanceUID = "1.2.9"
    ds.SeriesInstanceUID = "1.2.3"
    ds.Modality = "CT" if sop_class == ENHANCED_CT else "MR"
    ds.FrameOfReferenceUID = "1.2.77"
    ds.NumberOfFrames = len(frames)
    ds.Rows, ds.Columns = SIZE
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit = 15
    ds.PixelRepresentation = 0
    shared = {
        ("PlaneOrientationSequence", "ImageOrientationPatient"): [1.0, 0, 0, 0, 1, 0],
        ("PixelMeasuresSequence", "PixelSpacing"): [1.0, 1.0],
        ("PixelMeasuresSequence", "SliceThickness"): 3.0,
    }
    ds.SharedFunctionalGroupsSequence = [item_of(shared)]
    ds.PerFrameFunctionalGroupsSequence = [
        item_of({("PlanePositionSequence", "ImagePositionPatient"): [0.0, 0.0, f.z]} | f.says) for f in frames
    ]
    for key, value in extra.items():
        setattr(ds, key, value)
    ds.PixelData = np.concatenate([np.full(SIZE, f.value, np.uint16) for f in frames]).tobytes()
    ds.save_as(path, enforce_file_format=True)
    return ds
