"""Report → FHIR R4B Bundle: Patient, ImagingStudy a study, Observation a finding, DiagnosticReport.
Preliminary until signed.

HL7 FHIR 4.3.0, validated by fhir.resources.R4B. Lesion places stay in the DICOM SR; an Observation carries
sizes and sides.
"""

from __future__ import annotations

import base64
import uuid
from datetime import UTC

from fhir.resources.R4B.bundle import Bundle

from ..case import Case
from ..drafting.compose import day
from ..prediction import LesionRecord, Prediction
from ..report import Report, SignedOff
from ..task import Task
from .codes import SYSTEMS, code_of
from .text import report_text

NAMESPACE = uuid.UUID("6d656466-7573-4000-8000-000000000000")  # of our own name-based UUIDs
STATUS = {"draft": "preliminary", "preliminary": "preliminary", "final": "final", "amended": "amended"}
ASSERTED = {
    "present": ("POS", "Positive"),
    "possible": ("IND", "Indeterminate"),
    "absent": ("NEG", "Negative"),
}
INTERPRETATION = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"
DCM = "http://dicom.nema.org/resources/ontology/DCM"
UCUM = "http://unitsofmeasure.org"


def _urn(*parts: str) -> str:
    return f"urn:uuid:{uuid.uuid5(NAMESPACE, '|'.join(parts))}"


def _patient(case: Case, simulated: bool) -> dict:
    out: dict = {
        "resourceType": "Patient",
        "identifier": [{"system": "urn:medfuse:patient", "value": case.patient_id or case.case_id}],
    }
    if simulated:
        out["meta"] = {
            "tag": [
                {"system": "urn:medfuse:codes", "code": "SIMULATED", "display": "simulated, never a patient"}
            ]
        }
    gender = {"M": "male", "F": "female", "O": "other"}.get(case.sex)
    return (
        out
        | ({"gender": gender} if gender else {})
        | ({"birthDate": day(case.birth_date.replace("-", ""))} if case.birth_date else {})
    )


def _studies(case: Case, subject: dict) -> dict[str, dict]:
    """StudyInstanceUID → ImagingStudy of the images that came as DICOM."""
    out: dict[str, dict] = {}
    for image in case.images:
        src = image.source
        if not src.study_uid:
            continue
        study = out.setdefault(
            src.study_uid,
            {
                "resourceType": "ImagingStudy",
                "status": "available",
                "subject": subject,
                "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{src.study_uid}"}],
                "series": [],
            },
        )
        if len(src.date) == 8:
            study["started"] = day(src.date)
        if all(s["uid"] != src.series_uid for s in study["series"]):
            row = {
                "uid": src.series_uid,
                "modality": {"system": DCM, "code": image.modality},
                "numberOfInstances": len(src.instance_uids),
            }
            study["series"].append(row | ({"description": src.description} if src.description else {}))
    return out


def _component(name: str, value: float, unit: str) -> dict:
    return {
        "code": {"text": name},
        "valueQuantity": {"value": round(value, 2), "unit": unit, "system": UCUM, "code": unit},
    }


def _lesion_components(lesion: LesionRecord, name: str) -> list[dict]:
    parts = [
        ("long axis", lesion.long_axis_mm, "mm"),
        ("short axis", lesion.short_axis_mm, "mm"),
        ("volume", lesion.volume_ml, "mL"),
    ]
    out = [_component(f"{lesion.id} {name}: {what}", v, unit) for what, v, unit in parts if v is not None]
    out = out or [{"code": {"text": f"{lesion.id} {name}"}, "valueString": "size not measured"}]
    return out + [_component(f"{lesion.id} {name}: {m.kind}", m.value, m.unit) for m in lesion.measured]


