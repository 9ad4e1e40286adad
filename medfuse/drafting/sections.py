"""Free text of a report → its sections and sentences, in English and Traditional Chinese."""

from __future__ import annotations

import re

HEADINGS = {
    "indication": (
        "indication",
        "clinical indication",
        "clinical history",
        "clinical information",
        "history",
        "reason for exam",
        "reason for examination",
        "檢查原因",
        "臨床資訊",
        "病史",
    ),
    "technique": ("technique", "procedure", "protocol", "檢查方式", "檢查技術"),
    "comparison": ("comparison", "comparisons", "prior", "比較", "與先前檢查比較"),
    "findings": ("findings", "finding", "影像發現", "檢查所見", "所見"),
    "impression": (
        "impression",
        "impressions",
        "conclusion",
        "conclusions",
        "opinion",
        "診斷意見",
        "結論",
        "印象",
    ),
}
_BY_NAME = {name: section for section, names in HEADINGS.items() for name in names}
_NAMES = "|".join(sorted(map(re.escape, _BY_NAME), key=len, reverse=True))
# a heading stands at the start of the text, of a line or after a sentence, and ends with a colon; in lower
# case only at a line's start
_HEADING = re.compile(
    rf"(?:(?<=\n)|^|(?<=[.。!?:：]\s)|(?<=[。：]))[ \t]*(?P<name>{_NAMES})[ \t]*(?P<colon>[:：])",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\d+[.)]")
_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9\"(])|(?<=[。！？；])|\n+")


def parse_sections(text: str) -> dict[str, str]:
    """Section → text. What stands before the first heading is ``findings``, as reports without headings are
    mostly that.

    A word such as "Findings: " inside a sentence in lower case is not a heading.
    """
    out: dict[str, list[str]] = {}
    current = "findings"
    start = 0
    for m in _HEADING.finditer(text):
        name = m["name"]
        at_line = m.start() == 0 or text[: m.start()].rstrip(" \t").endswith("\n")
        if name.isascii() and name[0].islower() and not at_line:
            continue
        out.setdefault(current, []).append(text[start : m.start()].strip())
        current = _BY_NAME[name.lower()]
        start = m.end()
    out.setdefault(current, []).append(text[start:].strip())
    return {k: joined for k, parts in out.items() if (joined := "\n".join(p for p in parts if p))}


def split_sentences(text: str) -> list[str]:
    """Sentences in order; a decimal point ends none, numbers of a list fall away."""
    parts = (p.strip() for p in _END.split(text))
    return [p for p in parts if p and not _NUMBER.fullmatch(p)]
