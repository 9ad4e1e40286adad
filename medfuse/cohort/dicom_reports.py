"""DICOM SR and encapsulated PDF → report messages; the study that they are filed with is named by its UID."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import TypedDict

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from ..deidentify.values import listed
from ..errors import UserError
from ..io.charset import to_utf8
from ..io.child import ChildFailed, children
from .pdf import pdf_text
from .persons import Persons
from .rows import RefusedRow, ReportRow, Reports, dates_of
from .words import Status, status_of

SECONDS = 60
SR = "1.2.840.10008.5.1.4.1.1.88."
PDF = "1.2.840.10008.5.1.4.1.1.104.1"
HEADINGS = re.compile(
    r"^(indication|technique|comparison|finding|impression|conclusion|history)", re.IGNORECASE
)


class DicomReport(TypedDict, total=False):
    """What a DICOM report says, or only its fault; dates as in the file, ``pdf`` the bytes of a document."""

    fault: str
    uid: str
    text: str
    pdf: bytes
    draft: bool
    replaces: bool
    accession: str
    study: str
    date: str
    patient: str
    issuer: str
    name: str
    sex: str
    birth: str
    people: list[str]


def is_dicom(head: bytes) -> bool:
    """Whether bytes begin as a DICOM file does."""
    return head[128:132] == b"DICM"


def read_dicom_report(path: Path) -> Reports:
    """The one report of a file; it is parsed in a child. A DICOM file of another kind is refused by name."""
    out = Reports(encodings={path.name: "DICOM"})
    try:
        found: DicomReport = children().run(extract, str(path), limit=SECONDS)
    except ChildFailed as e:
        found = {"fault": str(e)}
    name = found.get("uid") or path.name
    try:
        if found.get("fault"):
            raise UserError(found["fault"])
        out.rows.append(_row(name, path, found))
    except UserError as e:
        out.refused.append(RefusedRow(id=name, source=path.name, reason=str(e)))
    return out


def _row(name: str, path: Path, found: DicomReport) -> ReportRow:
    text = found["text"] or (pdf_text(found["pdf"]) if found["pdf"] else "")
    if not text.strip():
        raise UserError("the report is empty; it has no words")
    status: Status | None = "preliminary" if found["draft"] else status_of("", text)
    if found["replaces"] and status == "final":
        status = "corrected"
    return ReportRow(
        id=name,
        source=path.name,
        text=text.strip(),
        accession=found["accession"],
        study_uids=(found["study"],) if found["study"] else (),
        dates=dates_of(found["date"]),
        patient_id=found["patient"],
        issuer=found["issuer"],
        status=status or "final",
        name=found["name"],
        sex=found["sex"][:1],
        birth_date=found["birth"],
        persons=Persons.of(found["people"]),
    )


def extract(path: str) -> DicomReport:
    """What a DICOM report says, as plain values. Runs in the child."""
    try:
        ds = dcmread(io.BytesIO(Path(path).read_bytes()))
    except (InvalidDicomError, OSError, ValueError, KeyError, EOFError, AttributeError) as e:
        return {"fault": f"is no readable DICOM file ({type(e).__name__}); send it again"}
    kind = str(ds.get("SOPClassUID", ""))
    pdf = bytes(ds.get("EncapsulatedDocument", b"")) if kind == PDF else b""
    to_utf8(ds)
    if not kind.startswith(SR) and kind != PDF:
        return {"fault": "is a DICOM file without a report; give structured reports or encapsulated PDF"}

    def said(name: str) -> str:
        return str(ds.get(name, "") or "").strip()

    return {
        "uid": said("SOPInstanceUID"),
        "text": "\n".join(_lines(ds, "")),
        "pdf": pdf.rstrip(b"\0"),
        "draft": "PRELIMINARY" in said("PreliminaryFlag") or said("CompletionFlag") == "PARTIAL",
        "replaces": bool(ds.get("PredecessorDocumentsSequence")),
        "accession": said("AccessionNumber"),
        "study": said("StudyInstanceUID"),
        "date": said("StudyDate") or said("ContentDate"),
        "patient": said("PatientID"),
        "issuer": said("IssuerOfPatientID"),
        "name": said("PatientName"),
        "sex": said("PatientSex"),
        "birth": said("PatientBirthDate"),
        "people": [str(v) for e in ds.iterall() if e.VR == "PN" for v in listed(e.value)],
    }


def _lines(item: Dataset, heading: str) -> list[str]:
    """Words of a content tree in its order; the name of a container, or of a text, that is a section of a
    report stands before them once."""
    out = []
    for child in item.get("ContentSequence") or []:
        section = _section_of(child)
        opened = "" if section == heading else section
        kind = str(child.get("ValueType", ""))
        if kind == "TEXT" and child.get("TextValue"):
            words = str(child.TextValue).strip()
            out.append(f"{opened}: {words}" if opened else words)
            heading = section or heading
        if kind == "CONTAINER" and opened:
            inside = _lines(child, opened)
            if inside:
                out += [f"{opened}: {inside[0]}", *inside[1:]]
                heading = opened
        else:
            out += _lines(child, heading)
    return out


def _section_of(item: Dataset) -> str:
    """The section of a report that an item's name is the heading of, "" where it is of none."""
    names = item.get("ConceptNameCodeSequence") or []
    name = str(names[0].get("CodeMeaning", "")) if names else ""
    section = name.rstrip("s").upper() if HEADINGS.match(name) else ""
    return {"FINDING": "FINDINGS", "CONCLUSION": "IMPRESSION"}.get(section, section)
