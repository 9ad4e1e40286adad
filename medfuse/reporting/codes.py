"""Coded concepts: what the task names with SNOMED CT or RadLex, else a code of our own scheme 99MEDFUSE."""

from __future__ import annotations

from highdicom.sr.coding import CodedConcept

from ..task import Finding

SCHEME = "99MEDFUSE"
LIVER = CodedConcept("10200004", "SCT", "Liver")
ABNORMALITY = CodedConcept("49755003", "SCT", "Morphologically abnormal structure")
LONG_AXIS = CodedConcept("103339001", "SCT", "Long Axis")
SHORT_AXIS = CodedConcept("103340004", "SCT", "Short Axis")
VOLUME = CodedConcept("118565006", "SCT", "Volume")
MM = CodedConcept("mm", "UCUM", "millimeter")
ML = CodedConcept("mL", "UCUM", "milliliter")
UNITY = CodedConcept("1", "UCUM", "no units")
PROBABILITY = CodedConcept("PROBABILITY", SCHEME, "Calibrated probability")
ASSERTION = CodedConcept("ASSERTION", SCHEME, "Assertion of the draft")
ASSERTIONS = {
    "present": CodedConcept("52101004", "SCT", "Present"),
    "absent": CodedConcept("2667000", "SCT", "Absent"),
    "possible": CodedConcept("60022001", "SCT", "Possible diagnosis"),
    "not_assessed": CodedConcept("NOT-ASSESSED", SCHEME, "Not assessed"),
}
SYSTEMS = {"SCT": "http://snomed.info/sct", "RADLEX": "http://radlex.org", SCHEME: "urn:medfuse:codes"}


def code_of(finding: Finding) -> CodedConcept:
    for scheme in ("SCT", "RADLEX"):
        if scheme in finding.codes:
            return CodedConcept(finding.codes[scheme], scheme, finding.label("en")[:64])
    return CodedConcept(finding.id.upper().replace("_", "-")[:16], SCHEME, finding.label("en")[:64])
