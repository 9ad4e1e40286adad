"""Values of attributes that stay: each is checked, for a name can stand in any of them.

A check returns the value that may stay, or None where nothing of it may.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import cast

import numpy as np
from pydicom.datadict import dictionary_has_tag, dictionary_VM
from pydicom.dataelem import DataElement
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID_dictionary

from . import vocabulary

Scalar = str | int | float
Value = Scalar | list[str] | MultiValue[Scalar]
DECIMAL = re.compile(r"\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*")
SMALL = re.compile(r"[BTPMEVRSC]?\d{1,4}")  # a plain small number in a coded string: echo 2, b 800
DIRECTION = re.compile(r"[LRAPHF]{1,3}")
# Siemens and relatives: an optional star, the kind of sequence, dimensions, b-value, repetition
SEQUENCE = re.compile(
    r"\*?_?(tfl|tfi|tse|tir|tgse|spcir|spcr|spc|fl|fi|se|me|ep2d|epfid|epse|epir|ep|h|csi|svs"
    r"|ci|de|qfl|re|gre|swi)"
    r"_?([123]d)?\d{0,4}(_\d{1,4}){0,2}(_?b\d{1,4}(t|#\d{1,3})?)?(#\d{1,3})?[rsnpatd]{0,3}\d{0,3}",
)
LONG = 6  # digits of a float that nobody has written as a number
FAR = 5e5  # from here on floats of four bytes are rather letters than measured
BINARY_NUMBERS = {"US", "SS", "UL", "SL", "FL", "FD", "SV", "UV", "US or SS"}
UID_FORM = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+")


def listed(value: object) -> list[Scalar]:
    """The values of an element, one or many, as a list without empty ones at the end."""
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, (MultiValue, list, tuple)) else [cast(Scalar, value)]


def words_of(text: object) -> list[str]:
    """The words of a text in upper case, parted by whatever is no letter and no digit."""
    return "".join(c if c.isalnum() else " " for c in str(text).upper()).split()


def is_uid(value: object) -> bool:
    """Whether a text keeps the grammar of PS3.5 9.1."""
    text = str(value)
    return len(text) <= 64 and UID_FORM.fullmatch(text) is not None


def is_standard_uid(value: object) -> bool:
    """Whether a UID is one that the standard itself defines."""
    return str(value) in UID_dictionary


def class_name(name: str) -> str:
    """The name of a SOP class where the standard has it, else "unknown SOP class"."""
    return name if any(name == entry[0] for entry in UID_dictionary.values()) else "unknown SOP class"


def coded_string(element: DataElement) -> Value | None:
    """The values of a CS whose every word is a defined term; another value becomes OTHER in an ImageType."""
    terms = vocabulary.TERMS
    if element.keyword == "BodyPartExamined":
        terms = vocabulary.BODY_PARTS
    known: list[str] = []
    lost = False
    for value in listed(element.value):
        if element.keyword == "PatientOrientation":
            fits = DIRECTION.fullmatch(str(value)) is not None
        else:
            fits = all(w in terms or SMALL.fullmatch(w) for w in words_of(value))
        lost |= not fits
        if fits:
            known.append(str(value))
        elif element.keyword in ("ImageType", "FrameType"):
            known.append("OTHER")
    if lost and element.keyword == "PatientOrientation":
        return None
    return known or None


def numbers(element: DataElement) -> Value | None:
    """The values of a numeric element, None where they are no numbers, too many, or text written as
    numbers."""
    values = listed(element.value)
    if not _count_fits(element.tag, len(values)):
        return None
    if element.VR in ("DS", "IS"):
        texts = [str(getattr(v, "original_string", v)) for v in values]
        return element.value if all(DECIMAL.fullmatch(t) and len(t) <= 16 for t in texts) else None
    if not all(isinstance(v, (int, float)) for v in values):
        return None
    return None if spells_text(element.VR, values) else element.value


def _count_fits(tag: BaseTag, count: int) -> bool:
    """Whether so many values are no more than the dictionary allows."""
    most = dictionary_VM(tag).split("-")[-1]
    return not most.isdigit() or count <= int(most)


def spells_text(vr: str, values: Iterable[object], *, alone: bool = True) -> bool:
    """Whether the bytes of binary numbers are all letters and digits, as a name hidden in them would be.
    alone: also where one number of four bytes could be that by chance."""
    form = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d", "SV": "q", "UV": "Q"}.get(vr)
    if form is None:
        return False
    plain = [v for v in values if isinstance(v, (int, float))]
    try:
        data = struct.pack(f"<{len(plain)}{form}", *plain)
    except (struct.error, OverflowError):
        return True  # numbers that do not fit their own type
    if vr in ("FL", "FD"):
        odd = [v for v in plain if not math.isfinite(v) or (v and not 1e-9 < abs(v) < 1e12)]
        return (bool(odd) and _is_text(struct.pack(f"<{len(odd)}{form}", *odd))) or _spelt(plain, form, alone)
    return len(data) >= 6 and _is_text(data)


def _spelt(values: list[int | float], form: str, alone: bool) -> bool:
    """Whether floats spell a text: one of eight bytes, one that no scanner measures, two side by side, or
    one alone. A number with few digits was written as a number."""

    def text(value: float) -> bool:
        data = struct.pack(f"<{form}", value)
        digits = str(np.float32(value) if form == "f" else float(value)).partition("e")[0]
        unwritten = sum(c.isdigit() for c in digits) >= LONG or abs(value) >= FAR
        return _is_text(data) and (form == "d" or data.isascii()) and unwritten

    spelt = [text(v) for v in values]
    if form == "d" or (alone and len(values) == 1):
        return any(spelt)
    far = any(s and abs(v) >= FAR for s, v in zip(spelt, values, strict=True))
    return far or any(a and b for a, b in pairwise(spelt))


def _is_text(data: bytes) -> bool:
    """Letters, digits, blanks, ^ and =, with at least three letters in all."""
    text = data.rstrip(b"\0").decode("latin-1")
    return sum(c.isalpha() for c in text) >= 3 and all(c.isalnum() or c in " ^=._-" for c in text)


def tags(element: DataElement) -> Value | None:
    """Attribute tags that the dictionary knows; a private or unknown one may spell a name."""
    values = [Tag(v) for v in listed(element.value)]  # type: ignore[arg-type]
    return element.value if all(dictionary_has_tag(t) for t in values) else None


def maker(element: DataElement) -> Value | None:
    """A Manufacturer of known words only; of another text the makers that it names."""
    words = words_of(element.value)
    if words and all(w in vocabulary.MAKERS or w in vocabulary.FIRMS for w in words):
        return str(element.value)
    return " ".join(w for w in words if w in vocabulary.MAKERS) or None


def model(element: DataElement) -> Value | None:
    """A model name of known words and short numbers, else what is known of it."""
    words = words_of(element.value)
    known = [w for w in words if _is_model_word(w)]
    if len(known) == len(words):
        return str(element.value) or None
    return " ".join(known) or None


def _is_model_word(word: str) -> bool:
    """A known word, with at most four digits behind; or digits alone, or a letter with digits."""
    bare = word.rstrip("0123456789")
    digits = len(word) - len(bare)
    known = word in vocabulary.MODELS or bare in vocabulary.MODELS or bare in vocabulary.MAKERS
    return digits <= 4 and (known or len(bare) <= (2 if digits else 0))


def sequence_name(element: DataElement) -> Value | None:
    """A SequenceName that keeps the form of those that scanners write."""
    text = str(element.value)
    return text if SEQUENCE.fullmatch(text) else None


def unit(element: DataElement) -> Value | None:
    """A RescaleType of the known ones."""
    return str(element.value) if "".join(words_of(element.value)) in vocabulary.UNITS else None


def stack(element: DataElement) -> Value | None:
    """A StackID that is a small number."""
    return str(element.value) if re.fullmatch(r"\d{1,4}", str(element.value)) else None


BY_KEYWORD: dict[str, Callable[[DataElement], Value | None]] = {
    "Manufacturer": maker,
    "ManufacturerModelName": model,
    "SequenceName": sequence_name,
    "RescaleType": unit,
    "StackID": stack,
}


def checked(element: DataElement) -> Value | None:
    """What may stay of an element whose attribute stays; None where nothing may."""
    check = BY_KEYWORD.get(element.keyword)
    if check is not None:
        return check(element)
    if element.VR == "CS":
        return coded_string(element)
    if element.VR in ("DS", "IS") or element.VR in BINARY_NUMBERS:
        return numbers(element)
    if element.VR == "AT":
        return tags(element)
    return None
