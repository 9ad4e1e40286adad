"""Character sets as files state them → text that anybody can write (PS3.3 C.12.1.1.2)."""

from __future__ import annotations

import codecs
import logging
import re
import warnings

from pydicom.charset import CODES_TO_ENCODINGS, ENCODINGS_TO_CODES, convert_encodings, python_encoding
from pydicom.dataset import Dataset

DEFAULT = ("", "ISO_IR 6", "ISO 2022 IR 6")
ALONE = ("ISO_IR 192", "GB18030", "GBK")  # sets that take no turns with others
NAMED: set[str] = set()  # further ones that were met, by the names that programs have for them
MISSPELT = {
    "UTF8": "ISO_IR 192",
    "UTF-8": "ISO_IR 192",
    "ISO 2022 IR 192": "ISO_IR 192",
    "UTF_8": "ISO_IR 192",
    "UTF 8": "ISO_IR 192",
    "CN 58": "ISO 2022 IR 58",
    "ISO_IR 58": "ISO 2022 IR 58",
    "GB 18030": "GB18030",
}
# by this name pydicom leaves the escape sequence in the text, as if Python took it away
python_encoding["ISO 2022 IR 58"] = CODES_TO_ENCODINGS[b"\x1b$)A"] = "gb2312"
ENCODINGS_TO_CODES["gb2312"] = b"\x1b$)A"  # a name is encoded again before it is decoded anew
# not of the standard, or too new for pydicom, and met
python_encoding.update({"ISO_IR 203": "iso8859_15", "ISO 2022 IR 203": "iso8859_15"})
python_encoding.update({"SHIFT_JIS": "cp932", "EUC-KR": "euc_kr", "EUC_KR": "euc_kr", "BIG5": "big5"})
# pydicom decodes by this table alone, in every file and in every nested item
python_encoding.update({said: python_encoding[meant] for said, meant in MISSPELT.items()})


# names that programs have for sets of the kind that no standard term has (Python knows their aliases)
BY_NAME = re.compile(r"(cp|windows|koi8|gb|hz|big5|euc|shift|s_?jis|ks|iso_?8859|latin|mac|tis)[\w-]*$", re.I)


def _by_name(term: str) -> str:
    """A term that pydicom decodes by, for the name of a set as programs spell it; itself where it is none."""
    name = re.sub(r"[ _]", "", term)
    if term in python_encoding or not BY_NAME.match(name):
        return term
    try:
        codec = codecs.lookup(name).name
        if "A".encode(codec) != b"A":
            return term
    except (LookupError, UnicodeError):
        return term
    python_encoding[term] = codec
    NAMED.add(term)
    return term


def _spelt(term: str) -> str:
    """A term as the standard spells it: ISO-IR 100, iso_ir_100 and the like are met."""
    text = term.strip().upper()
    text = re.sub(r"^ISO.IR.", "ISO_IR ", text)
    text = re.sub(r"^ISO.2022.IR.", "ISO 2022 IR ", text)
    return _by_name(MISSPELT.get(text, text))


def terms_of(stated: object) -> list[str]:
    """Terms that pydicom decodes by, for whatever a file states: unknown ones count as the default."""
    values = [stated] if isinstance(stated, str) else list(stated or ())  # type: ignore[call-overload]
    terms = [_spelt(str(v)) for v in values]
    if terms == ["ISO_IR 149"]:  # alone it is no term, and its texts have no escape sequences
        return ["EUC-KR"]
    terms = ["ISO 2022 IR 6" if t in DEFAULT or t not in python_encoding else t for t in terms]
    by_itself = [t for t in terms if t in ALONE or t in NAMED]
    if by_itself and all(t in by_itself or t in DEFAULT for t in terms):  # "\\ISO_IR 192" extends nothing
        return by_itself[:1]
    if len(terms) == 1:
        alone = terms[0].replace("ISO 2022 IR ", "ISO_IR ")
        return [alone] if alone in python_encoding else terms
    if terms and terms[0].startswith("ISO_IR "):  # several take turns only as code extensions
        first = terms[0].replace("ISO_IR ", "ISO 2022 IR ")
        terms[0] = first if first in python_encoding else terms[0]
    return terms


def obey(ds: Dataset) -> None:
    """Have every text of ``ds`` that is still to be parsed decoded by what its character set means, however
    that is spelt."""
    if "SpecificCharacterSet" not in ds:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of each odd term
        terms = terms_of(ds.SpecificCharacterSet)
        implicit, little = ds.original_encoding
        ds.set_original_encoding(implicit, little, convert_encodings(terms))
        ds.SpecificCharacterSet = terms


def to_utf8(ds: Dataset) -> None:
    """Decode every text of ``ds`` in place and state ISO_IR 192, so that objects made beside it can be
    written whatever it stated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of each odd term whenever it decodes
        obey(ds)
        terms = terms_of(ds.get("SpecificCharacterSet"))
        ds.SpecificCharacterSet = terms or "ISO_IR 6"
        try:
            ds.decode()
        except (LookupError, UnicodeError, ValueError) as e:  # odd bytes stay as the parser shows them
            logging.getLogger(__name__).debug("%s cannot be decoded", terms, exc_info=e)
    ds.SpecificCharacterSet = "ISO_IR 192"
