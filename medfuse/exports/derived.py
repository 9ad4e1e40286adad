"""A derived picture stack as DICOM: multi-frame grey-scale Secondary Capture that refers to its sources and
says it is no measurement."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID

from ..case import Image
from ..errors import UserError
from .dicom_source import from_dicom, headers_of, object_beside

CAPTURE = UID("1.2.840.10008.5.1.4.1.1.7.2")


def write_derived(fused: np.ndarray, affine: np.ndarray, images: list[Image], out: Path) -> None:
    """fused (I, J, K) in 0 to 1 on the first image's grid. Raises UserError where a source has no DICOM
    identifiers."""
    for image in images:
        if not from_dicom(image):
            raise UserError(
                f"{image.source.path}: came without DICOM identifiers, so no DICOM can refer to it; "
                "end --out in .nii.gz or .png"
            )
    first = headers_of(images[0])[0]
    frames = np.round(255 * np.clip(fused, 0, 1)).astype(np.uint8).transpose(2, 1, 0)
    key = ("fused", *[i.source.sha256 for i in images], frames.tobytes())
    ds = object_beside(first, CAPTURE, "OT", 904, "medfuse fused, RESEARCH, not for measurement", *key)
    ds.ConversionType = "WSD"
    ds.ImageType = ["DERIVED", "SECONDARY", "FUSED"] + (["SIMULATED"] if images[0].source.simulated else [])
    ds.DerivationDescription = (
        f"pixel-level fusion of {' and '.join(i.modality for i in images)}; values are not measurements"
    )
    ds.BurnedInAnnotation = "NO"
    ds.Laterality = ""
    ds.PatientOrientation = ""
    put_frames(ds, frames, "slice")
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    ds.PixelSpacing = [float(f"{spacing[1]:.6g}"), float(f"{spacing[0]:.6g}")]
    sources = []
    for image in images:
        for header in headers_of(image):
            item = Dataset()
            item.ReferencedSOPClassUID = header.SOPClassUID
            item.ReferencedSOPInstanceUID = header.SOPInstanceUID
            sources.append(item)
    ds.SourceImageSequence = Sequence(sources)
    ds.save_as(out, enforce_file_format=True)


def put_frames(ds: Dataset, frames: UInt8[np.ndarray, "k r c"], label: str) -> None:
    """Bytes as the frames of a grey-scale Secondary Capture (PS3.3 A.8.3), each labelled ``label`` and its
    number; their values have no unit."""
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.NumberOfFrames, ds.Rows, ds.Columns = frames.shape
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit = 7
    ds.PixelRepresentation = 0
    ds.PresentationLUTShape = "IDENTITY"
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = 0, 1, "US"
    ds.FrameIncrementPointer = 0x00182002
    ds.FrameLabelVector = [f"{label} {k + 1}" for k in range(len(frames))]
    data = np.ascontiguousarray(frames).tobytes()
    ds.PixelData = data + b"\0" * (len(data) % 2)
