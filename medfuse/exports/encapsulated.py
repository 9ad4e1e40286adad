"""The report's PDF inside a DICOM object (Encapsulated PDF Storage, PS3.3 A.45.1), filed with the patient's
study."""

from __future__ import annotations

from pydicom.dataset import FileDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID

from ..case import Case
from ..report import Report
from .dicom_source import dicom_images, headers_of, object_beside, report_key

PDF_STORAGE = UID("1.2.840.10008.5.1.4.1.1.104.1")


def encapsulate(pdf: bytes, report: Report, case: Case) -> FileDataset:
    """Raises UserError where no image has DICOM identifiers."""
    first = headers_of(case.images[dicom_images(case, "encapsulated PDF")[0]])[0]
    description = "medfuse report" + ("" if report.signed_by else ", RESEARCH DRAFT")
    ds = object_beside(first, PDF_STORAGE, "DOC", 902, description, report_key(report))
    for name in ("IssuerOfPatientID", "StudyDescription"):
        setattr(ds, name, first.get(name, ""))
    ds.ConversionType = "WSD"
    ds.AcquisitionDateTime = ""
    ds.BurnedInAnnotation = "YES"
    ds.DocumentTitle = report.banner[0]
    ds.VerificationFlag = "VERIFIED" if report.signed_by else "UNVERIFIED"
    ds.ConceptNameCodeSequence = Sequence([])
    ds.MIMETypeOfEncapsulatedDocument = "application/pdf"
    ds.EncapsulatedDocumentLength = len(pdf)
    ds.EncapsulatedDocument = pdf + b"\0" * (len(pdf) % 2)
    return ds
