"""HL7 v2: files of ORU^R01 messages → report messages (python-hl7 parses them).

The accession number is OBR-18, else OBR-3; the text OBX-5 of text and of encapsulated PDF; the status OBR-25,
else OBX-11. Orders of one message that have no text of their own share the text that follows: one report of
several studies.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import hl7

from ..errors import UserError, os_fault
from .encoding import decoded
from .pdf import pdf_text
from .persons import Persons, of_hl7
from .rows import RefusedRow, ReportRow, Reports, dates_of
from .words import modalities_of, opening_modalities, status_of, words

START = re.compile(rb"^[\s\x0b\xef\xbb\xbf]*(MSH|FHS|BHS)[|^~\\&]")
CHARSETS = {  # HL7 table 0211 → Python
    "UNICODE": "utf-16",
    "UNICODE UTF-8": "utf-8",
    "UTF-8": "utf-8",
    "ASCII": "ascii",
    "BIG-5": "cp950",
    "BIG5": "cp950",
    "CNS 11643-1992": "euc_tw",
    "GB 18030-2000": "gb18030",
    "GB18030": "gb18030",
    "8859/1": "latin-1",
    "8859/2": "iso8859-2",
    "8859/15": "iso8859-15",
}
TEXTS = ("TX", "FT", "ST", "CWE", "CE", "")
PARTS = {"GDT": "FINDINGS", "IMP": "IMPRESSION", "ADT": "ADDENDUM"}  # suffixes of OBX-3
RECORD_NUMBER = re.compile("MR|PI|PT")  # HL7 table 0203: medical record, internal and external number
STUDY_UID = "113014"
DRAFT = "A"  # OBR-25: some results are there, not all (table 0123)
MOST_PARTS = 100_000  # fields, repetitions and components of a message; each takes 30 µs and 500 bytes


def is_hl7(head: bytes) -> bool:
    """Whether bytes begin as HL7 v2 does."""
    return bool(START.match(head))


def read_hl7(path: Path, encoding: str = "") -> Reports:
    """Every message of a file, also of batches and with the marks of MLLP; what cannot be used is among the
    refused. Raises UserError for a file that cannot be read."""
    try:
        data = path.read_bytes()
    except OSError as e:
        raise UserError(f"{path}: cannot be read ({os_fault(e)}); check its permissions") from e
    out = Reports()
    for n, raw in enumerate(_messages(data), 1):
        try:
            text, name = _text(path, raw, encoding)
            rows = list(_rows(path, n, text))
        except UserError as e:
            out.refused.append(_refused(path, n, str(e).removeprefix(f"{path}: ")))
            continue
        except (hl7.HL7Exception, ValueError, IndexError, KeyError) as e:
            out.refused.append(_refused(path, n, f"broken segments ({e or type(e).__name__}); send it again"))
            continue
        out.encodings[path.name] = name
        for row in rows:
            (out.refused if isinstance(row, RefusedRow) else out.rows).append(row)  # type: ignore[arg-type]
    return out


def parsed(text: str) -> hl7.Message:
    """A message in its segments. Raises hl7.HL7Exception, ValueError and LookupError for what is none."""
    separators = {text[3:4], *text[4:8], "\r"} - {""}
    if sum(text.count(c) for c in separators) > MOST_PARTS:
        raise ValueError(f"more than {MOST_PARTS:,} fields and parts")
    try:
        return hl7.parse(text)
    except AssertionError as e:  # python-hl7 asserts that the separators of MSH-1 and MSH-2 differ
        raise ValueError("two of its separators are alike") from e


def _refused(path: Path, n: int, reason: str) -> RefusedRow:
    return RefusedRow(id=f"{path.name}:{n}", source=f"{path.name}:{n}", reason=reason)


def _messages(data: bytes) -> Iterator[bytes]:
    """Bytes of each message: from one MSH at a line's start to the next; batch segments fall away."""
    lines = re.split(rb"\r\n|\r|\n", data.replace(b"\x0b", b"\r").replace(b"\x1c", b"\r"))
    current: list[bytes] = []
    for line in lines:
        segment = line.lstrip(b"\xef\xbb\xbf \t")
        if segment.startswith(b"MSH") and current:
            yield b"\r".join(current)
            current = []
        if segment and not segment.startswith((b"FHS", b"BHS", b"BTS", b"FTS")):
            current.append(segment)
    if current:
        yield b"\r".join(current)


