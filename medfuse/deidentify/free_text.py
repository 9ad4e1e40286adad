"""Free text without the person: names and numbers that the images' headers state, and what looks like one.

What is known is removed; dates go back by the patient's own days, as in the images. What might still be a
name is listed for a person to look at: nothing here says that a text is free of identity.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from . import vocabulary
from .values import listed

NAME, NUMBER, PLACE, DATE = "[name]", "[number]", "[place]", "[date]"
NUMBERS = (
    "PatientID",
    "AccessionNumber",
    "StudyID",
    "OtherPatientIDs",
    "AdmissionID",
    "RequestedProcedureID",
)
PLACES = (
    "InstitutionName",
    "InstitutionAddress",
    "PatientAddress",
    "CountryOfResidence",
    "RegionOfResidence",
)
ORDINARY = frozenset(
    w.lower() for w in vocabulary.RADIOLOGY | vocabulary.BODY_PARTS | vocabulary.TERMS | vocabulary.MAKERS
)
OTHERS = 3  # patients whose reports use a word that is then no name
SHORTEST = 3  # characters of a number or a place that are looked for in the text
_HAN = r"㐀-鿿豈-﫿"
_TITLED = re.compile(
    r"\b(?:Dr|Drs|Doctor|Prof|Professor|Mr|Mrs|Ms|Miss|Herr|Frau)\b\.?\s+(?-i:[^\W\d_a-z][\w'-]+)"
    r"(?:[ ,]+(?-i:[^\W\d_a-z][\w'-]+)){0,2}",
    re.IGNORECASE,
)
_MAIL = re.compile(r"(?<![\w.+-])[\w.+-]+@[\w-]+(\.[\w-]+)+|https?://\S+")
_LONG = re.compile(r"(?<![\w.])(?:\+\d[\d ()-]{6,}\d|\d{3,4}[- ]\d{3,4}[- ]\d{3,4}|[A-Z]{0,3}\d{6,})(?!\w)")
_MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_MONTH = rf"(?:{_MONTHS})[a-z]*\.?"
_DATES = tuple(
    re.compile(p, re.IGNORECASE)
    for p in (
        r"(?<![\d.])(?P<y>(?:19|20)\d\d)[-/.年](?P<m>\d{1,2})[-/.月](?P<d>\d{1,2})日?(?![\d])",
        r"(?<!\d)(?P<y>(?:19|20)\d\d)(?P<m>\d\d)(?P<d>\d\d)(?!\d)",
        r"民國(?P<roc>\d{2,3})年(?P<m>\d{1,2})月(?P<d>\d{1,2})日",
        r"(?<![\d.])(?P<d>\d{1,2})\.(?P<m>\d{1,2})\.(?P<y>(?:19|20)\d\d)(?!\d)",
        r"(?<![\d/-])(?P<a>\d{1,2})[/-](?P<b>\d{1,2})[/-](?P<y>(?:19|20)\d\d)(?!\d)",
        r"(?<![\d/.-])\d{1,2}/\d{1,2}/\d\d(?![\d/])",
        rf"\b(?P<d>\d{{1,2}})(?:st|nd|rd|th)?[ .-]+(?P<month>{_MONTH})[ ,-]+(?P<y>(?:19|20)\d\d)\b",
        rf"\b(?P<month>{_MONTH})[ ]+(?P<d>\d{{1,2}})(?:st|nd|rd|th)?,?[ ]+(?P<y>(?:19|20)\d\d)\b",
        rf"\b{_MONTH}[ ,]+(?:19|20)\d\d\b",
    )
)


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known of a person and of who saw them: parts of names (two letters or more), numbers, places,
    and how many days their dates go back (None: dates are removed). ordinary: words, in lower case, that the
    reports of others use too, so that a patient called Stone takes no stone out of a gallbladder."""

    names: frozenset[str] = frozenset()
    ordinary: frozenset[str] = frozenset()
    numbers: frozenset[str] = frozenset()
    places: frozenset[str] = frozenset()
    days: int | None = None


