"""Code items (PS3.3 table 8.8-1) that can be checked: a code of a known scheme, with the scheme's own
words."""

from __future__ import annotations

import re
from functools import lru_cache

from pydicom.dataset import Dataset

# schemes whose codes are checked by form where the dictionary does not have them
FORMS = {
    "SRT": re.compile(r"[A-Z]-[0-9A-F]{1,5}"),
    "SNM3": re.compile(r"[A-Z]-[0-9A-F]{1,5}"),
    "99SDM": re.compile(r"[A-Z]-[0-9A-F]{1,5}"),
    "UCUM": re.compile(
        r"1|%|\{counts\}|[mun]?[msgl]([23])?(/([mu]?[msgl]([23])?|min))?|\[hnsf'U\]|Bq/ml|Hz|deg|/min"
    ),
    "": re.compile(r"[A-Z]-[0-9A-F]{1,5}"),
}
VERSION = re.compile(r"[0-9.]{1,10}")


@lru_cache
def _meanings() -> dict[tuple[str, str], str]:
    """(scheme, code) → meaning, of every code in pydicom's tables of PS3.16."""
    from pydicom.sr._concepts_dict import concepts

    tables: dict[str, dict[str, dict[str, tuple[str, list[int]]]]] = concepts  # type: ignore[assignment]
    return {
        (scheme, code): entry[0]
        for scheme, names in tables.items()
        for codes in names.values()
        for code, entry in codes.items()
    }


def clean_code(item: Dataset) -> bool:
    """Check the code of ``item`` in place; False where it is unknown and the item has to go.

    The meaning is what the dictionary says, else the code itself: nobody can say what a stranger wrote there.
    """
    scheme = str(item.get("CodingSchemeDesignator", "")).strip()
    code = str(item.get("CodeValue", "")).strip()
    meaning = _meanings().get((scheme, code), "")
    if not meaning:
        form = FORMS.get(scheme)
        if form is None or not form.fullmatch(code):
            return False
    if "CodeMeaning" in item:
        item.CodeMeaning = meaning[:64] if meaning and meaning.isascii() else code
    if "CodingSchemeVersion" in item and not VERSION.fullmatch(str(item.CodingSchemeVersion)):
        del item.CodingSchemeVersion
    return True
