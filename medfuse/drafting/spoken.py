"""Spoken words → written text: spoken punctuation, numbers and units, in English and Chinese."""

from __future__ import annotations

import re

MARKS = {
    "full stop": ".",
    "comma": ",",
    "semicolon": ";",
    "colon": ":",
    "question mark": "?",
    "new line": "\n",
    "next line": "\n",
    "new paragraph": "\n",
}
MARKS_ZH = {
    "句號": "。",
    "逗號": "，",
    "冒號": "：",
    "分號": "；",
    "問號": "？",
    "換行": "\n",
    "下一行": "\n",
}
UNITS = {
    r"millimet(?:er|re)s?|mils?": "mm",
    r"centimet(?:er|re)s?": "cm",
    r"millilit(?:er|re)s?": "ml",
    r"percent|per cent": "%",
    r"hounsfield units?": "HU",
}
UNITS_ZH = {"毫米": "mm", "公釐": "mm", "公分": "cm", "毫升": "ml"}
# "period" as a word: "over a period of", "the period"
_PERIOD = re.compile(r"(?<!\ba)(?<!\bthe)(?<!\bthis)\s+period\b(?!\s+of\b)", re.IGNORECASE)
ONES = {
    w: n
    for n, w in enumerate(
        [
            "zero",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
            "seventeen",
            "eighteen",
            "nineteen",
        ]
    )
}
TENS = {
    w: 10 * n
    for n, w in enumerate(["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], 2)
}
_WORD = "|".join(sorted([*ONES, *TENS, "hundred"], key=len, reverse=True))
_RUN = rf"(?:\d+(?:\.\d+)?|(?:{_WORD})(?:(?:[ -]|\s+and\s+)(?:{_WORD}))*(?:\s+point(?:\s+(?:{_WORD}))+)?)"
_UNIT = "|".join(UNITS)
_MEASURED = re.compile(
    rf"\b({_RUN})((?:\s+(?:by|times|x)\s+{_RUN})*)\s*[- ]?\s*\b({_UNIT}|mm|cm|ml|hu)(?!\w)", re.IGNORECASE
)
_NUMBERED = re.compile(rf"\b(segments?|slice|image|series|grade|stage)\s+({_RUN})\b", re.IGNORECASE)
_DIGITS = {c: n for n, c in enumerate("零一二三四五六七八九")} | {"兩": 2, "〇": 0}
_RUN_ZH = "[零〇一二三四五六七八九兩十百]+(?:點[零〇一二三四五六七八九]+)?"
_MEASURED_ZH = re.compile(
    rf"(\d+(?:\.\d+)?|{_RUN_ZH})((?:\s*(?:乘|乘以|x|×)\s*(?:\d+(?:\.\d+)?|{_RUN_ZH}))*)\s*({'|'.join(UNITS_ZH)})"
)
_SCRATCH = re.compile(r"[^.。\n]*[.。]?\s*\b(?:scratch|delete) that\b[.,]?\s*", re.IGNORECASE)
_SCRATCH_ZH = re.compile(r"[^。\n]*。?\s*刪除上一句[。，]?")
_HEADINGS = re.compile(
    r"(?:(?<=[.\n])|^)\s*(findings|impression|conclusion|technique|indication|comparison)\b"
    r"\s*[:.,]?\s+(?!(?:is|are|was|were|of|in|on)\b)",
    re.IGNORECASE,
)


def written(words: str) -> str:
    """What a speech recogniser heard, as a radiologist would have typed it: marks for their names, digits for
    numbers before a unit, "scratch that" takes the sentence before it away, sentences begin with a
    capital."""
    text = re.sub(r"[ \t]+", " ", words).strip()
    for said, mark in MARKS_ZH.items():
        text = re.sub(rf"\s*[，。]?\s*{said}\s*[，。]?\s*", mark, text)
    for said, mark in MARKS.items():
        text = re.sub(rf"\s*,?\s*\b{said}\b[.,]?", mark, text, flags=re.IGNORECASE)
    text = _PERIOD.sub(".", text)
    text = _MEASURED.sub(_measure, text)
    text = re.sub(r"\bminus (?=\d)", "-", text, flags=re.IGNORECASE)
    text = _NUMBERED.sub(lambda m: f"{m[1]} {number(m[2])}", text)
    text = _MEASURED_ZH.sub(_measure_zh, text)
    text = re.sub(r"([.?])\.+", r"\1", text)
    for pattern in (_SCRATCH, _SCRATCH_ZH):
        while pattern.search(text):
            text = pattern.sub("", text, count=1)
    text = _HEADINGS.sub(lambda m: f"\n{m[1].capitalize()}: ", text)
    text = re.sub(r"[ \t]*\n[ \t]*", "\n", text).strip()
    text = re.sub(r"([.?:]\s+|\n|^)([a-z])", lambda m: m[1] + m[2].upper(), text)
    if text and text[-1] not in ".。?？!":
        text += "。" if re.search(r"[\u4e00-\u9fff]$", text) else "."
    return text


def measured(text: str) -> str:
    """Numbers in words before a unit as digits: 三公分 3 cm, "five centimetres" 5 cm; all else as it was."""
    return _MEASURED_ZH.sub(_measure_zh, _MEASURED.sub(_measure, text))


def number(words: str) -> str:
    """Digits of a spoken number: "thirty two" 32, "one hundred and five" 105, "one point five" 1.5."""
    if words[0].isdigit():
        return words
    whole, _, fraction = re.sub(r"[- ]+", " ", words.lower()).partition(" point ")
    total = 0
    for w in whole.split():
        total = max(total, 1) * 100 if w == "hundred" else total + ONES.get(w, TENS.get(w, 0))
    digits = "".join(str(ONES[w]) for w in fraction.split() if w in ONES)
    return f"{total}.{digits}" if digits else str(total)


def number_zh(words: str) -> str:
    """Digits of a spoken Chinese number: 三十二 32, 一百零五 105, 一點五 1.5."""
    if words[0].isdigit():
        return words
    whole, _, fraction = words.partition("點")
    total = 0
    digit = 0
    for c in whole:
        if c in "十百":
            total += max(digit, 1) * (10 if c == "十" else 100)
            digit = 0
        else:
            digit = _DIGITS[c]
    total += digit
    after = "".join(str(_DIGITS[c]) for c in fraction)
    return f"{total}.{after}" if after else str(total)


def _measure(m: re.Match) -> str:
    more = [number(x) for x in re.split(r"\s+(?:by|times|x)\s+", m[2], flags=re.IGNORECASE) if x.strip()]
    unit = next((u for said, u in UNITS.items() if re.fullmatch(said, m[3], re.IGNORECASE)), m[3])
    values = " x ".join([number(m[1]), *more])
    return f"{values}{unit}" if unit == "%" else f"{values} {unit}"


def _measure_zh(m: re.Match) -> str:
    more = [number_zh(x) for x in re.split(r"\s*(?:乘以|乘|x|×)\s*", m[2]) if x.strip()]
    return f" {' x '.join([number_zh(m[1]), *more])} {UNITS_ZH[m[3]]} "
