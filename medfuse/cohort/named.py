"""Patterns of names, such as ``scans/{patient}_{point}.mp4``: what a file name or a cell says of its image.

No regular expressions: text must stand there as it is written, a field in braces takes the least that lets
the rest fit, never a slash, and matching takes time in proportion to the name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

LONGEST = 400  # characters of a pattern
MOST = 12  # fields in one
ANY = "any"  # a field whose text says nothing
_FIELD = re.compile(r"[a-z][a-z0-9_]{0,30}")


@dataclass(frozen=True)
class _Field:
    name: str


_Part = str | _Field


@dataclass(frozen=True)
class NamePattern:
    """``text``: as it was written. A pattern of paths that ends in a slash names folders."""

    text: str
    segments: tuple[tuple[_Part, ...], ...]

    @classmethod
    def of(cls, text: str) -> NamePattern:
        """Raises ValueError that says what is wrong with it."""
        if not text.strip("/ ") or len(text) > LONGEST:
            raise ValueError(f"pattern {text[:40]!r} is empty or longer than {LONGEST} characters")
        if text.startswith("/") or "\\" in text:
            raise ValueError(f"pattern {text!r}: write it relative to the folder, with / between folders")
        names = text.removesuffix("/").split("/")
        if any(n in ("", ".", "..") for n in names):
            raise ValueError(f"pattern {text!r}: '.', '..' and empty names lead nowhere; leave them out")
        made = cls(text, tuple(tuple(_parts(text, n)) for n in names))
        if len(made.fields) > MOST:
            raise ValueError(f"pattern {text!r} has {len(made.fields)} fields, {MOST} are read")
        return made

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of its fields, each once; `ANY` left out."""
        every = (p.name for s in self.segments for p in s if isinstance(p, _Field) and p.name != ANY)
        return tuple(dict.fromkeys(every))

    @property
    def of_folder(self) -> bool:
        """Whether it names folders."""
        return self.text.endswith("/")

    def match(self, text: str) -> dict[str, str] | None:
        """Text of each field, or None where the pattern does not fit. A field that stands twice is the same
        text twice."""
        names = text.split("/")
        if len(names) != len(self.segments):
            return None
        found: dict[str, str] = {}
        for parts, name in zip(self.segments, names, strict=True):
            if not _fits(_known(parts, found), name, found):
                return None
        found.pop(ANY, None)
        return found

    def filled(self, fields: Mapping[str, str]) -> str:
        """The pattern with the text of its fields in their places. Raises KeyError for one that is not
        known."""
        out = ["".join(p if isinstance(p, str) else fields[p.name] for p in s) for s in self.segments]
        return "/".join(out)


def _parts(text: str, name: str) -> list[_Part]:
    out: list[_Part] = []
    for n, piece in enumerate(re.split(r"[{}]", name)):
        inside = n % 2 == 1
        if inside and not _FIELD.fullmatch(piece):
            raise ValueError(f"pattern {text!r}: {{{piece}}} is no field; write small letters, digits and _")
        if inside and out and isinstance(out[-1], _Field):
            raise ValueError(f"pattern {text!r}: nothing parts {{{out[-1].name}}} from {{{piece}}}")
        if piece:
            out.append(_Field(piece) if inside else piece)
    opened = re.sub(r"[^{}]", "", name)
    if opened != "{}" * (len(opened) // 2):
        raise ValueError(f"pattern {text!r}: a brace is not closed, or one stands in another")
    return out


def _known(parts: tuple[_Part, ...], found: Mapping[str, str]) -> list[_Part]:
    """The parts with what earlier folders have said in place of its fields, texts that touch joined."""
    out: list[_Part] = []
    for part in parts:
        now: _Part = part
        if isinstance(part, _Field) and part.name in found and part.name != ANY:
            now = found[part.name]
        last = out[-1] if out else None
        if isinstance(now, str) and isinstance(last, str):
            out[-1] = last + now
        else:
            out.append(now)
    return out


def _fits(parts: list[_Part], name: str, found: dict[str, str]) -> bool:
    """Whether a name has these parts, and fill in what its fields say. Text between two fields is taken at
    its first place and the last text at the end, which finds a way wherever there is one."""
    at = 0
    field = ""
    for n, part in enumerate(parts):
        if isinstance(part, _Field):
            field = part.name
            continue
        start = at
        if field:
            start = len(name) - len(part) if n == len(parts) - 1 else name.find(part, at + 1)
        if start < at + bool(field) or not name.startswith(part, start):
            return False
        if field and not _say(found, field, name[at:start]):
            return False
        at = start + len(part)
        field = ""
    if field:
        return at < len(name) and _say(found, field, name[at:])
    return at == len(name)


def _say(found: dict[str, str], field: str, text: str) -> bool:
    """Note what a field says; False where it said something else before."""
    if field == ANY:
        return True
    return found.setdefault(field, text) == text