def _text(path: Path, raw: bytes, encoding: str) -> tuple[str, str]:
    """As MSH-18 states it (``encoding`` where given), else as its bytes tell."""
    if not raw.startswith(b"MSH") or len(raw) < 8:
        raise UserError(f"{path}: does not begin with MSH; send the whole message again")
    fields = raw.split(b"\r", 1)[0].split(raw[3:4])
    stated = (
        fields[17].split(raw[4:5])[0].decode("ascii", "replace").strip().upper() if len(fields) > 17 else ""
    )
    wanted = encoding or CHARSETS.get(stated, "")
    if not wanted or wanted == "ascii":
        return decoded(path, raw)
    try:
        return raw.decode(wanted), wanted
    except UnicodeError as e:
        raise UserError(
            f"{path}: says {stated or wanted} and its bytes are not; send it as UNICODE UTF-8"
        ) from e


@dataclass
class _Order:
    """One OBR, or several that share a text, with what follows."""

    obr: list[hl7.Segment]
    texts: list[str] = field(default_factory=list)
    uids: list[str] = field(default_factory=list)
    status: str = ""
    closed: bool = False  # an OBX came: the next OBR begins another report


def _rows(path: Path, n: int, text: str) -> Iterator[ReportRow | RefusedRow]:
    message = parsed(text)
    kind = f"{_get(message[0][9], 0)}^{_get(message[0][9], 1)}".strip("^")
    control = _field(message[0], 10) or f"{path.name}:{n}"
    source = f"{path.name}:{n}"
    if not kind.startswith("ORU"):
        yield RefusedRow(id=control, source=source, reason=f"is {kind or 'of no kind'}, not ORU^R01")
        return
    orders, patient = _orders(message)
    if not orders:
        yield RefusedRow(id=control, source=source, reason="has no OBR; a report needs one")
    persons = of_hl7(message)
    for k, order in enumerate(orders, 1):
        name = control if len(orders) == 1 else f"{control}/{k}"
        yield _row(name, source, order, patient, persons)


def _orders(message: hl7.Message) -> tuple[list[_Order], hl7.Segment | None]:
    orders: list[_Order] = []
    patient = None
    for segment in message:
        name = str(segment[0])
        if name == "PID":
            patient = segment
        elif name == "OBR":
            if orders and not orders[-1].closed:
                orders[-1].obr.append(segment)
            else:
                orders.append(_Order([segment]))
        elif name == "OBX" and orders:
            orders[-1].closed = True
            _take(message, segment, orders[-1])
        elif name == "ZDS" and orders:  # IHE: the StudyInstanceUID
            orders[-1].uids.append(_field(segment, 1))
    return orders, patient


def _take(message: hl7.Message, segment: hl7.Segment, order: _Order) -> None:
    """One OBX into its order: words, a PDF, or the UID of the study."""
    kind = _field(segment, 2).upper()
    code = _field(segment, 3)
    order.status = _field(segment, 11) or order.status
    values = segment[5] if len(segment) > 5 else hl7.Field("~", [""])
    if code.startswith(STUDY_UID):
        order.uids.append(_field(segment, 5))
        return
    if kind == "ED":
        order.texts.append(_encapsulated([_get(values, i) for i in range(5)]))
        return
    if kind not in TEXTS:
        return
    parts = [message.unescape(str(v)) for v in (values if isinstance(values, hl7.Field) else [values])]
    said = "\n".join(p.replace("\r", "\n") for p in parts).strip("\n")
    order.texts.append(_under_heading(said, segment))


def _under_heading(said: str, segment: hl7.Segment) -> str:
    """Words of an OBX under the heading that the suffix of its OBX-3 means, where they have none."""
    suffix = str(segment[3]).split("^")[0].split("&")[-1].upper() if len(segment) > 3 else ""
    heading = PARTS.get(suffix, "")
    if heading and said and not said.upper().startswith(heading):
        return f"{heading}: {said}"
    return said


