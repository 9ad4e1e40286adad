"""Coded concepts: what the task names with SNOMED CT or RadLex, else a code of our own scheme 99MEDFUSE."""

from __future__ import annotations

from highdicom.sr.coding import CodedConcept
from pydicom.sr.codedict import codes

from ..task import Finding, Task

SCHEME = "99MEDFUSE"
ABNORMALITY = CodedConcept("49755003", "SCT", "Morphologically abnormal structure")
LONG_AXIS = CodedConcept("103339001", "SCT", "Long Axis")
SHORT_AXIS = CodedConcept("103340004", "SCT", "Short Axis")
VOLUME = CodedConcept("118565006", "SCT", "Volume")
MM = CodedConcept("mm", "UCUM", "millimeter")
ML = CodedConcept("mL", "UCUM", "milliliter")
GRAM = CodedConcept("g", "UCUM", "gram")
GLYCOLYSIS = CodedConcept("126033", "DCM", "Total Lesion Glycolysis")
MEAN = CodedConcept("373098007", "SCT", "Mean")
# how a value of an outline's voxels was derived (CID 7464)
DERIVED = {
    "density": MEAN,
    "suv_mean": MEAN,
    "suv_max": CodedConcept("56851009", "SCT", "Maximum"),
    "suv_peak": CodedConcept("126031", "DCM", "Peak Value Within ROI"),
}
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


def site_of(task: Task) -> CodedConcept | None:
    """The task's organ as DICOM codes it (CID 4 Anatomic Region, CID 4030 CT, MR and PET Anatomy); None where
    neither has its name."""
    keyword = task.organ.title().replace(" ", "").replace("_", "")
    for group in (codes.cid4, codes.cid4030):
        if keyword in group.dir():
            found = getattr(group, keyword)
            return CodedConcept(found.value, found.scheme_designator, found.meaning)
    return None


def code_of(finding: Finding) -> CodedConcept:
    """The DICOM code of a finding."""
    for scheme in ("SCT", "RADLEX"):
        if scheme in finding.codes:
            return CodedConcept(finding.codes[scheme], scheme, finding.label("en")[:64])
    return CodedConcept(finding.id.upper().replace("_", "-")[:16], SCHEME, finding.label("en")[:64])
