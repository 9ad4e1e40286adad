"""The report's PDF inside a DICOM object (Encapsulated PDF Storage, PS3.3 A.45.1), filed with the patient's study."""

from __future__ import annotations

from datetime import datetime

from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian

from .. import __version__
from ..case import Case
from ..report import Report
from .dicom_source import MANUFACTURER, MODEL, dicom_images, headers_of, report_key, uid_of

PDF_STORAGE = UID("1.2.840.10008.5.1.4.1.1.104.1")
COPIED = ("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate",
          "StudyTime", "AccessionNumber", "ReferringPhysicianName", "StudyID", "StudyDescription")  # fmt: skip


def encapsulate(pdf: bytes, report: Report, case: Case) -> FileDataset:
    """Raises UserError where no image has DICOM identifiers."""
    first = headers_of(case.images[dicom_images(case, "encapsulated PDF")[0]])[0]
    key = report_key(report)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = PDF_STORAGE, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = uid_of("pdf", key)
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SpecificCharacterSet = "ISO_IR 192"
    for name in COPIED:
        setattr(ds, name, first.get(name, ""))
    now = datetime.now()
    ds.SOPClassUID, ds.SOPInstanceUID = PDF_STORAGE, meta.MediaStorageSOPInstanceUID
    ds.Modality, ds.ConversionType = "DOC", "WSD"
    ds.SeriesInstanceUID, ds.SeriesNumber, ds.InstanceNumber = uid_of("pdf-series", key), 902, 1
    ds.SeriesDescription = "medfuse report" + ("" if report.signed_by else ", RESEARCH DRAFT")
    ds.Manufacturer, ds.ManufacturerModelName, ds.SoftwareVersions = MANUFACTURER, MODEL, __version__
    ds.ContentDate, ds.ContentTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    ds.AcquisitionDateTime = ""
    ds.BurnedInAnnotation, ds.DocumentTitle = "YES", report.banner[0]
    ds.VerificationFlag = "VERIFIED" if report.signed_by else "UNVERIFIED"
    ds.ConceptNameCodeSequence = Sequence([])
    ds.MIMETypeOfEncapsulatedDocument = "application/pdf"
    ds.EncapsulatedDocumentLength = len(pdf)
    ds.EncapsulatedDocument = pdf + b"\0" * (len(pdf) % 2)
    return ds