def _encapsulated(parts: list[str]) -> str:
    """The words of an ED value: source, type, subtype, coding, data."""
    try:
        data = base64.b64decode(parts[4], validate=False)
    except (binascii.Error, ValueError) as e:
        raise ValueError("OBX-5 is no Base64") from e
    return pdf_text(data) if data.startswith(b"%PDF") else data.decode("utf-8", "replace")


def _row(
    name: str, source: str, order: _Order, patient: hl7.Segment | None, persons: Persons
) -> ReportRow | RefusedRow:
    text = "\n".join(order.texts).strip()
    if not text:
        return RefusedRow(id=name, source=source, reason="the report is empty; send it with its OBX-5")
    first = order.obr[0]
    stated = _field(first, 25) or order.status
    status = "preliminary" if stated.upper() == DRAFT else status_of(stated, text)
    if status is None:
        return RefusedRow(id=name, source=source, reason=f"its status {stated[:30]!r} is not known")
    numbers = [_field(o, 18) or _field(o, 3) for o in order.obr]
    other = [n for o in order.obr if (n := _field(o, 3)) not in numbers]
    owner, issuer, person, birth, sex = _person(patient)
    return ReportRow(
        id=name,
        source=source,
        text=text,
        accession=_joined(numbers),
        also=_joined(other),
        study_uids=tuple(u for u in order.uids if u),
        dates=dates_of(_day(_field(first, 7) or _field(first, 22))),
        patient_id=owner,
        issuer=issuer,
        modalities=_modalities(first),
        status=status,
        name=person,
        sex=sex[:1].upper(),
        birth_date=birth[:8],
        persons=persons,
    )


def _joined(numbers: list[str]) -> str:
    """Each number once, in order."""
    return ";".join(dict.fromkeys(n for n in numbers if n))


def _modalities(obr: hl7.Segment) -> tuple[str, ...]:
    """Of OBR-24, else of what OBR-4 calls the study."""
    known = set(words().modality)
    said = tuple(m for m in modalities_of(_field(obr, 24)) if m in known)
    return said or opening_modalities("", " ".join(_components(obr, 4)[:2]))


def _day(stamp: str) -> str:
    return f"{stamp[:4]}-{stamp[4:6]}-{stamp[6:8]}" if re.match(r"\d{8}", stamp) else stamp


def _person(patient: hl7.Segment | None) -> tuple[str, str, str, str, str]:
    """Number, who gave it, name, birth date, sex. Of several numbers that of type MR, else the first."""
    if patient is None:
        return "", "", "", "", ""
    ids = list(patient[3]) if len(patient) > 3 and isinstance(patient[3], hl7.Field) else []
    chosen = next((i for i in ids if RECORD_NUMBER.fullmatch(_get([i], 4))), ids[0] if ids else "")
    issuer = _get([chosen], 3).split("&")[0]
    name = "^".join(filter(None, (_get(patient[5], 0), _get(patient[5], 1)))) if len(patient) > 5 else ""
    return _get([chosen], 0), issuer, name, _field(patient, 7), _field(patient, 8)


def _components(segment: hl7.Segment, number: int) -> list[str]:
    if len(segment) <= number:
        return []
    return [_get(segment[number], i) for i in range(6)]


def _field(segment: hl7.Segment, number: int) -> str:
    """The first component of a field, "" where it is missing or HL7's null."""
    return _get(segment[number], 0) if len(segment) > number else ""


def _get(value: object, component: int) -> str:
    """A component of the first repetition of a field, however deep the parser has split it."""
    if isinstance(value, (hl7.Field, list)) and not isinstance(value, hl7.Repetition):
        value = value[0] if len(value) else ""
    if isinstance(value, hl7.Repetition):
        found = value[component] if len(value) > component else ""
    else:
        found = value if component == 0 else ""
    text = str(found).strip()
    return "" if text == '""' else text
