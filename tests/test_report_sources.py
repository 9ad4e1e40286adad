"""Reports as hospitals send them: HL7 v2, FHIR, DICOM SR and PDF, and what becomes of damaged ones."""

from __future__ import annotations

import base64
import io
import json

import pytest
from hospital import hospital, outcome, write_fhir, write_hl7
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from reportlab.pdfgen.canvas import Canvas

from medfuse.cohort.build import BuildRequest, build
from medfuse.cohort.fhir import read_fhir
from medfuse.cohort.history import standing
from medfuse.cohort.ledger import read_ledger
from medfuse.cohort.listen import _header
from medfuse.cohort.sources import read_sources
from medfuse.cohort.tables import TableFormat
from medfuse.errors import UserError, WrongUse
from medfuse.task import load_task

PLAIN = TableFormat(columns={})
QUIET = lambda what: lambda done, total: None  # noqa: E731


def read(path):
    return read_sources([path], PLAIN)


def based(data):
    return base64.b64encode(data).decode()


def oru(*, text="No gallstone.", accession="A1", status="F", charset="UNICODE UTF-8", obr18="", more=""):
    return "\r".join(
        [
            f"MSH|^~\\&|RIS|H|MF|H|202401051200||ORU^R01|M1|P|2.5.1||||||{charset}",
            "PID|1||P7^^^HIS-A^MR||DOE^JANE||19500102|F",
            f"OBR|1||{accession}|CTAB^CT ABDOMEN|||202401051000|||||||||||{obr18}|||||||{status}",
            f"OBX|1|TX|CTAB&GDT^CT||{text}||||||{status}",
            *([more] if more else []),
        ]
    )


def test_an_oru_says_what_it_is_of(tmp_path):
    path = tmp_path / "a.hl7"
    path.write_bytes(oru(text="Liver \\T\\ spleen normal.\\.br\\No stone.").encode())
    (row,) = read(path).rows
    assert (row.accession, row.patient_id, row.issuer, row.name) == ("A1", "P7", "HIS-A", "DOE^JANE")
    assert (row.sex, row.birth_date, row.modalities, row.status) == ("F", "19500102", ("CT",), "final")
    assert row.dates[0].isoformat() == "2024-01-05"
    assert row.text == "FINDINGS: Liver & spleen normal.\nNo stone."


@pytest.mark.parametrize("separators", ["|^~\\^", "|^^\\&"])
def test_separators_that_are_alike_are_a_refused_message(tmp_path, separators):
    """python-hl7 asserts that they differ."""
    path = tmp_path / "a.hl7"
    path.write_bytes(oru().replace("|^~\\&", separators, 1).encode())
    found = read(path)
    assert not found.rows
    assert "send it again" in found.refused[0].reason
    assert _header(path.read_bytes()) is None


def test_the_accession_is_that_of_obr_18_before_obr_3(tmp_path):
    path = tmp_path / "a.hl7"
    path.write_bytes(oru(accession="FILLER9", obr18="A1").encode())
    (row,) = read(path).rows
    assert (row.accession, row.also) == ("A1", "FILLER9")


@pytest.mark.parametrize(
    ("charset", "encoding"), [("BIG-5", "cp950"), ("GB 18030-2000", "gb18030"), ("", "utf-8")]
)
def test_an_oru_is_read_in_its_own_character_set(tmp_path, charset, encoding):
    text = "膽囊內可見結石。" if encoding != "gb18030" else "胆囊内可见结石。"
    path = tmp_path / "a.hl7"
    path.write_bytes(oru(text=text, charset=charset).encode(encoding))
    assert text in read(path).rows[0].text


def test_final_stands_above_preliminary_and_a_correction_replaces(tmp_path):
    for n, (status, text) in enumerate((("P", "Maybe a stone."), ("F", "A stone."), ("C", "No stone."))):
        (tmp_path / f"{n}.hl7").write_bytes(oru(status=status, text=text).encode())
    (report,) = standing(read(tmp_path).rows)
    assert "No stone." in report.text
    assert len(report.history) == 2


def test_one_file_holds_many_messages_and_two_orders_may_share_a_text(tmp_path):
    two = oru().replace("OBX|1", "OBR|2||A2|CTAB^CT ABDOMEN|||202401051000\rOBX|1")
    path = tmp_path / "a.hl7"
    path.write_bytes(b"\x0b" + oru(accession="A9").encode() + b"\x1c\r\x0b" + two.encode() + b"\x1c\r")
    rows = read(path).rows
    assert [r.accession for r in rows] == ["A9", "A1;A2"]


