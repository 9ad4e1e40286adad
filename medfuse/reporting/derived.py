"""A derived picture stack as DICOM: multi-frame grey-scale Secondary Capture that refers to its sources and says it is no measurement."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian

from .. import __version__
from ..case import Image
from ..errors import UserError
from .dicom_source import MANUFACTURER, MODEL, from_dicom, headers_of, uid_of

CAPTURE = UID("1.2.840.10008.5.1.4.1.1.7.2")


def write_derived(fused: np.ndarray, affine: np.ndarray, images: list[Image], out: Path) -> None:
    """fused (I, J, K) in 0 to 1 on the first image's grid. Raises UserError where a source has no DICOM identifiers."""
    for image in images:
        if not from_dicom(image):
            raise UserError(
                f"{image.source.path}: came without DICOM identifiers, so no DICOM can refer to it; end --out in .nii.gz or .png"
            )
    first = headers_of(images[0])[0]
    frames = np.round(255 * np.clip(fused, 0, 1)).astype(np.uint8).transpose(2, 1, 0)
    key = ("fused", *[i.source.sha256 for i in images], frames.tobytes())
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = CAPTURE, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = uid_of(*key)
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SpecificCharacterSet = "ISO_IR 192"
    for name in (
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientSex",
        "StudyInstanceUID",
        "StudyDate",
        "StudyTime",
        "AccessionNumber",
        "ReferringPhysicianName",
        "StudyID",
    ):
        setattr(ds, name, first.get(name, ""))
    now = datetime.now()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality, ds.ConversionType = (
        CAPTURE,
        meta.MediaStorageSOPInstanceUID,
        "OT",
        "WSD",
    )
    ds.SeriesInstanceUID, ds.SeriesNumber, ds.InstanceNumber = uid_of("series", *key), 904, 1
    ds.SeriesDescription = "medfuse fused, RESEARCH, not for measurement"
    ds.Manufacturer, ds.ManufacturerModelName, ds.SoftwareVersions = MANUFACTURER, MODEL, __version__
    ds.ContentDate, ds.ContentTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    ds.ImageType = ["DERIVED", "SECONDARY", "FUSED"] + (["SIMULATED"] if images[0].source.simulated else [])
    ds.DerivationDescription = (
        f"pixel-level fusion of {' and '.join(i.modality for i in images)}; values are not measurements"
    )
    ds.BurnedInAnnotation, ds.Laterality, ds.PatientOrientation = "NO", "", ""
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.NumberOfFrames, ds.Rows, ds.Columns = frames.shape
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelRepresentation = 7, 0
    ds.PresentationLUTShape, ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "IDENTITY", 0, 1, "US"
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    ds.FrameIncrementPointer = 0x00182002
    ds.FrameLabelVector = [f"slice {k + 1}" for k in range(len(frames))]
    ds.PixelSpacing = [float(f"{spacing[1]:.6g}"), float(f"{spacing[0]:.6g}")]
    sources = []
    for image in images:
        for header in headers_of(image):
            item = Dataset()
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
            sources.append(item)
    ds.SourceImageSequence = Sequence(sources)
    ds.PixelData = frames.tobytes() + b"\0" * (frames.size % 2)
    ds.save_as(out, enforce_file_format=True)
