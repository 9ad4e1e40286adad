"""PS3.15 Basic Application Confidentiality Profile by whitelist: an attribute stays only because a rule
says so,
and its value only because it passes a check.

A whitelist is stricter than Table E.1-1: what the table does not know (private tags, new attributes,
comments) goes too. Kept are pixels, geometry, acquisition numbers and codes. Options: retain UIDs, dates
shifted, descriptors cleaned.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

from . import private
from .codes import clean_code
from .keys import Pseudonyms
from .rules import CODE, EMPTIED, Action, action_of
from .tables import clean_table
from .values import checked, is_standard_uid, is_uid, listed
from .vocabulary import RADIOLOGY

DESCRIPTORS = ("SeriesDescription", "StudyDescription", "ProtocolName")
# PS3.16 CID 7050
CODES = {
    "113100": "Basic Application Confidentiality Profile",
    "113101": "Clean Pixel Data Option",
    "113105": "Clean Descriptors Option",
    "113107": "Retain Longitudinal Temporal Information Modified Dates Option",
    "113110": "Retain UIDs Option",
    "113111": "Retain Safe Private Option",
}


@dataclass(frozen=True)
class Options:
    """Retain UIDs; dates shifted by one hidden number of days a patient, or removed; descriptors cleaned, or
    removed."""

    retain_uids: bool = False
    shift_dates: bool = True
    clean_descriptors: bool = True


@dataclass
class Changes:
    """What was done to one data set, by keyword; and which options of PS3.15 that makes true of it."""

    removed: dict[str, int] = field(default_factory=dict)
    replaced: dict[str, int] = field(default_factory=dict)
    codes: list[str] = field(default_factory=list)

    def note(self, where: dict[str, int], element: DataElement) -> None:
        """Count what became of an attribute."""
        name = element.keyword or f"({element.tag.group:04X},{element.tag.element:04X})"
        where[name] = where.get(name, 0) + 1


def clean_words(text: str) -> str:
    """Only words of the radiological vocabulary, in their order."""
    parts = "".join(c if c.isalnum() else " " for c in text).split()
    return " ".join(p for p in parts if p.lower() in RADIOLOGY)


def deidentify(
    ds: Dataset, pseudonyms: Pseudonyms, options: Options, *, pixels_cleaned: bool = False
) -> Changes:
    """Change ``ds`` in place. pixels_cleaned: text was looked for in its pixels and what was found is
    gone."""
    patient = str(ds.get("PatientID", "") or ds.get("StudyInstanceUID", ""))
    walk = _Walk(pseudonyms, options, pseudonyms.days(patient), Changes())
    description = {k: str(ds.get(k, "")) for k in DESCRIPTORS}
    accession = pseudonyms.accession(str(ds.get("AccessionNumber", "") or ""))
    contrast = bool(str(ds.get("ContrastBolusAgent", "")).strip())
    safe = private.safe_elements(ds)
    walk.over(ds)
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.PatientName = ds.PatientID = pseudonyms.patient(patient)
    ds.PatientBirthDate = ds.PatientSex = ""
    ds.StudyID = ds.ReferringPhysicianName = ""
    ds.AccessionNumber = accession
    if contrast:
        ds.ContrastBolusAgent = "CONTRAST AGENT"
    cleaned = {k: clean_words(text) for k, text in description.items()} if options.clean_descriptors else {}
    for key, text in cleaned.items():
        if text:
            setattr(ds, key, text)
    private.put_back(ds, safe)
    done = {
        "113100": True,
        "113101": pixels_cleaned,
        "113105": any(cleaned.values()),
        "113107": walk.dates > 0,
        "113110": walk.retained > 0,
        "113111": bool(safe),
    }
    walk.changes.codes = [code for code, is_done in done.items() if is_done]
    _say_so(ds, walk.changes.codes)
    return walk.changes


def _say_so(ds: Dataset, codes: Iterable[str]) -> None:
    """State in the data set what was done to it, and nothing else (PS3.3 C.12.1.1.1)."""
    ds.PatientIdentityRemoved = "YES"
    ds.DeidentificationMethod = "medfuse, PS3.15 Basic Profile by whitelist"
    items = []
    for code in codes:
        item = Dataset()
        item.CodeValue = code
        item.CodingSchemeDesignator = "DCM"
        item.CodeMeaning = CODES[code]
        items.append(item)
    ds.DeidentificationMethodCodeSequence = Sequence(items)
    if "113101" in codes:
        ds.BurnedInAnnotation = "NO"
    ds.LongitudinalTemporalInformationModified = "MODIFIED" if "113107" in codes else "REMOVED"


@dataclass
class _Walk:
    """One pass over a data set and all below it."""

    pseudonyms: Pseudonyms
    options: Options
    days: int
    changes: Changes
    dates: int = 0
    retained: int = 0

    def over(self, ds: Dataset) -> None:
        """Every element of ``ds``, changed in place."""
        if any(keyword in ds for keyword in CODE) and not clean_code(ds):
            for keyword in sorted(k for k in CODE if k in ds):
                self._remove(ds, ds[keyword])
        for tag in list(ds.keys()):
            element = self._parsed(ds, tag)
            if element is not None:
                action = action_of(
                    element, retain_uids=self.options.retain_uids, shift_dates=self.options.shift_dates
                )
                self._apply(ds, element, action)

    def _parsed(self, ds: Dataset, tag: BaseTag) -> DataElement | None:
        """The element, or None where its value cannot be read; then it is gone and counted."""
        try:
            return ds[tag]
        except Exception:  # a damaged value can break any part of the parser; it cannot be judged, so it goes
            del ds[tag]
            self.changes.note(self.changes.removed, DataElement(tag, "UN", b""))
            return None

    def _apply(self, ds: Dataset, element: DataElement, action: Action) -> None:
        """Do to one element what its rule says."""
        if action == "remove":
            self._remove(ds, element)
        elif action == "uid":
            self._rename(element, [self.pseudonyms.uid(str(v)) for v in listed(element.value)])
        elif action == "date":
            self.dates += 1
            self._replace(element, self.pseudonyms.shift(str(element.value or ""), self.days))
        elif action == "items":
            self._items(ds, element)
        elif action == "table":
            clean_table(ds)
        elif action == "keep" and element.VR == "UI":
            self._keep_uids(element)
        elif action == "keep" and element.keyword != "PixelData":
            self._check(ds, element)

    def _remove(self, ds: Dataset, element: DataElement) -> None:
        """Take an element out; one that its module demands is emptied."""
        if element.keyword in EMPTIED:
            self._replace(element, "")
            return
        self.changes.note(self.changes.removed, element)
        del ds[element.tag]

    def _replace(self, element: DataElement, value: object) -> None:
        self.changes.note(self.changes.replaced, element)
        element.value = value

    def _rename(self, element: DataElement, new: list[str]) -> None:
        """Give a UID its pseudonym."""
        self._replace(element, new[0] if len(new) == 1 else new or "")

    def _items(self, ds: Dataset, element: DataElement) -> None:
        """Every item of a sequence. Empty ones go, but for those that stand for a frame each; a sequence of
        which nothing is left goes."""
        for item in element.value:
            self.over(item)
        filled = [item for item in element.value if len(item)]
        if element.keyword != "PerFrameFunctionalGroupsSequence":
            element.value = Sequence(filled)
        if not filled:
            self._remove(ds, element)

    def _keep_uids(self, element: DataElement) -> None:
        """A class must be the standard's, a retained UID must be one; another gets its pseudonym."""
        is_class = not self.options.retain_uids or element.keyword.endswith("ClassUID")
        fits = is_standard_uid if is_class else is_uid
        values = listed(element.value)
        if all(fits(v) for v in values):
            self.retained += not is_class
            return
        self._rename(element, [str(v) if fits(v) else self.pseudonyms.uid(str(v)) for v in values])

    def _check(self, ds: Dataset, element: DataElement) -> None:
        """A value that stays must pass its check."""
        if not listed(element.value):
            return
        value = checked(element)
        if value is None:
            self._remove(ds, element)
        elif listed(value) != listed(element.value):
            self._replace(element, value)