def test_what_is_no_report_is_refused_by_name(tmp_path):
    messages = {
        "adt.hl7": oru().replace("ORU^R01", "ADT^A01"),
        "empty.hl7": oru(text=""),
        "cut.hl7": oru()[:40],
        "odd.hl7": oru(status="Q"),
        "charset.hl7": None,
        "no_order.hl7": "\r".join(oru().split("\r")[:2]),
        "pdf.hl7": oru(
            more=f"OBX|2|ED|PDF||^application^pdf^Base64^{base64.b64encode(b'%PDF-1.4 cut').decode()}"
        ),
        "broken.json": '{"resourceType": "DiagnosticReport"',
        "none.json": '{"resourceType": "Patient"}',
        "invalid.json": '{"resourceType": "DiagnosticReport", "status": 5}',
        "picture.png": "x",
    }
    for name, text in messages.items():
        path = tmp_path / name
        path.write_bytes(oru(text="結石").encode("big5") if text is None else text.encode())
    found = read(tmp_path)
    assert not found.rows
    reasons = {r.source.partition(":")[0]: r.reason for r in found.refused}
    assert set(reasons) == set(messages)
    for name, words in {
        "adt": "is ADT^A01, not ORU^R01",
        "empty": "the report is empty",
        "cut": "has no OBR",
        "odd": "status 'Q' is not known",
        "charset": "says UNICODE UTF-8 and its bytes are not",
        "no_order": "has no OBR",
        "pdf": "its PDF cannot be read",
    }.items():
        assert words in reasons[f"{name}.hl7"]
    assert "is no FHIR resource" in reasons["broken.json"]
    assert "holds no DiagnosticReport" in reasons["none.json"]
    assert "is no valid DiagnosticReport" in reasons["invalid.json"]
    assert "of no kind that is read" in reasons["picture.png"]
    with pytest.raises(WrongUse, match="no such file"):
        read(tmp_path / "nowhere")
    (tmp_path / "bare").mkdir()
    with pytest.raises(UserError, match="holds no report"):
        read(tmp_path / "bare")


def diagnostic_report(**change):
    coded = {"type": {"coding": [{"code": "ACSN"}]}, "value": "A1"}
    return {
        "resourceType": "DiagnosticReport",
        "id": "d1",
        "status": "final",
        "code": {"text": "CT abdomen"},
        "basedOn": [{"identifier": coded}],
        "subject": {"reference": "Patient/p"},
        "effectiveDateTime": "2024-01-05T10:00:00+08:00",
        "conclusion": "No gallstone.",
    } | change


PATIENT = {
    "resourceType": "Patient",
    "id": "p",
    "identifier": [{"value": "P7"}],
    "name": [{"family": "DOE", "given": ["JANE"]}],
    "gender": "female",
    "birthDate": "1950-01-02",
}


def test_a_diagnostic_report_says_what_it_is_of(tmp_path):
    form = {
        "contentType": "text/plain; charset=utf-8",
        "data": based("肝臟正常。".encode()),
    }
    study = {
        "resourceType": "ImagingStudy",
        "id": "s",
        "status": "available",
        "subject": {"reference": "Patient/p"},
        "identifier": [{"system": "urn:dicom:uid", "value": "urn:oid:1.2.3"}],
    }
    report = diagnostic_report(presentedForm=[form], imagingStudy=[{"reference": "ImagingStudy/s"}])
    bundle = {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [{"resource": r} for r in (PATIENT, study, report)],
    }
    (tmp_path / "b.json").write_text(json.dumps(bundle), encoding="utf-8")
    (row,) = read(tmp_path / "b.json").rows
    assert (row.id, row.accession, row.study_uids) == ("d1", "A1", ("1.2.3",))
    assert (row.patient_id, row.name, row.sex, row.birth_date) == ("P7", "DOE^JANE", "F", "19500102")
    assert row.modalities == ("CT",)
    assert row.text == "肝臟正常。\nIMPRESSION: No gallstone."


def places_in(whole, place=()):
    """Each place in a JSON value, as the names and numbers that lead there."""
    yield place
    inside = whole.items() if isinstance(whole, dict) else enumerate(whole) if isinstance(whole, list) else ()
    for key, value in inside:
        yield from places_in(value, (*place, key))


