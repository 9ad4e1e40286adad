"""A planted hospital: small DICOM studies of simulated patients and a table of their reports, with 14 kinds
of damage in known places, and what each report is truly of. Run in tests and by benchmarks/cohort.py."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

import numpy as np
from pydicom.uid import generate_uid
from slices import write_slice

from medfuse.simulation.patient import report_of

COLUMNS = ("id", "accession", "text", "date", "patient_id", "modality", "status", "site", "name")
CLASSES = {"CT": "1.2.840.10008.5.1.4.1.1.2", "MR": "1.2.840.10008.5.1.4.1.1.4"}
DAMAGE = (
    "swapped accession",
    "leading zero",
    "other issuer",
    "merged patient",
    "addendum that reverses",
    "preliminary only",
    "correction",
    "two studies in one report",
    "wrong side",
    "twin under another id",
    "report without images",
    "images without report",
    "same-day repeat",
    "another encoding",
)


@dataclass
class Exam:
    """A study as it was acquired."""

    patient: str
    accession: str
    modality: str
    day: date
    uid: str
    name: str
    text: str
    issuer: str = "HIS-A"
    description: str = ""
    pixels: int = 0


@dataclass
class Hospital:
    """archive, table: paths. truth: report id → the studies that it is of. must: report id → "link", "not"
    or "either". kind: report id → its damage, "" where none. exams: as acquired."""

    archive: Path
    table: Path
    encoding: str = "utf-8"
    truth: dict[str, set[str]] = field(default_factory=dict)
    must: dict[str, str] = field(default_factory=dict)
    kind: dict[str, str] = field(default_factory=dict)
    exams: list[Exam] = field(default_factory=list)
    lines: list[dict[str, str]] = field(default_factory=list)

    def report(
        self, exam: Exam, *, kind: str = "", must: str = "link", truth: set[str] | None = None, **change
    ):
        """A line of the table for an exam, with what is wrong in it."""
        name = f"R{len(self.lines) + 1:05d}"
        line = {
            "id": name,
            "accession": exam.accession,
            "text": f"{exam.modality} of the liver. {exam.text}",
            "date": exam.day.isoformat(),
            "patient_id": exam.patient,
            "modality": exam.modality,
            "status": "final",
            "site": exam.issuer,
            "name": exam.name,
        }
        self.lines.append(line | change)
        self.truth[name] = {exam.uid} if truth is None else truth
        self.must[name] = must
        self.kind[name] = kind
        return name

    def write(self) -> None:
        """The table."""
        with self.table.open("w", newline="", encoding=self.encoding) as f:
            out = csv.DictWriter(f, COLUMNS)
            out.writeheader()
            out.writerows(self.lines)


def _exam(rng: np.random.Generator, n: int, day: date, modality: str = "CT", **change) -> Exam:
    given = {
        "patient": f"PAT{n:06d}",
        "accession": f"A{100000 + n * 7}{modality}",
        "modality": modality,
        "day": day,
        "uid": generate_uid(entropy_srcs=["hospital", str(n), modality, str(sorted(change.items()))]),
        "name": f"SIMULATED^PERSON{_letters(n)}",
        "text": report_of(77, n, held_out=False),
        "pixels": n * 3 + (modality == "MR"),
    }
    return Exam(**(given | change))


def _letters(n: int) -> str:
    return "".join(chr(65 + int(d)) for d in f"{n:05d}")


def write_exam(folder: Path, exam: Exam, number: int, slices: int = 2) -> None:
    """Its DICOM files: one series of small slices."""
    where = folder / f"E{number:05d}"
    where.mkdir(parents=True, exist_ok=True)
    for k in range(slices):
        write_slice(
            where / f"{k}.dcm",
            position=(0, 0, 2.5 * k),
            series=f"{exam.uid}.1",
            number=k + 1,
            value=exam.pixels % 30000 + 7 * k,
            patient=exam.patient,
            study=exam.uid,
            sop=f"{exam.uid}.1.{k + 1}",
            SOPClassUID=CLASSES[exam.modality],
            Modality=exam.modality,
            SpecificCharacterSet="ISO_IR 192",
            PatientName=exam.name,
            IssuerOfPatientID=exam.issuer,
            AccessionNumber=exam.accession,
            StudyDate=exam.day.strftime("%Y%m%d"),
            StudyDescription=exam.description or f"SIMULATED {exam.modality} abdomen",
            ImageType=["ORIGINAL", "PRIMARY", "SIMULATED"],
            BodyPartExamined="ABDOMEN",
            EchoTime=4.6,
            RepetitionTime=150,
            ScanningSequence="GR",
        )


def hospital(
    folder: Path, patients: int, *, each: int = 2, seed: int = 0, encoding: str = "utf-8"
) -> Hospital:
    """``patients`` of whom ``each`` of every kind of damage is damaged; the others are plain."""
    rng = np.random.default_rng(seed)
    out = Hospital(folder / "archive", folder / "reports.csv", encoding)
    kinds = [k for k in DAMAGE for _ in range(each)]
    for n in range(patients):
        day = date(2024, 1, 1) + timedelta(days=int(rng.integers(0, 700)))
        kind = kinds[n] if n < len(kinds) else ""
        _plant(out, rng, n, day, kind)
    for number, exam in enumerate(out.exams):
        write_exam(out.archive, exam, number)
    out.write()
    return out


def _plant(out: Hospital, rng: np.random.Generator, n: int, day: date, kind: str) -> None:
    exam = _exam(rng, n, day, "MR" if n % 3 == 2 else "CT")
    other = _exam(rng, 50_000 + n, day + timedelta(days=2), exam.modality)
    out.exams.append(exam)
    if kind in PLANTERS:
        PLANTERS[kind](out, exam, other)
    else:
        out.report(exam)


def _swapped(out: Hospital, exam: Exam, other: Exam) -> None:
    out.exams.append(other)
    out.report(exam, kind="swapped accession", must="not", accession=other.accession)
    out.report(other, kind="swapped accession", must="not", accession=exam.accession)


def _zero(out: Hospital, exam: Exam, other: Exam) -> None:
    number = exam.accession[1:-2]
    exam.accession = f"00{number}"
    out.report(exam, kind="leading zero", accession=number)


def _issuer(out: Hospital, exam: Exam, other: Exam) -> None:
    """Two sites gave one accession number and one patient number to two persons."""
    other.accession = exam.accession
    other.patient = exam.patient
    other.issuer = "HIS-B"
    out.exams.append(other)
    out.report(exam, kind="other issuer", must="either")
    out.report(other, kind="other issuer", must="either", name="")


def _merged(out: Hospital, exam: Exam, other: Exam) -> None:
    """Two patients were merged in the archive: the report has the number from before."""
    out.exams.append(other)
    before = other.patient
    other.patient = exam.patient
    out.report(exam, kind="merged patient")
    out.report(other, kind="merged patient", must="either", patient_id=before)


def _addendum(out: Hospital, exam: Exam, other: Exam) -> None:
    out.report(
        exam,
        kind="addendum that reverses",
        text="CT of the liver. There is a gallstone.".replace("CT", exam.modality),
    )
    out.report(
        exam, kind="addendum that reverses", status="addendum", text="On review there is no gallstone."
    )


def _preliminary(out: Hospital, exam: Exam, other: Exam) -> None:
    out.report(exam, kind="preliminary only", must="not", status="preliminary")


def _correction(out: Hospital, exam: Exam, other: Exam) -> None:
    out.report(exam, kind="correction", text=f"{exam.modality} of the liver. There is ascites.")
    out.report(exam, kind="correction", status="corrected", text=f"{exam.modality} of the liver. No ascites.")


def _two(out: Hospital, exam: Exam, other: Exam) -> None:
    other.patient, other.name, other.day = exam.patient, exam.name, exam.day
    out.exams.append(other)
    numbers = f"{exam.accession};{other.accession}"
    out.report(exam, kind="two studies in one report", accession=numbers, truth={exam.uid, other.uid})


def _side(out: Hospital, exam: Exam, other: Exam) -> None:
    exam.description = f"SIMULATED {exam.modality} left kidney"
    text = f"{exam.modality} of the kidney. There is a simple cyst in the right kidney."
    out.report(exam, kind="wrong side", must="not", text=text)


def _twin(out: Hospital, exam: Exam, other: Exam) -> None:
    other.pixels = exam.pixels
    other.modality = exam.modality
    out.exams.append(other)
    out.report(exam, kind="twin under another id")
    out.report(other, kind="twin under another id")


def _no_images(out: Hospital, exam: Exam, other: Exam) -> None:
    """Of the same patient, day and modality as a study that is there."""
    ghost = Exam(**(exam.__dict__ | {"accession": exam.accession + "9"}))
    out.report(exam)
    out.report(ghost, kind="report without images", must="not", truth=set())


def _no_report(out: Hospital, exam: Exam, other: Exam) -> None:
    pass


def _repeat(out: Hospital, exam: Exam, other: Exam) -> None:
    other.patient, other.name, other.day = exam.patient, exam.name, exam.day
    out.exams.append(other)
    out.report(exam, kind="same-day repeat", must="not", accession="")
    out.report(other, kind="same-day repeat")


def _encoding(out: Hospital, exam: Exam, other: Exam) -> None:
    text = f"{exam.modality} of the liver. 肝臟未見局部病灶。膽囊內可見結石。"
    out.report(exam, kind="another encoding", text=text)


PLANTERS = dict(
    zip(
        DAMAGE,
        (
            _swapped,
            _zero,
            _issuer,
            _merged,
            _addendum,
            _preliminary,
            _correction,
            _two,
            _side,
            _twin,
            _no_images,
            _no_report,
            _repeat,
            _encoding,
        ),
        strict=True,
    )
)


@dataclass(frozen=True)
class Outcome:
    """Reports: linked to all their studies, rightly not linked, linked though they may be left, not linked
    though they should be, and linked to a study that is not theirs."""

    linked: int
    refused: int
    missed: list[str]
    wrong: list[str]


def outcome(planted: Hospital, ledger: list) -> Outcome:
    """Compare a ledger's report rows (LedgerRow) with the truth."""
    linked = refused = 0
    missed: list[str] = []
    wrong: list[str] = []
    for row in (r for r in ledger if r.kind == "report"):
        found = set(row.linked_to.split()) if row.status == "linked" else set()
        truth, must = planted.truth[row.id], planted.must[row.id]
        if found - truth or (found and must == "not"):
            wrong.append(f"{row.id} {planted.kind[row.id]}: {row.reason}")
        elif found == truth and found:
            linked += 1
        elif must in ("not", "either") or not truth:
            refused += 1
        else:
            missed.append(f"{row.id} {planted.kind[row.id]}: {row.status} {row.reason}")
    return Outcome(linked, refused, missed, wrong)