def _observations(prediction: Prediction, report: Report, task: Task, subject: dict) -> dict[str, dict]:
    """Full URL → Observation of every finding that the report speaks of."""
    said = report.said()
    status = "final" if report.state == "final" else "amended" if report.state == "amended" else "preliminary"
    out = {}
    for record in prediction.findings:
        finding = task.finding(record.id)
        sentence = said.get(record.id)
        if sentence is None:
            continue
        code = code_of(finding)
        one: dict = {
            "resourceType": "Observation",
            "status": status,
            "subject": subject,
            "category": [
                {
                    "coding": [
                        {
                            "system": "http://terminology.hl7.org/CodeSystem/observation-category",
                            "code": "imaging",
                        }
                    ]
                }
            ],
            "code": {
                "coding": [
                    {"system": SYSTEMS[code.scheme_designator], "code": code.value, "display": code.meaning}
                ],
                "text": finding.label(report.language),
            },
            "method": {"text": f"{prediction.bundle} {prediction.bundle_hash[:16]}"},
        }
        if sentence.assertion in ASSERTED and record.probability is not None and record.assessed:
            letter, word = ASSERTED[sentence.assertion]
            one["valueCodeableConcept"] = {"text": word}
            one["interpretation"] = [
                {"coding": [{"system": INTERPRETATION, "code": letter, "display": word}]}
            ]
            one["component"] = [_component("calibrated probability", record.probability, "1")]
            for lesion in prediction.lesions:
                if lesion.finding == record.id:
                    one["component"] += _lesion_components(lesion, finding.label("en"))
        else:
            one["dataAbsentReason"] = {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/data-absent-reason",
                        "code": "not-performed",
                    }
                ],
                "text": sentence.text,
            }
        out[_urn(report.case_id, prediction.bundle_hash, record.id)] = one
    return out


def _attachment(report: Report, kind: str, data: bytes) -> dict:
    return {
        "contentType": kind,
        "language": report.language,
        "title": report.banner[0],
        "data": base64.b64encode(data).decode(),
    }


def _conclusion(report: Report, signed: SignedOff | None) -> str:
    """The banner, who signed it, and the impression, a line each."""
    impression = report.section("impression")
    sentences = impression.sentences if impression else []
    signature = [signed.line(report.language)] if signed else []
    return "\n".join([*report.banner, *signature, *(x.text for x in sentences if x.state != "rejected")])


def fhir_bundle(
    prediction: Prediction,
    report: Report,
    case: Case,
    task: Task,
    *,
    pdf: bytes | None = None,
    signed: SignedOff | None = None,
) -> Bundle:
    """A validated R4B collection Bundle; ``pdf`` becomes the presented form beside the plain text.
    ``signed``: by whom and when."""
    patient_url = _urn("patient", case.patient_id or case.case_id)
    subject = {"reference": patient_url}
    studies = {_urn("study", uid): s for uid, s in _studies(case, subject).items()}
    observations = _observations(prediction, report, task, subject)
    shown = [_attachment(report, "text/plain; charset=utf-8", report_text(report, signed).encode())]
    if pdf is not None:
        shown.append(_attachment(report, "application/pdf", pdf))
    whole: dict = {
        "resourceType": "DiagnosticReport",
        "status": STATUS[report.state],
        "subject": subject,
        "category": [
            {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/v2-0074",
                        "code": "RAD",
                        "display": "Radiology",
                    }
                ]
            }
        ],
        "code": {
            "coding": [
                {"system": "http://loinc.org", "code": "18748-4", "display": "Diagnostic imaging study"}
            ],
            **({"text": task.title.get(report.language, task.title["en"])} if report.bundle else {}),
        },
        "result": [{"reference": url} for url in observations],
        "imagingStudy": [{"reference": url} for url in studies],
        "presentedForm": shown,
        "language": report.language,
        "conclusion": _conclusion(report, signed),
    }
    if report.signed_by:
        whole["resultsInterpreter"] = [{"display": report.signed_by}]
    if signed is not None:
        whole["issued"] = signed.at.replace(tzinfo=signed.at.tzinfo or UTC).isoformat(timespec="seconds")
    whole = {k: v for k, v in whole.items() if v != []}
    entries = {
        patient_url: _patient(case, report.simulated),
        **studies,
        **observations,
        _urn("report", report.model_dump_json()): whole,
    }
    return Bundle.model_validate(
        {
            "resourceType": "Bundle",
            "type": "collection",
            "entry": [{"fullUrl": url, "resource": r} for url, r in entries.items()],
        }
    )