@pytest.mark.attack
@pytest.mark.parametrize("wrong", [None, 5, "x", ["x"], {"a": 1}])
def test_no_value_of_a_wrong_kind_ends_the_reading_of_fhir(tmp_path, wrong):
    """One number where FHIR has a list, in what a report refers to, ended a cohort in a traceback."""
    number = {"type": {"coding": [{"code": "ACSN"}]}, "value": "A1", "assigner": {"display": "H"}}
    patient = {
        "resourceType": "Patient",
        "id": "p",
        "birthDate": "1950-01-02",
        "identifier": [number],
        "name": [{"family": "DOE", "given": ["J"]}],
    }
    study = {"resourceType": "ImagingStudy", "id": "s", "identifier": [{"value": "urn:oid:1.2.3"}]}
    order = {
        "resourceType": "ServiceRequest",
        "id": "o",
        "identifier": [number],
        "requester": {"display": "x"},
    }
    report = {
        "resourceType": "DiagnosticReport",
        "id": "r",
        "status": "final",
        "code": {"text": "CT"},
        "subject": {"reference": "Patient/p"},
        "imagingStudy": [{"reference": "ImagingStudy/s"}],
        "basedOn": [{"reference": "ServiceRequest/o"}],
        "category": [{"coding": [{"code": "NMR"}]}],
        "contained": [{"resourceType": "Observation", "id": "z", "status": "final", "code": {"text": "x"}}],
        "conclusion": "A mass.",
        "issued": "2024-01-05T10:00:00Z",
    }
    whole = {"resourceType": "Bundle", "entry": [{"resource": r} for r in (patient, study, order, report)]}
    for *above, last in filter(None, places_in(whole)):
        changed = json.loads(json.dumps(whole))
        at = changed
        for key in above:
            at = at[key]
        at[last] = wrong
        (tmp_path / "a.json").write_text(json.dumps(changed))
        found = read_fhir(tmp_path / "a.json")
        assert found.rows or found.refused


def test_ndjson_holds_one_report_a_line_and_keeps_the_whole_ones(tmp_path):
    lines = [json.dumps(diagnostic_report(id=f"d{n}")) for n in range(3)]
    lines[1] = lines[1][:30]
    (tmp_path / "a.ndjson").write_text("\n".join(lines))
    found = read(tmp_path / "a.ndjson")
    assert [r.id for r in found.rows] == ["d0", "d2"]
    assert len(found.refused) == 1


def dicom_report(path, kind, **change):
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = kind, generate_uid(entropy_srcs=[path.name])
    ds.StudyInstanceUID, ds.PatientID, ds.PatientName = "1.2.3", "P7", "DOE^JANE"
    ds.AccessionNumber, ds.StudyDate, ds.Modality = "A1", "20240105", "SR"
    for name, value in change.items():
        setattr(ds, name, value)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = kind, ds.SOPInstanceUID
    ds.save_as(path, enforce_file_format=True)


def content(kind, name, **values):
    item, concept = Dataset(), Dataset()
    concept.CodeMeaning, concept.CodeValue, concept.CodingSchemeDesignator = name, "1", "99"
    item.ValueType, item.ConceptNameCodeSequence = kind, [concept]
    for key, value in values.items():
        setattr(item, key, value)
    return item


def test_a_structured_report_is_read_with_its_sections(tmp_path):
    said = [
        content("TEXT", "Finding", TextValue="Liver normal."),
        content("TEXT", "Finding", TextValue="No stone."),
    ]
    impression = content("TEXT", "Impression", TextValue="Normal.")
    tree = [
        content("CONTAINER", "Findings", ContentSequence=said),
        content("CONTAINER", "Impressions", ContentSequence=[impression]),
    ]
    dicom_report(tmp_path / "a.dcm", "1.2.840.10008.5.1.4.1.1.88.11", ContentSequence=tree)
    (row,) = read(tmp_path / "a.dcm").rows
    assert row.text == "FINDINGS: Liver normal.\nNo stone.\nIMPRESSION: Normal."
    assert (row.study_uids, row.accession, row.patient_id) == (("1.2.3",), "A1", "P7")


def test_an_encapsulated_pdf_is_read_and_an_image_is_refused(tmp_path):
    made = io.BytesIO()
    page = Canvas(made)
    page.drawString(72, 700, "No gallstone is seen.")
    page.save()
    pdf = made.getvalue() + b"\0" * (len(made.getvalue()) % 2)
    dicom_report(tmp_path / "a.dcm", "1.2.840.10008.5.1.4.1.1.104.1", EncapsulatedDocument=pdf)
    dicom_report(tmp_path / "b.dcm", "1.2.840.10008.5.1.4.1.1.2")
    found = read(tmp_path)
    assert [r.text for r in found.rows] == ["No gallstone is seen."]
    assert "without a report" in found.refused[0].reason


@pytest.mark.parametrize("write", [write_hl7, write_fhir])
def test_the_hospital_is_linked_as_rightly_from_feeds_as_from_a_table(tmp_path, write):
    planted = hospital(tmp_path, 30, each=1)
    folder = write(planted, tmp_path / "feed")
    request = BuildRequest(
        archive=planted.archive, reports=[folder], task=load_task("upper-abdomen"), out=tmp_path / "c"
    )
    result = build(request, QUIET)
    assert result.reports == len(planted.lines)
    found = outcome(planted, read_ledger(tmp_path / "c" / "ledger.csv"))
    assert not found.wrong
    assert not found.missed
    assert found.linked > 20
