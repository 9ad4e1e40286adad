"""Thousands of headers quickly: gdcm's scanner takes the INDEX attributes, in children, and pydicom what gdcm cannot."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from pydicom.datadict import tag_for_keyword

from .child import ChildFailed, children
from .headers import INDEX, FileEntry, classify, looks_like_dicom, read_header

CHUNK = 64  # files a call: enough to hide the call, few enough that a crash is soon pinned to its file


@cache
def _tags() -> dict[str, Any]:
    import gdcm

    gdcm.Trace.WarningOff()
    gdcm.Trace.ErrorOff()
    out = {}
    for key in (*INDEX, "MediaStorageSOPClassUID"):
        number = tag_for_keyword(key)
        assert number is not None
        out[key] = gdcm.Tag(number >> 16, number & 0xFFFF)
    return out


def index_chunk(paths: list[str]) -> list[FileEntry]:
    """Entries of these files, without headers. Runs in a child."""
    import gdcm

    found: dict[str, FileEntry] = {}
    scannable = []
    for path in paths:
        try:
            if looks_like_dicom(path):
                scannable.append(path)
                continue
        except OSError:
            pass  # read_header says why
        found[path] = read_header(Path(path))
    scanner = gdcm.Scanner()
    tags = _tags()
    for tag in tags.values():
        scanner.AddTag(tag)
    scanner.Scan(gdcm.FilenamesType(scannable))
    for path in scannable:
        values = {}
        if scanner.IsKey(path):
            for key, tag in tags.items():
                value = scanner.GetValue(path, tag)
                if value:
                    values[key] = value.strip(" \0")
        meta = values.pop("MediaStorageSOPClassUID", "")
        values.setdefault("SOPClassUID", meta)
        entry = classify(Path(path), values)
        # gdcm is stricter in places and knows no character sets: the second reader has the last word
        foreign = not all(v.isascii() for v in values.values())
        found[path] = index_one(path) if foreign or entry.status == "damaged" else entry
    return [found[p] for p in paths]


def index_one(path: str) -> FileEntry:
    """One file by pydicom alone. Runs in a child."""
    entry = read_header(Path(path))
    entry.header = None
    return entry


def _chunk(paths: list[str]) -> list[FileEntry]:
    pool = children()
    try:
        return pool.run(index_chunk, paths)
    except ChildFailed:
        pass  # one of them broke the child: each is asked again, alone
    out = []
    for path in paths:
        try:
            out.append(pool.run(index_one, path))
        except ChildFailed as e:
            out.append(FileEntry(Path(path), "damaged", str(e)))
    return out


def index(files: list[Path]) -> Iterator[FileEntry]:
    """One entry a file, in order. Never raises for bad content."""
    chunks = [[str(p) for p in files[i : i + CHUNK]] for i in range(0, len(files), CHUNK)]
    for part in children().each(_chunk, chunks):
        yield from part