def write_hl7(planted: Hospital, folder: Path) -> Path:
    """The reports as ORU^R01, one file each."""
    folder.mkdir()
    for line in planted.lines:
        owner = f"{line['patient_id']}^^^{line['site']}^MR"
        orders = [
            f"OBR|{n}||{a}|X^{line['modality']}|||{line['date'].replace('-', '')}|||||||||||{a}|||||||"
            f"{ {'final': 'F', 'preliminary': 'P', 'corrected': 'C'}.get(line['status'], '') }"
            for n, a in enumerate(line["accession"].split(";"), 1)
        ]
        text = line["text"] if line["status"] != "addendum" else f"ADDENDUM: {line['text']}"
        for plain, letter in zip("\\|^&~", "EFSTR", strict=True):
            text = text.replace(plain, f"\\{letter}\\")
        said = text.replace("\n", "\\.br\\")
        segments = [
            f"MSH|^~\\&|RIS|H|MF|H|20240101||ORU^R01|{line['id']}|P|2.5.1||||||UNICODE UTF-8",
            f"PID|1||{owner}||{line['name']}",
            *orders,
            f"OBX|1|TX|X^report||{said}",
        ]
        (folder / f"{line['id']}.hl7").write_text("\r".join(segments), encoding="utf-8")
    return folder