@dataclass
class CleanedText:
    """A text without what was known. removed: how much of each kind. left: words and numbers that may still
    name somebody."""

    text: str
    removed: dict[str, int] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)


def ordinary_words(texts: Mapping[str, str]) -> frozenset[str]:
    """Words written in lower case in the texts (by patient) of at least OTHERS patients."""
    seen: Counter[str] = Counter()
    for text in texts.values():
        seen.update({t for t in re.findall(r"[^\W\d_]+", text) if t.islower()})
    return frozenset(_plain(word) for word, n in seen.items() if n >= OTHERS)


def known_of(headers: Iterable[Dataset], days: int | None, names: Iterable[str] = ()) -> Known:
    """What these headers state of persons, at any depth, with further ``names``."""
    people = set(names)
    numbers: set[str] = set()
    places: set[str] = set()
    for ds in headers:
        for element in _elements(ds):
            values = [str(v).strip() for v in listed(element.value)]
            if element.VR == "PN":
                people.update(values)
            elif element.keyword in NUMBERS or element.keyword.endswith("TelephoneNumbers"):
                numbers.update(values)
            elif element.keyword in PLACES:
                places.update(values)
    return Known(
        names=frozenset(part for name in people for part in parts_of(name)),
        numbers=frozenset(n for n in numbers if len(n) >= SHORTEST),
        places=frozenset(p for p in places if len(p) >= SHORTEST),
        days=days,
    )


def _elements(ds: Dataset) -> Iterator[DataElement]:
    """Every element of a header at any depth, but those whose value cannot be read."""
    for tag in list(ds.keys()):
        try:
            element = ds[tag]
        except Exception:  # noqa: S112  a damaged value can break any part of the parser; it names nobody
            continue
        yield element
        if element.VR == "SQ":
            for item in element.value:
                yield from _elements(item)


def parts_of(name: str) -> set[str]:
    """A name's parts as they compare; of Chinese characters the whole, either part first, and a given name of
    two, for a single one is a word of its own."""
    out: set[str] = set()
    for group in name.split("="):
        parts = [_plain(p) for p in re.split(r"[\s^,.-]+", group) if p]
        if any(re.fullmatch(f"[{_HAN}]+", p) for p in parts):
            out |= {"".join(parts), "".join(reversed(parts))}
        out.update(p for p in parts if len(p) >= 2)
    return {p for p in out if len(p) >= 2 and not p.isdigit()}


def _plain(word: str) -> str:
    """Without case and accents."""
    parted = unicodedata.normalize("NFKD", word.casefold())
    return "".join(c for c in parted if not unicodedata.combining(c))


def clean_text(text: str, known: Known) -> CleanedText:
    """Names, numbers, places and dates of ``known`` taken out of a text, and what looks like an address, a
    telephone number or a titled name."""
    out = CleanedText(text)
    for number in sorted(known.numbers, key=len, reverse=True):
        signs = [re.escape(c) for c in number if c.isalnum()]
        _replace(out, re.compile(r"(?<!\w)" + r"[\s./-]?".join(signs) + r"(?!\w)", re.IGNORECASE), NUMBER)
    for place in sorted(known.places, key=len, reverse=True):
        _replace(out, re.compile(r"\s+".join(re.escape(w) for w in place.split()), re.IGNORECASE), PLACE)
    for pattern in _DATES:
        _shift(out, pattern, known.days)
    _replace(out, _MAIL, PLACE)
    _replace(out, _TITLED, NAME)
    _names(out, known.names, ORDINARY | known.ordinary)
    _replace(out, _LONG, NUMBER)
    out.left = _left(out.text, ORDINARY | known.ordinary)
    return out


def _replace(out: CleanedText, pattern: re.Pattern[str], mark: str) -> None:
    out.text, n = pattern.subn(mark, out.text)
    if n:
        out.removed[mark] = out.removed.get(mark, 0) + n


