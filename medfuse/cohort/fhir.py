"""FHIR R4B: DiagnosticReports, alone, in Bundles or one a line (NDJSON) → report messages."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fhir.resources.R4B.diagnosticreport import DiagnosticReport
from pydantic import ValidationError

from ..errors import UserError, fault_of, os_fault
from ..foreign import foreign_json
from .encoding import decoded
from .pdf import pdf_text
from .persons import of_fhir
from .rows import RefusedRow, ReportRow, Reports, dates_of
from .words import Status, modalities_of, opening_modalities, status_of, words

SECTIONS = {"NMR": "MR", "RUS": "US", "VUS": "US", "CUS": "US"}  # of HL7 table 0074
UID = "urn:oid:"
UNKNOWN = "unknown"

Resource = dict[str, Any]


def read_fhir(path: Path, encoding: str = "") -> Reports:
    """Every DiagnosticReport of a file. Raises UserError for a file that is no JSON."""
    try:
        text, name = decoded(path, path.read_bytes(), encoding)
    except OSError as e:
        raise UserError(f"{path}: cannot be read ({os_fault(e)}); check its permissions") from e
    out = Reports(encodings={path.name: name})
    resources = _resources(path.name, text, out)
    around = _Around.of(resources)
    reports = (r for r in resources if r.get("resourceType") == "DiagnosticReport")
    for k, report in enumerate(reports, 1):
        _read_one(f"{path.name}:{k}", report, around, out)
    if not out.given:
        out.refused.append(
            RefusedRow(id=path.name, source=path.name, reason="holds no DiagnosticReport; give one that does")
        )
    return out


def _resources(file: str, text: str, out: Reports) -> list[Resource]:
    """Every resource of a file, also of its Bundles; documents that are none go to the refused."""
    found: list[Resource] = []
    for n, whole in _documents(text):
        source = f"{file}:{n}"
        if not isinstance(whole, dict):
            out.refused.append(RefusedRow(id=source, source=source, reason="is no FHIR resource (JSON)"))
        elif whole.get("resourceType") == "Bundle":
            found += _entries(whole)
        else:
            found.append(whole)
    return found


def _entries(bundle: Resource) -> list[Resource]:
    """The resources of a Bundle, each with the URL that others refer to it by."""
    entries = bundle.get("entry")
    return [
        e["resource"] | {"fullUrl": e.get("fullUrl", "")}
        for e in (entries if isinstance(entries, list) else [])
        if isinstance(e, dict) and isinstance(e.get("resource"), dict)
    ]


def _read_one(source: str, report: Resource, around: _Around, out: Reports) -> None:
    """One DiagnosticReport to the rows, or by name to the refused."""
    name = _said(report, "id") or source
    try:
        out.rows.append(_row(name, source, report, around))
    except ValidationError as e:
        reason = f"is no valid DiagnosticReport ({fault_of(e)}); send it again"
        out.refused.append(RefusedRow(id=name, source=source, reason=reason))
    except UserError as e:
        out.refused.append(RefusedRow(id=name, source=source, reason=str(e)))
    except (TypeError, AttributeError, LookupError, ValueError, RecursionError):  # of what it refers to
        reason = "it, or what it refers to, holds values of another kind than FHIR's; send it again"
        out.refused.append(RefusedRow(id=name, source=source, reason=reason))


def _documents(text: str) -> Iterator[tuple[int, object]]:
    """The whole file as one document, else each of its lines; None for what is no JSON."""
    try:
        yield 1, foreign_json(text)
        return
    except ValueError:
        lines = [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
    for n, line in lines if len(lines) > 1 and lines[0][1].lstrip().startswith("{") else [(1, "")]:
        try:
            yield n, foreign_json(line)
        except ValueError:
            yield n, None
            if line.strip() in ("", "{"):  # one document over many lines, which is damaged
                return


@dataclass(frozen=True)
class _Around:
    """The resources of a file by each way to refer to them."""

    by_reference: dict[str, Resource]

    @classmethod
    def of(cls, resources: list[Resource]) -> _Around:
        found: dict[str, Resource] = {}
        for r in resources:
            for name in (r.get("fullUrl"), f"{r.get('resourceType')}/{r.get('id')}"):
                if name:
                    found[str(name)] = r
        return cls(found)

    def at(self, reference: object, contained: list[Resource]) -> Resource:
        """What a Reference points to, in the report itself or in its file; {} where it is not here."""
        if not isinstance(reference, dict):
            return {}
        name = str(reference.get("reference") or "")
        if name.startswith("#"):
            return next((c for c in contained if c.get("id") == name[1:]), {})
        return self.by_reference.get(name, {})

    def referred(self, report: Resource, key: str) -> list[Resource]:
        """What the References under a key of a report point to, with the identifiers that stand in them."""
        contained = report.get("contained") or []
        found = (self.at(r, contained) | _own(r) for r in report.get(key) or [])
        return [resource for resource in found if resource]


def _row(name: str, source: str, given: Resource, around: _Around) -> ReportRow:
    report = json.loads(
        DiagnosticReport.model_validate({k: v for k, v in given.items() if k != "fullUrl"}).model_dump_json()
    )
    text = _words(report)
    if not text:
        raise UserError("the report is empty: it has no presentedForm or conclusion with words")
    studies = around.referred(report, "imagingStudy")
    patient = around.at(report.get("subject"), report.get("contained") or [])
    who = _identifier(patient) or _identifier(_own(report.get("subject")))
    return ReportRow(
        id=name,
        source=source,
        text=text,
        accession=";".join(dict.fromkeys(_numbers(report, studies, around))),
        study_uids=tuple(dict.fromkeys(u for s in studies for u in _uids(s))),
        dates=dates_of(_day(report)),
        patient_id=_said(who, "value"),
        issuer=_said(who.get("assigner") or {}, "display"),
        modalities=_modalities(report),
        status=_status(report, text),
        name=_name(patient),
        sex=_said(patient, "gender")[:1].upper().replace("U", "").replace("O", ""),
        birth_date=_said(patient, "birthDate").replace("-", ""),
        persons=of_fhir(_people(report, patient, around)),
    )


def _people(report: Resource, patient: Resource, around: _Around) -> list[Resource]:
    """The resources that name who is in a report: itself, patient, readers, orders and who asked."""
    contained = report.get("contained") or []
    orders = around.referred(report, "basedOn")
    asked = [around.at(o.get("requester"), contained) for o in orders]
    readers = [r for key in ("performer", "resultsInterpreter") for r in around.referred(report, key)]
    return [report, patient, *orders, *asked, *readers]


def _said(resource: Resource, key: str) -> str:
    """A value of a resource as text, "" where it is missing."""
    return str(resource.get(key) or "")


def _status(report: Resource, text: str) -> Status:
    stated = str(report["status"])
    status = status_of(stated, text) if stated != UNKNOWN else None
    if status is None:
        raise UserError(f"its status {stated!r} is not known")
    return "corrected" if stated == "appended" else status  # the whole report again, with what was added


def _numbers(report: Resource, studies: list[Resource], around: _Around) -> list[str]:
    """Accession numbers: those of the orders, else of the studies, else of the report itself."""
    orders = around.referred(report, "basedOn")
    asked = [n for o in orders for n in _accessions(o, alone=True)]
    of_studies = [n for s in studies for n in _accessions(s, alone=False)]
    return asked or of_studies or _accessions(report, alone=False)


def _day(report: Resource) -> str:
    period = report.get("effectivePeriod") or {}
    return str(report.get("effectiveDateTime") or period.get("start") or report.get("issued") or "")[:10]


def _own(reference: object) -> Resource:
    """The identifier that stands in a Reference itself, as a resource has it."""
    found = reference.get("identifier") if isinstance(reference, dict) else None
    return {"identifier": [found]} if isinstance(found, dict) else {}


def _listed(resource: Resource) -> list[Resource]:
    found = resource.get("identifier") or []
    return [i for i in (found if isinstance(found, list) else [found]) if isinstance(i, dict)]


def _identifier(patient: Resource) -> Resource:
    """The medical record number of a patient, else the first identifier."""
    every = _listed(patient)
    return next((i for i in every if "MR" in _codes(i.get("type"))), every[0] if every else {})


def _codes(concept: object) -> set[str]:
    if not isinstance(concept, dict):
        return set()
    return {str(c.get("code") or "") for c in concept.get("coding") or [] if isinstance(c, dict)}


def _accessions(resource: Resource, *, alone: bool) -> list[str]:
    """Identifiers of type ACSN; with ``alone`` a single one without a type counts too."""
    every = _listed(resource)
    said = [str(i["value"]) for i in every if "ACSN" in _codes(i.get("type")) and i.get("value")]
    if said or not alone:
        return said
    plain = [str(i["value"]) for i in every if i.get("value") and not i.get("type")]
    return plain if len(plain) == 1 else []


def _uids(study: Resource) -> list[str]:
    values = [str(i.get("value") or "") for i in _listed(study)]
    return [v.removeprefix(UID) for v in values if v.startswith(UID)]


def _name(patient: Resource) -> str:
    names = patient.get("name")
    first = names[0] if isinstance(names, list) and names else None
    if not isinstance(first, dict):
        return ""
    given = " ".join(str(g) for g in first.get("given") or [])
    return "^".join(p for p in (_said(first, "family"), given) if p) or _said(first, "text")


def _modalities(report: Resource) -> tuple[str, ...]:
    known = set(words().modality)
    codes = [SECTIONS.get(c, c) for category in report.get("category") or [] for c in _codes(category)]
    found = tuple(dict.fromkeys(m for c in codes for m in modalities_of(c) if m in known))
    return found or opening_modalities("", _title(report.get("code") or {}))


def _title(concept: Resource) -> str:
    """A coded concept in words: its own text, else the names of its codes."""
    return _said(concept, "text") or " ".join(_said(c, "display") for c in concept.get("coding") or [])


def _words(report: Resource) -> str:
    """The presented form, plain before PDF, and the conclusion where it is not in it."""
    text = _presented(report)
    conclusion = _said(report, "conclusion").strip()
    if conclusion and " ".join(conclusion.split()) not in " ".join(text.split()):
        text = f"{text}\nIMPRESSION: {conclusion}" if text else conclusion
    return text.strip()


def _presented(report: Resource) -> str:
    """The words of the presented form, plain before PDF."""
    forms = reversed(report.get("presentedForm") or [])
    by_kind = {_said(f, "contentType").split(";")[0]: f for f in forms}
    for kind in ("text/plain", "application/pdf"):
        form = by_kind.get(kind, {})
        if form.get("data") and (text := _form_text(kind, form)):
            return text
    return ""


def _form_text(kind: str, form: Resource) -> str:
    """The words of an Attachment. Raises UserError where its bytes are not what it says."""
    try:
        raw = base64.b64decode(_said(form, "data"))
    except (binascii.Error, ValueError) as e:
        raise UserError("its presentedForm is no Base64; send it again") from e
    charset = _said(form, "contentType").partition("charset=")[2].strip() or "utf-8"
    try:
        return pdf_text(raw) if kind == "application/pdf" else raw.decode(charset)
    except (UnicodeError, LookupError) as e:
        raise UserError(f"its presentedForm is no text in {charset}; send it as UTF-8") from e
