"""Every element of one DICOM file as lines of text, as somebody wants them who reads headers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.datadict import dictionary_description, dictionary_has_tag
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag

from . import charset
from .child import ChildFailed, children

DEEPEST = 16  # of sequences in sequences
LONGEST = 240  # characters of a value
MOST = 4000  # lines
DEFERRED = 1 << 16  # bytes: longer values stay on disk
WORDS_IN_BYTES = 64  # bytes of an unknown VR that are shown as the text that they are


@dataclass(frozen=True)
class TagLine:
    """One element. depth: of the sequences that it lies in, two a sequence (its items have lines of their
    own). tag: such as (0010,0020), empty for an item. value: as text, one line; bytes by their number."""

    depth: int
    tag: str
    name: str
    vr: str
    value: str


@dataclass(frozen=True)
class Tags:
    """lines: in the order of the file, its meta information first. left: how many there are beyond the
    most."""

    lines: tuple[TagLine, ...]
    left: int = 0


def tags_of(path: Path) -> Tags | str:
    """The elements of a file, or one clause that says why it has none. It is read in a child; pixels are
    not."""
    try:
        return children().run(_read, path)
    except ChildFailed as e:
        return str(e)


def _read(path: Path) -> Tags | str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ds = pydicom.dcmread(path, defer_size=DEFERRED)
            charset.obey(ds)
            every = [*_lines(ds.file_meta), *_lines(ds)]
        except (MemoryError, RecursionError):
            raise
        except Exception as e:  # a damaged file can break any part of the parser
            return f"cannot be read ({type(e).__name__}: {str(e)[:100]})"
    return Tags(tuple(every[:MOST]), max(0, len(every) - MOST))


def _lines(ds: Dataset, depth: int = 0) -> Iterator[TagLine]:
    for tag in sorted(ds.keys()):
        raw = ds.get_item(tag, keep_deferred=True)
        if isinstance(raw, RawDataElement) and raw.value is None and raw.length:
            yield TagLine(depth, _number(tag), _name(tag), str(raw.VR or ""), f"{raw.length} bytes")
            continue
        try:
            element = ds[tag]
            value = _value(element)
        except Exception as e:  # one element that breaks the parser hides no other
            yield TagLine(depth, _number(tag), _name(tag), "", f"cannot be read ({type(e).__name__})")
            continue
        yield TagLine(depth, _number(tag), element.name, element.VR, value)
        if element.VR == "SQ" and depth < 2 * DEEPEST:
            for n, item in enumerate(element.value or (), 1):
                yield TagLine(depth + 1, "", f"Item {n}", "", "")
                yield from _lines(item, depth + 2)


def _number(tag: BaseTag) -> str:
    return f"({tag.group:04X},{tag.element:04X})"


def _name(tag: BaseTag) -> str:
    return dictionary_description(tag) if dictionary_has_tag(tag) else "Unknown or private"


def _value(element: DataElement) -> str:
    value = element.value
    if element.VR == "SQ":
        return f"{len(value or ())} item(s)"
    if value is None:
        return ""
    if isinstance(value, bytes):
        return _of_bytes(value)
    several = value if isinstance(value, MultiValue | list | tuple) else [value]
    return _cut("\\".join(str(v) for v in several[:LONGEST]))


def _of_bytes(value: bytes) -> str:
    """Short bytes that are words as these, others by their number."""
    text = value.rstrip(b"\0 ")
    if text and len(text) <= WORDS_IN_BYTES and all(32 <= c < 127 for c in text):
        return text.decode("ascii")
    return f"{len(value)} bytes"


def _cut(text: str) -> str:
    """One line of what can be printed."""
    line = "".join(c if c.isprintable() else " " for c in text)
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}…"