def write_fhir(planted: Hospital, folder: Path) -> Path:
    """The reports as FHIR DiagnosticReports, all in one NDJSON file."""
    folder.mkdir()
    states = {"addendum": "appended"}
    resources = [
        {
            "resourceType": "DiagnosticReport",
            "id": line["id"],
            "status": states.get(line["status"], line["status"]),
            "code": {"text": line["modality"]},
            "basedOn": [
                {"identifier": {"type": {"coding": [{"code": "ACSN"}]}, "value": a}}
                for a in line["accession"].split(";")
                if a
            ],
            "subject": {"reference": f"#p{line['id']}"},
            "contained": [
                {
                    "resourceType": "Patient",
                    "id": f"p{line['id']}",
                    "identifier": [{"value": line["patient_id"], "assigner": {"display": line["site"]}}],
                    "name": [{"text": line["name"].replace("^", " ")}] if line["name"] else [],
                }
            ],
            "effectiveDateTime": line["date"],
            "conclusion": line["text"],
        }
        for line in planted.lines
    ]
    for r in resources:
        r["contained"] = [{k: v for k, v in p.items() if v != []} for p in r["contained"]]
    kept = [{k: v for k, v in r.items() if v != []} for r in resources]
    (folder / "reports.ndjson").write_text("\n".join(json.dumps(r) for r in kept), encoding="utf-8")
    return folder