def _shift(out: CleanedText, pattern: re.Pattern[str], days: int | None) -> None:
    """Dates so many days earlier, in ISO 8601; those that could be two, or none, are removed."""

    def moved(found: re.Match[str]) -> str:
        meant = _meant(found.groupdict())
        out.removed[DATE] = out.removed.get(DATE, 0) + 1
        return DATE if meant is None or days is None else (meant - timedelta(days=days)).isoformat()

    out.text = pattern.sub(moved, out.text)


def _meant(said: dict[str, str | None]) -> date | None:
    """The one date that the parts of a match can mean."""
    year = int(said.get("y") or 0) or (1911 + int(said.get("roc") or 0))
    month = said.get("month")
    if month:
        pairs = {(_MONTHS.split("|").index(month[:3].lower()) + 1, int(said["d"] or 0))}
    elif said.get("a"):
        a, b = int(said["a"] or 0), int(said["b"] or 0)
        pairs = {(a, b), (b, a)}
    else:
        pairs = {(int(said.get("m") or 0), int(said.get("d") or 0))}
    days = set()
    for m, d in pairs:
        try:
            days.add(date(year, m, d))
        except ValueError:
            continue
    return days.pop() if len(days) == 1 else None


def _names(out: CleanedText, names: frozenset[str], ordinary: frozenset[str]) -> None:
    """Every run of a name's parts. A part that is also an ordinary word goes only beside another part, or
    where it is written as a name."""
    if not names:
        return
    for part in sorted((n for n in names if re.search(f"[{_HAN}]", n)), key=len, reverse=True):
        _replace(out, re.compile(r"\s*".join(part)), NAME)
    tokens = list(re.finditer(r"[^\W\d_]+(?:['’][^\W\d_]{2,})*", out.text))
    hits = [_plain(t[0]) in names for t in tokens]
    kept: list[tuple[int, int]] = []
    for n, (token, hit) in enumerate(zip(tokens, hits, strict=True)):
        if not hit:
            continue
        beside = any(
            hits[k] and _near(out.text, tokens[min(n, k)], tokens[max(n, k)])
            for k in (n - 1, n + 1)
            if 0 <= k < len(tokens)
        )
        if beside or _plain(token[0]) not in ordinary or _as_a_name(out.text, token):
            kept.append(token.span())
    for start, end in _joined(out.text, kept):
        out.text = out.text[:start] + NAME + out.text[end:]
        out.removed[NAME] = out.removed.get(NAME, 0) + 1


def _near(text: str, a: re.Match[str], b: re.Match[str]) -> bool:
    """Whether nothing but marks stands between two words."""
    return re.fullmatch(r"[\s,.^=-]{0,3}", text[a.end() : b.start()]) is not None


def _as_a_name(text: str, token: re.Match[str]) -> bool:
    """Whether a word has a capital where no sentence begins."""
    before = text[: token.start()].rstrip(" ")
    return (
        token[0][:1].isupper() and not token[0].isupper() and bool(before) and before[-1] not in ".:\n!?。："
    )


def _joined(text: str, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans with nothing but marks between them as one; the last first."""
    out: list[tuple[int, int]] = []
    for start, end in spans:
        if out and re.fullmatch(r"[\s,.^=-]{0,3}", text[out[-1][1] : start]):
            out[-1] = (out[-1][0], end)
        else:
            out.append((start, end))
    return out[::-1]


def _left(text: str, ordinary: frozenset[str]) -> list[str]:
    """What may still name somebody: words with a capital where no sentence begins that are none of the
    vocabulary, Chinese characters before a title, long numbers."""
    found = [
        t[0]
        for t in re.finditer(r"[^\W\d_]{2,}", text)
        if _as_a_name(text, t) and _plain(t[0]) not in ordinary and not _marked(text, t)
    ]
    found += re.findall(rf"[{_HAN}]{{2,4}}(?=醫師|醫生|主任|先生|小姐|女士)", text)
    found += re.findall(r"(?<![\d.])\d{5,}(?!\.?\d)", text)
    return list(dict.fromkeys(found))


def _marked(text: str, token: re.Match[str]) -> bool:
    return text[token.start() - 1 : token.start()] == "[" and text[token.end() : token.end() + 1] == "]"
